//! Single values: who this daemon is, and what it must remember about itself.

use agentbot_wire::Code;
use rusqlite::{Connection, OptionalExtension};

use super::error::RESTORE;
use crate::error::{Error, Result};

const DAEMON_ID: &str = "daemon_id";

/// The value of a key, if it has one.
///
/// # Errors
/// The store failed.
pub fn get(conn: &Connection, key: &str) -> Result<Option<String>> {
    let mut find = conn.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
    Ok(find.query_row([key], |row| row.get(0)).optional()?)
}

/// Gives a key its value, in place of any other.
///
/// # Errors
/// The store failed.
pub fn set(conn: &Connection, key: &str, value: &str) -> Result<()> {
    conn.prepare_cached(
        "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )?
    .execute([key, value])?;
    Ok(())
}

/// Who this daemon is to the engine: 32 hex digits, as old as the database.
///
/// # Errors
/// The database has none, which no database of ours does.
pub fn daemon_id(conn: &Connection) -> Result<String> {
    get(conn, DAEMON_ID)?
        .filter(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .ok_or_else(|| Error::new(Code::Internal, "the database does not say whose it is").hint(RESTORE))
}

pub(super) fn make_daemon_id(conn: &Connection) -> Result<()> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(Error::internal)?;
    set(conn, DAEMON_ID, &hex::encode(id))
}
