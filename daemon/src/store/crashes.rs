//! Table `crashes`, and what an exit changes of its instance.

use agentbot_wire::InstanceId;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::instances::Instance;
use super::ms;
use crate::error::Result;

/// Accounts for an exit. `crash` carries cause, last lines and when the next start is due; an exit that somebody asked
/// for has none. It also serves a restart that waited for the agent to be down. The exit is known from then on and counted;
/// the pause before the next start is left alone where somebody asked for something since the reader looked.
///
/// # Errors
/// Storage errors.
pub fn note_exit(
    conn: &Connection,
    seen: &Instance,
    fingerprint: &str,
    crash: Option<&Crash>,
    now: Timestamp,
) -> Result<()> {
    conn.prepare_cached("UPDATE instances SET exit_seen = ?2, restart_done = ?3 WHERE id = ?1")?.execute((
        seen.id.as_str(),
        fingerprint,
        seen.restart.wanted,
    ))?;
    let Some(crash) = crash else { return Ok(()) };
    conn.prepare_cached(
        "UPDATE instances SET crashes = crashes + 1, last_crash = ?2,
             crash_streak = crash_streak + (revision = ?4),
             next_start_at = CASE WHEN revision = ?4 THEN ?3 ELSE next_start_at END
         WHERE id = ?1",
    )?
    .execute((seen.id.as_str(), &crash.cause, ms(crash.next_start_at), seen.revision))?;
    conn.prepare_cached(
        "INSERT INTO crashes (instance, tenant_id, at, cause, last_lines) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute((seen.id.as_str(), seen.tenant.as_str(), ms(now), &crash.cause, &crash.last_lines))?;
    // Only the last words of the newest are ever shown.
    conn.prepare_cached("UPDATE crashes SET last_lines = '' WHERE instance = ?1 AND rowid <> last_insert_rowid()")?
        .execute([seen.id.as_str()])?;
    // The newest hundred tell all there is to tell.
    conn.prepare_cached(
        "DELETE FROM crashes WHERE instance = ?1 AND rowid NOT IN
             (SELECT rowid FROM crashes WHERE instance = ?1 ORDER BY rowid DESC LIMIT 100)",
    )?
    .execute([seen.id.as_str()])?;
    Ok(())
}

/// An unasked end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crash {
    /// Exit code, signal, out of memory.
    pub cause: String,
    /// What it wrote last.
    pub last_lines: String,
    /// When it may start again.
    pub next_start_at: Timestamp,
}

/// What it wrote before it last ended unasked.
///
/// # Errors
/// Storage errors.
pub fn last_lines(conn: &Connection, id: &InstanceId) -> Result<Option<String>> {
    Ok(conn
        .prepare_cached("SELECT last_lines FROM crashes WHERE instance = ?1 ORDER BY rowid DESC LIMIT 1")?
        .query_row([id.as_str()], |row| row.get(0))
        .optional()?)
}

/// How often it ended unasked since `since`.
///
/// # Errors
/// Storage errors.
pub fn count_since(conn: &Connection, id: &InstanceId, since: Timestamp) -> Result<u32> {
    Ok(conn
        .prepare_cached("SELECT count(*) FROM crashes WHERE instance = ?1 AND at >= ?2")?
        .query_row((id.as_str(), ms(since)), |row| row.get(0))?)
}

/// Forgets earlier crashes: it was healthy for long enough.
///
/// # Errors
/// Storage errors.
pub fn forgive(conn: &Connection, id: &InstanceId) -> Result<()> {
    conn.prepare_cached("UPDATE instances SET crash_streak = 0, next_start_at = NULL WHERE id = ?1")?
        .execute([id.as_str()])?;
    Ok(())
}

/// Takes back crashes that turned out to be the engine's doing.
///
/// # Errors
/// Storage errors.
pub fn excuse_since(conn: &Connection, since: Timestamp) -> Result<()> {
    conn.prepare_cached(
        "UPDATE instances SET next_start_at = NULL,
             crashes = max(0, crashes - (SELECT count(*) FROM crashes c WHERE c.instance = id AND c.at >= ?1)),
             crash_streak = max(0, crash_streak - (SELECT count(*) FROM crashes c WHERE c.instance = id AND c.at >= ?1))
         WHERE id IN (SELECT instance FROM crashes WHERE at >= ?1)",
    )?
    .execute([ms(since)])?;
    conn.prepare_cached("DELETE FROM crashes WHERE at >= ?1")?.execute([ms(since)])?;
    Ok(())
}
