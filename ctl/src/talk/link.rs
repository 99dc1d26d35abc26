//! One WebSocket to the daemon: opened over its Unix socket, greeted, read frame by frame.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::path::Path;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use agentbot_wire::{CHAT_PROTOCOL, Connect, Connected, Frame, MAX_FRAME, PROTOCOL_VERSION, method};
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::client::{bad_shape, not_connected};
use crate::exit::{Exit, Failure, UNREACHABLE};

const READ_BUFFER: usize = 4 * 1024;
/// What may wait to be written: a frame behind another, and answers to pings.
const WRITE_BUFFER: usize = 2 * MAX_FRAME;
/// How long the daemon may read nothing of what it is sent.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// How long the socket may take from its first byte to the answer of `connect`.
const GREETING: Duration = Duration::from_secs(5);
/// So many beats of the daemon may be missing before it counts as away.
const MISSED_BEATS: u32 = 4;
const CLIENT: &str = concat!("agentbotctl/", env!("CARGO_PKG_VERSION"));

/// What came in.
#[derive(Debug)]
pub enum Heard {
    /// The answer to the request of that id.
    Answer(String, Result<Value, Failure>),
    /// An event with its place in a stored sequence.
    Event(String, Option<u64>, Value),
}

/// An open connection.
#[derive(Debug)]
pub struct Link {
    socket: WebSocketStream<UnixStream>,
    asked: u64,
    /// What is not written yet, and since when something is not.
    outbox: VecDeque<Message>,
    unsent: Option<Instant>,
    silence: Duration,
    heard: Instant,
}

impl Link {
    /// Opens a connection and greets.
    ///
    /// # Errors
    /// When nobody listens, or who listens does not speak the protocol.
    pub async fn open(path: &Path) -> Result<Self, Failure> {
        match timeout(GREETING, Self::greet(path)).await {
            Ok(done) => done,
            Err(_) => Err(away("agentbotd does not answer")),
        }
    }

    async fn greet(path: &Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(path).await.map_err(|error| not_connected(path, &error))?;
        let mut request =
            "ws://agentbot/api/chat/ws".into_client_request().map_err(|error| bad_shape(&error.to_string()))?;
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(CHAT_PROTOCOL));
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .max_write_buffer_size(WRITE_BUFFER)
            .max_message_size(Some(MAX_FRAME))
            .max_frame_size(Some(MAX_FRAME));
        let (socket, _) = client_async_with_config(request, stream, Some(config)).await.map_err(refused)?;
        let mut link = Self::over(socket);
        let hello = Connect { version: PROTOCOL_VERSION, client: Some(CLIENT.to_owned()) };
        let id = link.ask(method::CONNECT, &hello)?;
        let connected: Connected = link.answer(&id).await?;
        link.silence = Duration::from_millis(connected.policy.beat_ms.max(1000)) * MISSED_BEATS;
        Ok(link)
    }

    fn over(socket: WebSocketStream<UnixStream>) -> Self {
        let (outbox, heard) = (VecDeque::new(), Instant::now());
        Self { socket, asked: 0, outbox, unsent: None, silence: GREETING, heard }
    }

    /// Takes a request; [`Self::next`] writes it, and brings its answer with the id that is returned.
    ///
    /// # Errors
    /// When it is longer than a frame may be.
    pub fn ask(&mut self, method: &str, params: &impl Serialize) -> Result<String, Failure> {
        let id = (self.asked + 1).to_string();
        let params = serde_json::to_value(params).map_err(|error| {
            Failure::new(Exit::Failed, "internal", format!("the request cannot be written: {error}"))
        })?;
        let text = Frame::request(&id, method, params).to_text();
        if text.len() > MAX_FRAME {
            let most = MAX_FRAME / 1024;
            let message = format!("a request has at most {most} KiB, this one has {} bytes", text.len());
            return Err(Failure::new(Exit::Usage, "too_large", message).hint("shorten it, or send it in parts"));
        }
        self.asked += 1;
        self.outbox.push_back(Message::text(text));
        self.unsent.get_or_insert_with(Instant::now);
        Ok(id)
    }

    /// Writes what can be written, and gives what has come.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Message, WsError>>> {
        match self.poll_write(context) {
            Poll::Ready(Ok(())) => self.unsent = None,
            Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
            Poll::Pending => {}
        }
        self.socket.poll_next_unpin(context)
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        while !self.outbox.is_empty() {
            ready!(self.socket.poll_ready_unpin(context))?;
            if let Some(message) = self.outbox.pop_front() {
                self.socket.start_send_unpin(message)?;
            }
        }
        self.socket.poll_flush_unpin(context)
    }

    /// Waits for the answer to one request; nothing else is meant to come before it.
    async fn answer<T: DeserializeOwned>(&mut self, id: &str) -> Result<T, Failure> {
        loop {
            if let Heard::Answer(of, answer) = self.next().await?
                && of == id
            {
                return serde_json::from_value(answer?).map_err(|error| bad_shape(&error.to_string()));
            }
        }
    }

    /// The next thing that comes; meanwhile what was asked is written. It may be dropped while it waits without losing
    /// anything.
    ///
    /// # Errors
    /// When the connection is gone, silent or deaf for too long, or what came is no frame.
    pub async fn next(&mut self) -> Result<Heard, Failure> {
        loop {
            let silent = self.heard + self.silence;
            let deaf = self.unsent.map(|since| since + SEND_LIMIT).filter(|deaf| *deaf < silent);
            let Ok(message) = timeout_at(deaf.unwrap_or(silent), poll_fn(|context| self.poll(context))).await else {
                match (deaf, self.unsent) {
                    (Some(_), Some(_)) => return Err(away("agentbotd reads nothing any more")),
                    // It was written in the meantime.
                    (Some(_), None) => continue,
                    (None, _) => return Err(away("agentbotd says nothing any more")),
                }
            };
            self.heard = Instant::now();
            let text = match message {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(_))) | None => return Err(away("agentbotd closed the connection")),
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Err(lost(&error)),
            };
            match Frame::parse(&text).map_err(|error| bad_shape(&error.to_string()))? {
                Frame::Res { id, ok: true, payload, .. } => {
                    return Ok(Heard::Answer(id, Ok(payload.unwrap_or(Value::Null))));
                }
                Frame::Res { id, error, .. } => {
                    let failure = error.map_or_else(|| bad_shape("a refusal without an error"), Failure::from);
                    return Ok(Heard::Answer(id, Err(failure)));
                }
                Frame::Event { event, seq, payload } => return Ok(Heard::Event(event, seq, payload)),
                // The daemon asks clients nothing in this version.
                Frame::Req { .. } => {}
            }
        }
    }
}

