//! An answer on its way through: bounded in time and length, looked at, and never held back beyond the end of a line.

use std::pin::Pin;
use std::time::Duration;

use agentbot_wire::Code;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;

use super::call::Call;
use super::key;
use super::sse::{Lines, Tee};
use crate::config::Models;
use crate::error::{Error, Result};
use crate::secret::Secret;

/// Time that a stream gets to end after it said that it is done: one that ends leaves a connection that can be used again.
const GOODBYE: Duration = Duration::from_millis(50);

/// The pieces of an answer. An error is the last of them.
pub type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// Bounds of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// When it has to have begun.
    pub(super) first: Instant,
    /// The longest time without a piece.
    pub(super) idle: Duration,
    /// When it has to be over.
    pub(super) end: Instant,
    /// The most bytes.
    pub(super) bytes: usize,
}

impl Bounds {
    /// Of a request that is made now.
    pub(super) fn begin(models: &Models) -> Self {
        let now = Instant::now();
        Self {
            first: now + models.first_byte_timeout,
            idle: models.idle_timeout,
            end: now + models.max_duration,
            bytes: usize::try_from(models.max_response.as_u64()).unwrap_or(usize::MAX),
        }
    }
}

/// What a server sends, within its bounds.
pub(super) struct Source {
    body: Pin<Box<dyn Stream<Item = std::result::Result<Bytes, Cut>> + Send>>,
    bounds: Bounds,
    provider: String,
    read: usize,
    begun: bool,
}

/// Why a body ended before its end, for the log.
pub(super) type Cut = Box<dyn std::error::Error + Send + Sync>;

impl Source {
    pub(super) fn new(
        provider: &str,
        bounds: Bounds,
        body: impl Stream<Item = std::result::Result<Bytes, Cut>> + Send + 'static,
    ) -> Self {
        Self { body: Box::pin(body), bounds, provider: provider.to_owned(), read: 0, begun: false }
    }

    fn failed(&self, code: Code, why: &str, hint: &str) -> Error {
        Error::new(code, format!("provider `{}` {why}", self.provider)).hint(hint)
    }

    /// The next piece.
    ///
    /// # Errors
    /// `model_failed` when it broke off or is too long, `timed_out`.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let Bounds { first, idle, end, bytes } = self.bounds;
        let next = if self.begun { Instant::now() + idle } else { first };
        let piece = match timeout_at(next.min(end), self.body.next()).await {
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(cut))) => {
                return Err(self.failed(Code::ModelFailed, "broke off its answer", "ask again").caused_by(cut));
            }
            Ok(None) => return Ok(None),
            Err(_) if next < end && self.begun => {
                let hint = "ask again; `models.idle_timeout` in the configuration sets how long it is waited for";
                return Err(self.failed(Code::TimedOut, "stopped in the middle of its answer", hint));
            }
            Err(_) if next < end => {
                let hint = "ask again; `models.first_byte_timeout` in the configuration sets how long it is waited for";
                return Err(self.failed(Code::TimedOut, "did not begin to answer in time", hint));
            }
            Err(_) => {
                let hint = "ask for less; `models.max_duration` in the configuration sets how long it may take";
                return Err(self.failed(Code::TimedOut, "did not end its answer in time", hint));
            }
        };
        self.begun = true;
        self.read = self.read.saturating_add(piece.len());
        if self.read > bytes {
            let hint = "ask for less; `models.max_response` in the configuration sets how long an answer may be";
            return Err(self.failed(Code::ModelFailed, &format!("answers with more than {bytes} bytes"), hint));
        }
        Ok(Some(piece))
    }

    /// All of it.
    ///
    /// # Errors
    /// As [`Source::next`].
    pub(super) async fn whole(&mut self) -> Result<BytesMut> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }
}

/// Pieces that wait for whoever asked, the place kept for an error among them.
const WAITING: usize = 2;

struct Relay {
    source: Source,
    key: Option<Secret<String>>,
    lines: Lines,
    tee: Tee,
    call: Call,
    over: bool,
}

