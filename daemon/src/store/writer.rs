//! The one writer: a thread with a bounded queue and group commit.
//!
//! A batch is what queued while the last one was committed, so an idle store commits one request at once and a busy
//! one spreads the cost of a sync over many. Each request runs in its own savepoint and hears its result only after
//! the commit.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use agentbot_wire::{ApiError, Code};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::connection::Deadline;
use crate::error::{Error, Result};

/// What the queue carries.
pub(super) enum Message {
    Write(Box<dyn Request>),
    Close(oneshot::Sender<Result<()>>),
}

/// A request whose result type is forgotten.
pub(super) trait Request: Send {
    /// Runs it and keeps the outcome; never unwinds. An error is told by its code.
    fn run(&mut self, conn: &Connection) -> Result<(), Code>;
    /// Tells the caller: the kept outcome, or why a change that seemed done is not there.
    fn answer(self: Box<Self>, undone: Option<&Undone>);
}

/// A request and the one who waits for it. That one may be gone; the request counts all the same.
pub(super) struct Pending<F, P, T> {
    work: Option<F>,
    publish: P,
    outcome: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<F, P, T> Pending<F, P, T> {
    pub(super) fn new(work: F, publish: P) -> (Self, oneshot::Receiver<Result<T>>) {
        let (reply, answer) = oneshot::channel();
        (Self { work: Some(work), publish, outcome: None, reply }, answer)
    }
}

impl<F, P, T> Request for Pending<F, P, T>
where
    F: FnOnce(&Connection) -> Result<T> + Send,
    P: FnOnce(&T) + Send,
    T: Send,
{
    fn run(&mut self, conn: &Connection) -> Result<(), Code> {
        let Some(work) = self.work.take() else { return Err(Code::Internal) };
        let outcome = guarded(|| work(conn));
        let told = outcome.as_ref().map(|_| ()).map_err(Error::code);
        self.outcome = Some(outcome);
        told
    }

    fn answer(self: Box<Self>, undone: Option<&Undone>) {
        let publish = self.publish;
        let outcome = match (self.outcome, undone) {
            (Some(Err(error)), _) => Err(error),
            (Some(Ok(value)), None) => {
                // What is on the disk stays there, whatever becomes of telling it.
                if let Err(error) = guarded(|| {
                    publish(&value);
                    Ok(())
                }) {
                    tracing::error!(%error, "a change was committed and not published");
                }
                Ok(value)
            }
            (_, Some(undone)) => Err(undone.to_error()),
            (None, None) => Err(Error::internal("a request was answered before it ran")),
        };
        // A caller that went away has its change and misses the answer.
        let _ = self.reply.send(outcome);
    }
}

/// Runs work on a connection; a panic becomes an error.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let words = words.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(Error::internal(words.unwrap_or_else(|| "a panic without words".to_owned())))
    })
}

/// Why a transaction left nothing behind.
pub(super) struct Undone {
    public: ApiError,
    cause: String,
}

impl Undone {
    fn by(error: rusqlite::Error) -> Self {
        let cause = error.to_string();
        Self { public: Error::from(error).to_api(), cause }
    }

    /// Another request took the transaction down with it.
    fn with_neighbour(code: Option<Code>) -> Self {
        let (code, message, hint) = match code {
            Some(Code::StorageFull) => (Code::StorageFull, "the disk is full", "free space, then try again"),
            _ => (Code::Internal, "the change was undone together with another one that failed", "try again"),
        };
        let hint = Some(format!("nothing was changed; {hint}"));
        Self {
            public: ApiError { code, message: message.to_owned(), hint },
            cause: "transaction rolled back".to_owned(),
        }
    }

    fn to_error(&self) -> Error {
        Error::from(self.public.clone()).caused_by(self.cause.clone())
    }
}

/// The writing connection with the marks that its hooks keep.
pub(super) struct Writer {
    conn: Connection,
    /// A request is running: no commit but ours may happen.
    inside: Arc<AtomicBool>,
    /// The transaction was rolled back, by whomever.
    ended: Arc<AtomicBool>,
    deadline: Deadline,
    limit: Duration,
    batch: usize,
    commits: Arc<AtomicU64>,
}

impl Writer {
    /// Takes the connection over. `limit` bounds each request, `batch` the requests of one commit; `commits` counts them.
    pub(super) fn new(mut conn: Connection, limit: Duration, batch: usize, commits: Arc<AtomicU64>) -> Result<Self> {
        let inside = Arc::new(AtomicBool::new(false));
        let ended = Arc::new(AtomicBool::new(false));
        let veto = Arc::clone(&inside);
        let mark = Arc::clone(&ended);
        conn.commit_hook(Some(move || veto.load(Ordering::Relaxed)))?;
        conn.rollback_hook(Some(move || mark.store(true, Ordering::Relaxed)))?;
        let deadline = Deadline::on(&mut conn)?;
        Ok(Self { conn, inside, ended, deadline, limit, batch: batch.max(1), commits })
    }

