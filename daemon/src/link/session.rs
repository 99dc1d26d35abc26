//! One agent's connection, from hello to close.

use std::time::Duration;

use agentbot_wire::{ApiError, Code, Frame, Hello, SlotId, event, method};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use serde_json::Value;
use subtle::ConstantTimeEq;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::pace::Pace;
use super::{Ears, Introduction, Joined, Links, Speaker, welcome};
use crate::secret::Secret;

/// Time for the first frame.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the agent to take one frame.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the agent to take the last frame; it is closed with or without it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest text of the agent's that is said back to it, in characters.
const MAX_ECHO: usize = 200;
/// The longest text of a field in hello.
const MAX_WORD: usize = 64;
/// The most capabilities.
const MAX_CAPABILITIES: usize = 32;
/// Requests of one agent that are worked on at once; further ones are refused as `busy`.
pub const MAX_REQUESTS: usize = 16;
/// Frames that are written together.
const BATCH: usize = 64;

/// Close code: the first frame was no valid hello.
pub const CLOSE_REFUSED: u16 = 4001;
/// Close code: no hello in time.
pub const CLOSE_NO_HELLO: u16 = 4008;
/// Close code: a newer connection of the same agent took over, or the daemon ended this one.
pub const CLOSE_REPLACED: u16 = 4009;
/// Close code of RFC 6455: a message that is not UTF-8, or not a frame of the protocol's shape.
pub const CLOSE_SHAPE: u16 = 1007;
/// Close code: the agent reads too slowly.
pub const CLOSE_SLOW: u16 = 4013;

/// What comes from the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// A text frame.
    Text(String),
    /// The answer to a ping, or another sign of life without content.
    Pong,
    /// Anything the protocol has no use for: the close code it leads to, and why.
    Unfit(u16, &'static str),
}

/// What goes to the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outbound {
    /// A text frame.
    Text(String),
    /// A ping.
    Ping,
    /// The end, with code and reason.
    Close(u16, &'static str),
}

/// Serves one connection until either side ends it. The stream ends with the connection. What an agent with an instance
/// says goes to `ears`.
pub async fn run<S, E>(
    links: &Links,
    ears: &dyn Ears,
    slot: &SlotId,
    nonce: &Secret<String>,
    introduction: &Introduction,
    mut socket: S,
) where
    S: Stream<Item = Inbound> + Sink<Outbound, Error = E> + Unpin + Send,
{
    let first = match timeout(HELLO_TIMEOUT, socket.next()).await {
        Ok(Some(first)) => first,
        Ok(None) => return,
        Err(_) => return close(&mut socket, CLOSE_NO_HELLO, "no hello in time").await,
    };
    let (id, hello) = match read_hello(&first, nonce) {
        Ok(read) => read,
        Err(refusal) => {
            links.count_refusal();
            if let Some(left_out) = links.may_log(slot, "refused") {
                tracing::warn!(slot.id = %slot, reason = refusal.reason, left_out, "agent refused");
            }
            if let Some(id) = refusal.id {
                let answer = Outbound::Text(Frame::refusal(&id, refusal.error).to_text());
                let _ = timeout(CLOSE_TIMEOUT, socket.send(answer)).await;
            }
            return close(&mut socket, CLOSE_REFUSED, "hello refused").await;
        }
    };
    let payload = serde_json::to_value(welcome(introduction, &hello)).unwrap_or_default();
    let welcome = Outbound::Text(Frame::answer(&id, payload).to_text());
    if !matches!(timeout(SEND_TIMEOUT, socket.send(welcome)).await, Ok(Ok(()))) {
        return;
    }
    let boot = hello.boot.clone();
    let joined = links.join(slot, hello, introduction.beat);
    if let Some(left_out) = links.may_log(slot, "connected") {
        tracing::info!(slot.id = %slot, left_out, "agent connected");
    }
    let number = joined.number;
    let speaker = introduction.instance.clone().map(|instance| Speaker {
        slot: slot.clone(),
        instance,
        boot,
        connection: number,
    });
    let line = Line { links, slot, number, ears: speaker.as_ref().map(|speaker| (ears, speaker)) };
    if let Some((ears, speaker)) = line.ears {
        ears.joined(speaker);
    }
    let (code, reason) = match talk(&line, joined, &mut socket).await {
        End::Gone => (None, "it closed"),
        End::Over => (Some(CLOSE_REPLACED), "replaced"),
        End::Slow => {
            links.count_slow();
            (Some(CLOSE_SLOW), "it does not read")
        }
        End::Unfit(code, why) => (Some(code), why),
    };
    links.leave(slot, number);
    if let Some((ears, speaker)) = line.ears {
        ears.left(speaker);
    }
    if let Some(code) = code {
        close(&mut socket, code, reason).await;
    }
    if let Some(left_out) = links.may_log(slot, "gone") {
        tracing::info!(slot.id = %slot, reason, left_out, "agent gone");
    }
}

