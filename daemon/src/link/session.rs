//! One agent's connection, from hello to close.

use std::time::Duration;

use agentbot_wire::{ApiError, Code, Frame, Hello, SlotId, event, method};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use subtle::ConstantTimeEq;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Introduction, Joined, Links, welcome};
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

/// Close code: the first frame was no valid hello.
pub const CLOSE_REFUSED: u16 = 4001;
/// Close code: no hello in time.
pub const CLOSE_NO_HELLO: u16 = 4008;
/// Close code: a newer connection of the same agent took over, or the daemon ended this one.
pub const CLOSE_REPLACED: u16 = 4009;
/// Close code: a frame that is not of the protocol's shape.
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
    /// Anything the protocol has no use for, and why it is closed.
    Unfit(&'static str),
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

/// Serves one connection until either side ends it. The stream ends with the connection.
pub async fn run<S, E>(links: &Links, slot: &SlotId, nonce: &Secret<String>, introduction: &Introduction, mut socket: S)
where
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
    let payload = serde_json::to_value(welcome(introduction)).unwrap_or_default();
    let welcome = Outbound::Text(Frame::answer(&id, payload).to_text());
    if !matches!(timeout(SEND_TIMEOUT, socket.send(welcome)).await, Ok(Ok(()))) {
        return;
    }
    let joined = links.join(slot, hello, introduction.beat);
    if let Some(left_out) = links.may_log(slot, "connected") {
        tracing::info!(slot.id = %slot, left_out, "agent connected");
    }
    let number = joined.number;
    let (code, reason) = match talk(links, slot, joined, &mut socket).await {
        End::Gone => (None, "it closed"),
        End::Over => (Some(CLOSE_REPLACED), "replaced"),
        End::Slow => {
            links.count_slow();
            (Some(CLOSE_SLOW), "it does not read")
        }
        End::Unfit(why) => (Some(CLOSE_SHAPE), why),
    };
    links.leave(slot, number);
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
    Unfit(&'static str),
}

async fn talk<S, E>(links: &Links, slot: &SlotId, joined: Joined, socket: &mut S) -> End
where
    S: Stream<Item = Inbound> + Sink<Outbound, Error = E> + Unpin + Send,
{
    let Joined { number, queue, over } = joined;
    // An agent that neither reads nor goes must not keep this alive, so the end is heard in the middle of a send too.
    tokio::select! {
        biased;
        () = over.cancelled() => End::Over,
        end = converse(links, slot, number, queue, socket) => end,
    }
}

async fn converse<S, E>(
    links: &Links,
    slot: &SlotId,
    number: u64,
    mut queue: mpsc::Receiver<Outbound>,
    socket: &mut S,
) -> End
where
    S: Stream<Item = Inbound> + Sink<Outbound, Error = E> + Unpin + Send,
{
    loop {
        let outgoing = tokio::select! {
            outgoing = queue.recv() => match outgoing {
                Some(outgoing) => outgoing,
                None => return End::Over,
            },
            incoming = socket.next() => match incoming {
                None => return End::Gone,
                Some(Inbound::Unfit(why)) => return End::Unfit(why),
                Some(Inbound::Pong) => {
                    links.sign(slot, number, false);
                    continue;
                }
                Some(Inbound::Text(text)) => match heard(links, slot, number, &text) {
                    Ok(Some(answer)) => answer,
                    Ok(None) => continue,
                    Err(end) => return end,
                },
            },
        };
        match timeout(SEND_TIMEOUT, socket.send(outgoing)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return End::Gone,
            Err(_) => return End::Slow,
        }
    }
}

/// Takes one text frame; gives the answer if it asks for one.
fn heard(links: &Links, slot: &SlotId, number: u64, text: &str) -> Result<Option<Outbound>, End> {
    match Frame::parse(text) {
        Err(_) => Err(End::Unfit("not a frame")),
        Ok(Frame::Event { event, .. }) => {
            links.sign(slot, number, event == event::BEAT);
            Ok(None)
        }
        // Nothing is asked of agents yet that they could answer.
        Ok(Frame::Res { .. }) => {
            links.sign(slot, number, false);
            Ok(None)
        }
        Ok(Frame::Req { id, method, .. }) => {
            links.sign(slot, number, false);
            Ok(Some(Outbound::Text(Frame::refusal(&id, unknown(&method)).to_text())))
        }
    }
}

async fn close<S, E>(socket: &mut S, code: u16, reason: &'static str)
where
    S: Sink<Outbound, Error = E> + Unpin,
{
    let _ = timeout(CLOSE_TIMEOUT, socket.send(Outbound::Close(code, reason))).await;
}

fn unknown(method: &str) -> ApiError {
    let method: String = method.chars().take(MAX_WORD).collect();
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
    if hello.protocol != 1 {
        return Err(refuse(Code::Unsupported, "protocol: this daemon speaks version 1"));
    }
    let fits = |text: &str| text.len() <= MAX_WORD && !text.chars().any(char::is_control);
    let words = [&hello.runtime, &hello.version];
    if !words.into_iter().chain(&hello.capabilities).all(|word| fits(word))
        || hello.capabilities.len() > MAX_CAPABILITIES
    {
        return Err(refuse(Code::TooLarge, "runtime, version or capabilities over their limits"));
    }
    if !bool::from(hello.nonce.as_bytes().ct_eq(nonce.expose().as_bytes())) {
        return Err(refuse(Code::Unauthenticated, "wrong nonce"));
    }
    Ok((id, hello))
}

#[cfg(test)]
mod tests;