    /// Serves until told to close, or until every handle is gone.
    pub(super) fn serve(self, mut queue: mpsc::Receiver<Message>) {
        let mut closing = Vec::new();
        while let Some(first) = queue.blocking_recv() {
            let mut batch = VecDeque::new();
            let mut next = Some(first);
            while let Some(message) = next.take() {
                match message {
                    Message::Write(request) => batch.push_back(request),
                    Message::Close(reply) => {
                        queue.close();
                        closing.push(reply);
                    }
                }
                if batch.len() < self.batch {
                    next = queue.try_recv().ok();
                }
            }
            self.commit(batch);
        }
        let ended = self.finish();
        if let Err(error) = &ended {
            tracing::warn!(%error, "the store closed without tidying up; the next start does it");
        }
        for reply in closing {
            // Whoever asked for the end may not wait for it.
            let _ = reply.send(match &ended {
                Ok(()) => Ok(()),
                Err(error) => Err(Error::from(error.to_api())),
            });
        }
    }

    /// Commits a batch, in more than one transaction if one breaks off, and answers every request of it.
    fn commit(&self, mut waiting: VecDeque<Box<dyn Request>>) {
        while !waiting.is_empty() {
            let mut ran = Vec::with_capacity(waiting.len());
            let ended = self.transaction(&mut waiting, &mut ran);
            if let Err(undone) = &ended {
                tracing::warn!(cause = undone.cause, requests = ran.len(), "a transaction was undone");
            }
            for request in ran {
                request.answer(ended.as_ref().err());
            }
        }
    }

    /// Moves what it handled from `waiting` to `ran`, at least one request.
    fn transaction(
        &self,
        waiting: &mut VecDeque<Box<dyn Request>>,
        ran: &mut Vec<Box<dyn Request>>,
    ) -> Result<(), Undone> {
        if let Err(error) = self.conn.execute_batch("BEGIN IMMEDIATE") {
            ran.extend(waiting.drain(..));
            return Err(Undone::by(error));
        }
        self.ended.store(false, Ordering::Relaxed);
        while let Some(mut request) = waiting.pop_front() {
            let step = self.savepoint(request.as_mut());
            ran.push(request);
            step?;
        }
        let committed = self.conn.execute_batch("COMMIT");
        // After the commit and before any answer: whoever saw an answer finds the count moved.
        self.commits.fetch_add(1, Ordering::Release);
        committed.map_err(|error| {
            let undone = self.abandon(error);
            self.bury();
            undone
        })
    }

    /// Runs one request; an error means that the transaction is gone.
    fn savepoint(&self, request: &mut dyn Request) -> Result<(), Undone> {
        self.step("SAVEPOINT request")?;
        self.inside.store(true, Ordering::Relaxed);
        self.deadline.start(self.limit);
        let told = request.run(&self.conn);
        self.deadline.lift();
        self.inside.store(false, Ordering::Relaxed);
        if self.ended.load(Ordering::Relaxed) || self.conn.is_autocommit() {
            self.roll_back();
            return Err(Undone::with_neighbour(told.err()));
        }
        if told.is_err() {
            self.step("ROLLBACK TO request")?;
        }
        self.step("RELEASE request")
    }

    /// A statement that every request needs, kept prepared.
    fn step(&self, sql: &str) -> Result<(), Undone> {
        let done = self.conn.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
        done.map(drop).map_err(|error| self.abandon(error))
    }

    fn abandon(&self, error: rusqlite::Error) -> Undone {
        self.roll_back();
        Undone::by(error)
    }

    fn roll_back(&self) {
        if !self.conn.is_autocommit()
            && let Err(error) = self.conn.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
    }

    /// A commit whose sync failed has left its pages in the log, where a crash could bring them back. A small commit
    /// over the same place makes that impossible. It must change something: SQLite does not write what is the same.
    fn bury(&self) {
        let count = "INSERT INTO meta (key, value) VALUES ('failed_commits', '1')
                     ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + 1";
        if let Err(error) = self.conn.execute_batch(count) {
            tracing::warn!(%error, "a failed commit could not be written over");
        }
    }

    fn finish(self) -> Result<()> {
        if let Err(error) = self.conn.execute_batch("PRAGMA optimize") {
            tracing::warn!(%error, "the statistics for queries stay as they are");
        }
        self.conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
        self.conn.close().map_err(|(_, error)| error.into())
    }
}