/// Why a conversation ended.
enum End {
    /// The agent went, or its socket broke.
    Gone,
    /// A newer connection took over, or the daemon ended this one.
    Over,
    /// The agent did not take a frame in time.
    Slow,
    /// The agent sent what the protocol has no use for.
    Unfit(u16, &'static str),
}

/// One connection, and who hears it.
#[derive(Clone, Copy)]
struct Line<'a> {
    links: &'a Links,
    slot: &'a SlotId,
    number: u64,
    ears: Option<(&'a dyn Ears, &'a Speaker)>,
}

/// Requests of the agent that are worked on; each ends as the answer to send.
type Working<'a> = FuturesUnordered<BoxFuture<'a, Outbound>>;

async fn talk<S, E>(line: &Line<'_>, joined: Joined, socket: &mut S) -> End
where
    S: Stream<Item = Inbound> + Sink<Outbound, Error = E> + Unpin + Send,
{
    let Joined { queue, over, .. } = joined;
    // An agent that neither reads nor goes must not keep this alive, so the end is heard in the middle of a send too.
    tokio::select! {
        biased;
        () = over.cancelled() => End::Over,
        end = converse(line, queue, socket) => end,
    }
}

async fn converse<S, E>(line: &Line<'_>, mut queue: mpsc::Receiver<Outbound>, socket: &mut S) -> End
where
    S: Stream<Item = Inbound> + Sink<Outbound, Error = E> + Unpin + Send,
{
    let (mut working, pace) = (Working::new(), Pace::new());
    let mut pause: Option<Instant> = None;
    loop {
        let outgoing = tokio::select! {
            outgoing = queue.recv() => match outgoing {
                Some(outgoing) => outgoing,
                None => return End::Over,
            },
            Some(answer) = working.next() => answer,
            () = sleep_until(pause.unwrap_or_else(Instant::now)), if pause.is_some() => {
                pause = None;
                continue;
            }
            incoming = socket.next(), if pause.is_none() => match incoming {
                None => return End::Gone,
                Some(Inbound::Unfit(code, why)) => return End::Unfit(code, why),
                Some(Inbound::Pong) => {
                    line.links.sign(line.slot, line.number, false);
                    continue;
                }
                Some(Inbound::Text(text)) => {
                    pause = pace.count(text.len()).map(|pause| Instant::now() + pause);
                    match line.heard(&text, &working) {
                        Ok(Heard::Nothing) => continue,
                        Ok(Heard::Work(work)) => {
                            working.push(work);
                            continue;
                        }
                        Ok(Heard::Answer(answer)) => answer,
                        Err(end) => return end,
                    }
                }
            },
        };
        // What waits already goes out in the same write.
        let written = async {
            socket.feed(outgoing).await?;
            for _ in 1..BATCH {
                match queue.try_recv() {
                    Ok(more) => socket.feed(more).await?,
                    Err(_) => break,
                }
            }
            socket.flush().await
        };
        match timeout(SEND_TIMEOUT, written).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => {
                // It may have said that it goes while this was written: reading on has that answered.
                let _ = timeout(CLOSE_TIMEOUT, async { while socket.next().await.is_some() {} }).await;
                return End::Gone;
            }
            Err(_) => return End::Slow,
        }
    }
}

/// What a frame asks of the session.
enum Heard<'a> {
    Nothing,
    Answer(Outbound),
    Work(BoxFuture<'a, Outbound>),
}

impl<'a> Line<'a> {
    /// Takes one text frame.
    fn heard(&self, text: &str, working: &Working<'_>) -> Result<Heard<'a>, End> {
        let frame = Frame::parse(text).map_err(|_| End::Unfit(CLOSE_SHAPE, "not a frame"))?;
        let beat = matches!(&frame, Frame::Event { event, .. } if event == event::BEAT);
        self.links.sign(self.slot, self.number, beat);
        match frame {
            Frame::Event { event, payload, .. } => {
                if let Some((ears, speaker)) = self.ears.filter(|_| !beat) {
                    ears.event(speaker, &event, payload);
                }
                Ok(Heard::Nothing)
            }
            Frame::Res { id, ok, payload, error } => {
                let reply = if ok { Ok(payload.unwrap_or_default()) } else { Err(error.unwrap_or_else(no_reason)) };
                self.links.answered(self.slot, self.number, &id, reply);
                Ok(Heard::Nothing)
            }
            Frame::Req { id, .. } if working.len() >= MAX_REQUESTS => Ok(Heard::Answer(refusal(&id, busy()))),
            Frame::Req { id, method, params } => Ok(match self.ears {
                Some((ears, speaker)) => Heard::Work(work(ears, speaker, id, method, params).boxed()),
                None => Heard::Answer(refusal(&id, unknown(&method))),
            }),
        }
    }
}

async fn work(ears: &dyn Ears, speaker: &Speaker, id: String, method: String, params: Value) -> Outbound {
    match ears.request(speaker, &method, params).await {
        Ok(payload) => Outbound::Text(Frame::answer(&id, payload).to_text()),
        Err(error) => {
            if error.code() == Code::Internal {
                tracing::error!(slot.id = %speaker.slot, %error, "an agent's request failed");
            }
            refusal(&id, error.to_api())
        }
    }
}

fn refusal(id: &str, error: ApiError) -> Outbound {
    Outbound::Text(Frame::refusal(id, error).to_text())
}

fn busy() -> ApiError {
    ApiError {
        code: Code::Busy,
        message: format!("{MAX_REQUESTS} requests of this agent are worked on"),
        hint: Some("wait for an answer before the next request".to_owned()),
    }
}

fn no_reason() -> ApiError {
    ApiError { code: Code::Internal, message: "the agent gave no reason".to_owned(), hint: None }
}

async fn close<S, E>(socket: &mut S, code: u16, reason: &'static str)
where
    S: Sink<Outbound, Error = E> + Unpin,
{
    let _ = timeout(CLOSE_TIMEOUT, socket.send(Outbound::Close(code, reason))).await;
}

/// The refusal of a method that nobody knows.
#[must_use]
pub fn unknown(method: &str) -> ApiError {
    let method: String = method.chars().filter(|c| !c.is_control()).take(MAX_WORD).collect();
    ApiError {
        code: Code::Unsupported,
        message: format!("no method `{method}`"),
        hint: Some("the agent protocol is described in docs/API.md".to_owned()),
    }
}

struct Refusal {
    id: Option<String>,
    /// For the log: nothing in it comes from the agent.
    reason: &'static str,
    /// For the agent.
    error: ApiError,
}

impl Refusal {
    fn new(id: Option<&str>, code: Code, reason: &'static str) -> Self {
        let error = ApiError { code, message: reason.to_owned(), hint: None };
        Self { id: id.map(str::to_owned), reason, error }
    }

    fn said(mut self, why: &str) -> Self {
        self.error.message = why.chars().take(MAX_ECHO).collect();
        self
    }
}

fn read_hello(first: &Inbound, nonce: &Secret<String>) -> Result<(String, Hello), Refusal> {
    let Inbound::Text(text) = first else {
        return Err(Refusal::new(None, Code::Invalid, "the first frame is not a text frame"));
    };
    let Ok(Frame::Req { id, method, params }) = Frame::parse(text) else {
        return Err(Refusal::new(None, Code::Invalid, "the first frame is not a request"));
    };
    let refuse = |code, reason| Refusal::new(Some(&id), code, reason);
    if method != method::HELLO {
        return Err(refuse(Code::Invalid, "the first request is not agent.hello"));
    }
    let hello: Hello = serde_json::from_value(params)
        .map_err(|error| refuse(Code::Invalid, "the params of hello are not of its shape").said(&error.to_string()))?;
    if hello.protocol == 0 {
        return Err(refuse(Code::Unsupported, "protocol: this daemon speaks version 1"));
    }
    let fits = |text: &str| text.len() <= MAX_WORD && !text.chars().any(char::is_control);
    let words = [&hello.runtime, &hello.version];
    if !words.into_iter().chain(&hello.capabilities).chain(&hello.boot).all(|word| fits(word))
        || hello.capabilities.len() > MAX_CAPABILITIES
    {
        return Err(refuse(Code::TooLarge, "runtime, version, boot or capabilities over their limits"));
    }
    if !bool::from(hello.nonce.as_bytes().ct_eq(nonce.expose().as_bytes())) {
        return Err(refuse(Code::Unauthenticated, "wrong nonce"));
    }
    Ok((id, hello))
}

#[cfg(test)]
mod tests;