/// Passes an event stream on, whole lines as they come. It ends with `[DONE]`, or with an error. Its bounds hold whether
/// somebody reads or not: a connection does not ask for the next piece before its own bytes are read.
pub(super) fn relay(source: Source, key: Option<Secret<String>>, call: Call, tasks: &TaskTracker) -> Pieces {
    let relay = Relay { source, key, lines: Lines::default(), tee: Tee::default(), call, over: false };
    let (pieces, passed) = mpsc::channel(WAITING);
    tasks.spawn(relay.run(pieces));
    Box::pin(stream::unfold(passed, |mut passed| async move { Some((passed.recv().await?, passed)) }))
}

impl Relay {
    async fn run(mut self, pieces: mpsc::Sender<Result<Bytes>>) {
        let Ok(last) = pieces.clone().try_reserve_owned() else { return };
        let outcome = tokio::select! {
            biased;
            // Whoever asked has gone.
            () = pieces.closed() => return,
            outcome = self.pass(&pieces) => outcome,
        };
        if let Err(error) = outcome {
            self.call.failed(error.code());
            // Its end is written down before anybody sees it.
            drop(self);
            last.send(Err(error));
            return;
        }
        let Self { mut source, call, tee, .. } = self;
        drop((call, last, pieces));
        if tee.done {
            // What comes after the end is nobody's; mostly nothing does.
            let _ = timeout(GOODBYE, source.next()).await;
        }
    }

    async fn pass(&mut self, pieces: &mpsc::Sender<Result<Bytes>>) -> Result<()> {
        while !self.over {
            let Some(piece) = self.next().await? else { break };
            let Bounds { idle, end, .. } = self.source.bounds;
            let room = timeout_at(end.min(Instant::now() + idle), pieces.reserve()).await.map_err(|_| {
                Error::new(Code::TimedOut, "the answer was not read in time").hint(
                    "read it as it comes; `models.idle_timeout` and `models.max_duration` in the configuration set how \
                     long it is kept",
                )
            })?;
            // Without a reader there is nobody to tell.
            let Ok(room) = room else { break };
            room.send(Ok(piece));
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let Some(piece) = self.source.next().await? else { return self.end() };
            let whole = self.lines.push(piece).map_err(|_| {
                self.source.failed(Code::ModelFailed, "sends a line without end", "look at what answers there")
            })?;
            if whole.is_empty() {
                continue;
            }
            let whole = self.look(whole);
            if !self.tee.done {
                return Ok(Some(whole));
            }
            self.over = true;
            self.settle();
            return Ok(Some(closed(whole)));
        }
    }

    fn look(&mut self, lines: Bytes) -> Bytes {
        self.tee.watch(&lines);
        self.call.usage = self.tee.usage;
        if self.tee.failed {
            // Errors quote keys in part.
            return key::redact(&String::from_utf8_lossy(&lines), self.key.as_ref()).into();
        }
        without(lines, self.key.as_ref())
    }

    fn settle(&mut self) {
        if self.tee.failed {
            self.call.failed(Code::ModelFailed);
        } else {
            self.call.answered();
        }
    }

    /// The server hung up. Some never say `[DONE]`, and some not even the last end of line.
    fn end(&mut self) -> Result<Option<Bytes>> {
        let rest = self.lines.rest();
        let rest = self.look(rest);
        if self.tee.done || self.tee.finished || self.tee.failed {
            self.over = true;
            self.settle();
            return Ok((!rest.is_empty()).then(|| closed(rest)));
        }
        Err(self.source.failed(Code::ModelFailed, "ended its answer in the middle", "ask again"))
    }
}

/// Ends the event that lines belong to.
fn closed(lines: Bytes) -> Bytes {
    let ends: &[u8] = match lines.as_ref() {
        [.., b'\n', b'\n'] | [.., b'\n', b'\r', b'\n'] => return lines,
        [.., b'\n'] => b"\n",
        _ => b"\n\n",
    };
    let mut all = BytesMut::from(lines.as_ref());
    all.extend_from_slice(ends);
    all.freeze()
}

/// An answer without the key, should the server say it.
pub(super) fn without(bytes: Bytes, key: Option<&Secret<String>>) -> Bytes {
    match key {
        Some(key) if key::shows(&bytes, key) => {
            let mut bytes = BytesMut::from(bytes);
            key::blot(&mut bytes, key);
            bytes.freeze()
        }
        _ => bytes,
    }
}

#[cfg(test)]
mod tests;
