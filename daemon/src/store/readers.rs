//! Connections that can only read, lent one at a time.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agentbot_wire::Code;
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connection::{self, Deadline};
use super::writer::guarded;
use crate::error::{Error, Result};

/// How long one waits for a connection before the answer is `busy`.
const WAIT: Duration = Duration::from_secs(5);

struct Reader {
    conn: Connection,
    deadline: Deadline,
}

/// A fixed number of reading connections.
pub(super) struct Readers {
    free: Mutex<Vec<Reader>>,
    permits: Arc<Semaphore>,
    limit: Duration,
}

impl Readers {
    /// Opens them. `busy` bounds the wait for a lock of SQLite, `limit` the work of one borrower.
    pub(super) fn open(path: &Path, count: usize, busy: Duration, limit: Duration) -> Result<Arc<Self>> {
        let count = count.max(1);
        let mut free = Vec::with_capacity(count);
        for _ in 0..count {
            let mut conn = connection::reader(path, busy)?;
            let deadline = Deadline::on(&mut conn)?;
            free.push(Reader { conn, deadline });
        }
        Ok(Arc::new(Self { free: Mutex::new(free), permits: Arc::new(Semaphore::new(count)), limit }))
    }

    /// Waits for a free connection.
    pub(super) async fn lend(self: &Arc<Self>) -> Result<Loan> {
        let permit = tokio::time::timeout(WAIT, Arc::clone(&self.permits).acquire_owned())
            .await
            .map_err(|_| Error::new(Code::Busy, "too many reads of the database at once").hint("try again shortly"))?
            .map_err(Error::internal)?;
        let reader = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Ok(Loan { pool: Arc::clone(self), reader, _permit: permit })
    }
}

/// A borrowed connection; it goes back when this is dropped, before the permit does.
pub(super) struct Loan {
    pool: Arc<Readers>,
    reader: Option<Reader>,
    _permit: OwnedSemaphorePermit,
}

impl Loan {
    /// Reads: everything `work` sees is of one moment.
    pub(super) fn run<T>(self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let Some(Reader { conn, deadline }) = &self.reader else {
            return Err(Error::internal("a permit without a connection"));
        };
        conn.prepare_cached("BEGIN")?.execute([])?;
        deadline.start(self.pool.limit);
        let outcome = guarded(|| work(conn));
        deadline.lift();
        if !conn.is_autocommit() {
            conn.prepare_cached("ROLLBACK")?.execute([])?;
        }
        outcome
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            self.pool.free.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_more_than_there_are_waits_and_then_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
        let readers = Readers::open(&path, 2, WAIT, WAIT).unwrap();
        let (first, second) = (readers.lend().await.unwrap(), readers.lend().await.unwrap());
        assert_eq!(readers.lend().await.err().map(|error| error.code()), Some(Code::Busy));
        drop(first);
        readers.lend().await.unwrap().run(|conn| Ok(conn.execute_batch("SELECT a FROM t")?)).unwrap();
        drop(second);
        assert_eq!(readers.free.lock().unwrap().len(), 2);
    }
}
