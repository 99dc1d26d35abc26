//! One connection, set up: the same settings wherever the database is opened.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::error::Result;

/// Marks a file as ours: "AgBt".
pub(super) const APPLICATION_ID: i32 = 0x4167_4274;

/// Statements a connection keeps prepared.
const STATEMENTS: usize = 128;
/// How many steps of its virtual machine SQLite takes between two looks at the clock: some 20 us.
const STEPS_PER_LOOK: i32 = 2000;

/// The writing connection, in the journal mode that the file has.
pub(super) fn writer(path: &Path, busy: Duration) -> Result<Connection> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    prepare(&conn, busy)?;
    conn.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; PRAGMA mmap_size = 0;
         PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8000; PRAGMA journal_size_limit = 67108864;",
    )?;
    Ok(conn)
}

/// A connection that can only read.
pub(super) fn reader(path: &Path, busy: Duration) -> Result<Connection> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    prepare(&conn, busy)?;
    conn.execute_batch(
        "PRAGMA query_only = ON; PRAGMA trusted_schema = OFF; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -2000;",
    )?;
    Ok(conn)
}

fn prepare(conn: &Connection, busy: Duration) -> Result<()> {
    conn.busy_timeout(busy)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    // Without it SQLite looks at the values bound to a statement and prepares it anew for each: half of a short read.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Ends what runs on one connection when its time is over.
pub(super) struct Deadline {
    base: Instant,
    /// Milliseconds after `base`; `u64::MAX` while nothing is limited.
    at: Arc<AtomicU64>,
}

impl Deadline {
    /// Watches over a connection.
    pub(super) fn on(conn: &mut Connection) -> Result<Self> {
        let base = Instant::now();
        let at = Arc::new(AtomicU64::new(u64::MAX));
        let watched = Arc::clone(&at);
        conn.progress_handler(STEPS_PER_LOOK, Some(move || elapsed(base) >= watched.load(Ordering::Relaxed)))?;
        Ok(Self { base, at })
    }

    /// Lets the connection work for so long from now.
    pub(super) fn start(&self, limit: Duration) {
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.at.store(elapsed(self.base).saturating_add(limit), Ordering::Relaxed);
    }

    /// Lifts the limit.
    pub(super) fn lift(&self) {
        self.at.store(u64::MAX, Ordering::Relaxed);
    }
}

fn elapsed(base: Instant) -> u64 {
    u64::try_from(base.elapsed().as_millis()).unwrap_or(u64::MAX)
}
