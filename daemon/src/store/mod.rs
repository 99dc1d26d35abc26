//! The database: one SQLite file, one writer, several readers.
//!
//! What [`Store::write`] acknowledged is on the disk; what it refused is nowhere. Tables live in one file each, as
//! functions that take a connection, so several of them join one request.

mod column;
mod connection;
mod desired;
mod error;
mod file;
mod migrate;
mod readers;
mod rows;
mod writer;

pub mod conversations;
pub mod crashes;
pub mod dirs;
pub mod events;
pub mod idempotency;
pub mod images;
pub mod instances;
pub mod memory;
pub mod messages;
pub mod meta;
pub mod model_calls;
pub mod operations;
pub mod slots;
pub mod summaries;
pub mod turns;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use agentbot_wire::Code;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Result};
use readers::Readers;
use writer::{Message, Pending, Writer};

pub use column::{damaged, ms, now, parsed, time};
pub use desired::{Desired, Owed, Wish};
pub(crate) use error::file_error;
pub use error::unique_violation;
pub use migrate::Migrated;
pub use rusqlite::Connection;
pub use slots::Slot;

/// How the store uses its file.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// Requests that may wait for the writer; one more is refused as `busy`.
    pub queue: usize,
    /// Requests of one commit at most.
    pub batch: usize,
    /// Connections for short reads.
    pub readers: usize,
    /// Connections for scans.
    pub scanners: usize,
    /// How long a lock of another process is waited for.
    pub busy_timeout: Duration,
    /// How long one request may keep the writer.
    pub write_limit: Duration,
    /// How long a short read may take; it occupies a worker of the runtime.
    pub read_limit: Duration,
    /// How long a scan may take; while it reads, the log cannot be shortened.
    pub scan_limit: Duration,
    /// Copies from before migrations to keep.
    pub copies: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            queue: 1024,
            batch: 256,
            readers: 4,
            scanners: 2,
            busy_timeout: Duration::from_secs(5),
            write_limit: Duration::from_secs(10),
            read_limit: Duration::from_secs(1),
            scan_limit: Duration::from_secs(30),
            copies: 3,
        }
    }
}

/// An opened store and what opening it did.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// There was no database before: this one is new and empty.
    pub fresh: bool,
    /// The migration of an older database, with the copy made before it.
    pub migrated: Option<Migrated>,
    /// Who we are to the engine: 32 hex digits, made with the database.
    pub daemon_id: String,
}

/// A handle on the database; clones share it. When the last one goes, the writer ends in order.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    queue: mpsc::Sender<Message>,
    readers: Arc<Readers>,
    scanners: Arc<Readers>,
    thread: Mutex<Option<JoinHandle<()>>>,
    commits: Arc<AtomicU64>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("queue_free", &self.shared.queue.capacity()).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database, makes it if there is none, migrates it if it is older. Blocks: it belongs before the
    /// runtime starts, or on the blocking pool. Two daemons on one file are kept apart by the lock of the state
    /// directory, not here.
    ///
    /// # Errors
    /// The file is not ours, damaged, empty or of a newer version (it is left as it was), or cannot be made; SQLite is
    /// too old. Each with a hint.
    pub fn open(path: &Path, options: StoreOptions) -> Result<Opened> {
        file::check_version(rusqlite::version_number())?;
        let StoreOptions { queue, batch, readers, scanners, busy_timeout, .. } = options;
        let (conn, fresh, migrated) = file::open(path, &migrate::runner(), busy_timeout, options.copies)?;
        let daemon_id = meta::daemon_id(&conn)?;
        // A short read runs on a worker of the runtime: rather `busy` than a worker that waits for a lock.
        let short = busy_timeout.min(Duration::from_millis(250));
        let readers = Readers::open(path, readers, short, options.read_limit)?;
        let scanners = Readers::open(path, scanners, busy_timeout, options.scan_limit)?;
        let commits = Arc::new(AtomicU64::new(0));
        let writer = Writer::new(conn, options.write_limit, batch, Arc::clone(&commits))?;
        let (queue, messages) = mpsc::channel(queue.max(1));
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.serve(messages))
            .map_err(Error::internal)?;
        let store =
            Self { shared: Arc::new(Shared { queue, readers, scanners, thread: Mutex::new(Some(thread)), commits }) };
        Ok(Opened { store, fresh, migrated, daemon_id })
    }

    /// Runs a request on the writer and answers when it is on the disk. All of it happens or nothing: an error or a
    /// panic undoes it alone. Requests of one caller run in their order. Once this was polled, dropping the future
    /// loses the answer, never the request.
    ///
    /// # Errors
    /// The request's own; `busy` when the queue is full; `storage_full` and other failures of the disk, after which
    /// nothing is changed; `shutting_down` after [`Store::close`].
    pub async fn write<T: Send + 'static>(
        &self,
        request: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.write_then(request, |_| ()).await
    }

    /// As [`Store::write`], and `publish` is called with the result after the commit and before the answer. Publications
    /// come in the order of the changes that they tell of. They run on the writer's thread, so they must be quick and
    /// must not wait.
    ///
    /// # Errors
    /// As [`Store::write`]; then nothing was published.
    pub async fn write_then<T: Send + 'static>(
        &self,
        request: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
        publish: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T> {
        let (pending, answer) = Pending::new(request, publish);
        self.shared.queue.try_send(Message::Write(Box::new(pending))).map_err(|refused| match refused {
            TrySendError::Full(_) => Error::new(Code::Busy, "too many changes wait for the disk")
                .hint("nothing was changed; try again shortly"),
            TrySendError::Closed(_) => closed(),
        })?;
        answer.await.map_err(|_| closed())?
    }

    /// A short read through an index, done at once on the calling worker. What `read` sees is of one moment and holds
    /// everything acknowledged before the call.
    ///
    /// # Errors
    /// The read's own; `busy` when no connection becomes free; `timed_out` when it takes longer than a short read may.
    pub async fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.shared.readers.lend().await?.run(read)
    }

    /// How many commits there were. What was read while it stood still stands still too: a count taken before a read tells
    /// how long the read is good for.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.shared.commits.load(Ordering::Acquire)
    }

    /// A read that may take its time, done beside the runtime, with connections of its own. Otherwise as
    /// [`Store::read`].
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn scan<T: Send + 'static>(
        &self,
        scan: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let loan = self.shared.scanners.lend().await?;
        tokio::task::spawn_blocking(move || loan.run(scan)).await.map_err(Error::internal)?
    }

    /// Ends in order: takes no more requests, does those that wait, tidies up, joins the thread. Later writes are
    /// refused, reads still work. Closing twice is no error.
    ///
    /// # Errors
    /// What waited is done all the same; only the tidying failed.
    pub async fn close(&self) -> Result<()> {
        let (reply, ended) = oneshot::channel();
        let outcome = match self.shared.queue.send(Message::Close(reply)).await {
            Ok(()) => ended.await.unwrap_or_else(|_| Err(closed())),
            Err(_) => Ok(()),
        };
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await.map_err(Error::internal)?;
            joined.map_err(|_| Error::internal("the store's writer panicked"))?;
        }
        outcome
    }
}

fn closed() -> Error {
    Error::new(Code::ShuttingDown, "the store is closed").hint("the daemon is ending; try again when it is up")
}
