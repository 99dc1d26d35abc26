//! Table `images`: what this daemon loaded into the engine, and may therefore remove.

use jiff::Timestamp;
use rusqlite::Connection;

use super::ms;
use crate::error::Result;

/// Records that an image was loaded.
///
/// # Errors
/// Storage errors.
pub fn record(conn: &Connection, id: &str, reference: &str, now: Timestamp) -> Result<()> {
    conn.prepare_cached(
        "INSERT INTO images (id, reference, loaded_at) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO NOTHING",
    )?
    .execute((id, reference, ms(now)))?;
    Ok(())
}

/// Images that were loaded, are not `current` and serve no slot.
///
/// # Errors
/// Storage errors.
pub fn superseded(conn: &Connection, current: &str) -> Result<Vec<String>> {
    let mut statement = conn.prepare_cached(
        "SELECT id FROM images
         WHERE id <> ?1 AND id NOT IN (SELECT image_id FROM slots WHERE image_id IS NOT NULL) ORDER BY loaded_at",
    )?;
    Ok(statement.query_map([current], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

/// Forgets an image that was removed.
///
/// # Errors
/// Storage errors.
pub fn forget(conn: &Connection, id: &str) -> Result<()> {
    conn.prepare_cached("DELETE FROM images WHERE id = ?1")?.execute([id])?;
    Ok(())
}
