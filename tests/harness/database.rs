//! The database, read past the daemon.

use rusqlite::{Connection, OpenFlags};

use super::daemon::Daemon;

impl Daemon {
    /// One number from the database, such as a count of rows.
    ///
    /// # Panics
    /// When the query is none.
    #[must_use]
    pub fn count(&self, sql: &str) -> u64 {
        let path = self.home().state().join("agentbot.db");
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the database");
        db.query_row(sql, [], |row| row.get::<_, u64>(0)).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}