fn away(message: &str) -> Failure {
    Failure::new(Exit::Unreachable, UNREACHABLE, message)
        .hint("it may be restarting: try again, and look at `journalctl -u agentbotd`")
}

fn lost(error: &WsError) -> Failure {
    match error {
        WsError::Capacity(_) | WsError::Protocol(_) | WsError::Utf8(_) => bad_shape(&error.to_string()),
        _ => away("agentbotd closed the connection"),
    }
}

/// Why the upgrade did not happen.
fn refused(error: WsError) -> Failure {
    match error {
        WsError::Http(response) => {
            let body = response.body().as_deref().unwrap_or_default();
            crate::api::refusal(response.status().as_u16(), body)
        }
        WsError::Io(_) => away("agentbotd closed the connection"),
        other => bad_shape(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures_util::FutureExt as _;
    use tokio_tungstenite::tungstenite::protocol::Role;

    async fn over(stream: UnixStream, role: Role) -> WebSocketStream<UnixStream> {
        WebSocketStream::from_raw_socket(stream, role, None).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_reads_nothing_is_given_up_after_a_while() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut link = Link::over(over(ours, Role::Client).await);
        link.silence = SEND_LIMIT * 10;
        let began = Instant::now();
        for _ in 0..4 {
            link.ask("x", &"y".repeat(MAX_FRAME / 2)).unwrap();
        }
        let failure = link.next().await.unwrap_err();
        assert_eq!(failure.message, "agentbotd reads nothing any more");
        assert!((SEND_LIMIT..SEND_LIMIT * 2).contains(&began.elapsed()), "{:?}", began.elapsed());
        drop(theirs);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_in_time_is_no_reason_to_give_up() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut link = Link::over(over(ours, Role::Client).await);
        link.silence = SEND_LIMIT * 3;
        link.ask("x", &"y").unwrap();
        let began = Instant::now();
        assert_eq!(link.next().await.unwrap_err().message, "agentbotd says nothing any more");
        assert!(began.elapsed() >= link.silence);
        drop(theirs);
    }

    #[tokio::test]
    async fn a_wait_that_is_dropped_loses_nothing_of_what_was_asked() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut link, mut daemon) = (Link::over(over(ours, Role::Client).await), over(theirs, Role::Server).await);
        let asked: Vec<_> = (0..5).map(|_| link.ask("x", &"y".repeat(MAX_FRAME / 2)).unwrap()).collect();
        for id in asked {
            // Each look is dropped where it would wait, with a frame half written.
            let text = loop {
                assert!(link.next().now_or_never().is_none());
                if let Some(message) = daemon.next().now_or_never() {
                    break message.unwrap().unwrap().into_text().unwrap();
                }
                tokio::task::yield_now().await;
            };
            assert!(matches!(Frame::parse(&text).unwrap(), Frame::Req { id: of, .. } if of == id));
        }
    }

    #[tokio::test]
    async fn a_request_over_a_frame_is_refused_and_one_that_fits_is_taken() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut link = Link::over(over(ours, Role::Client).await);
        let around = Frame::request("1", "x", Value::from("")).to_text().len();
        let failure = link.ask("x", &"y".repeat(MAX_FRAME - around + 1)).unwrap_err();
        assert_eq!((failure.exit, failure.code.as_str()), (Exit::Usage, "too_large"));
        assert_eq!(link.ask("x", &"y".repeat(MAX_FRAME - around)).unwrap(), "1");
    }
}
