//! One WebSocket to the daemon: opened over its Unix socket, greeted, read frame by frame.

use std::path::Path;
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
            .max_message_size(Some(MAX_FRAME))
            .max_frame_size(Some(MAX_FRAME));
        let (socket, _) = client_async_with_config(request, stream, Some(config)).await.map_err(refused)?;
        let mut link = Self { socket, asked: 0, silence: GREETING, heard: Instant::now() };
        let hello = Connect { version: PROTOCOL_VERSION, client: Some(CLIENT.to_owned()) };
        let id = link.ask(method::CONNECT, &hello).await?;
        let connected: Connected = link.answer(&id).await?;
        link.silence = Duration::from_millis(connected.policy.beat_ms.max(1000)) * MISSED_BEATS;
        Ok(link)
    }

    /// Sends a request; its answer comes with the id that is returned.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn ask(&mut self, method: &str, params: &impl Serialize) -> Result<String, Failure> {
        self.asked += 1;
        let id = self.asked.to_string();
        let params = serde_json::to_value(params).map_err(|error| {
            Failure::new(Exit::Failed, "internal", format!("the request cannot be written: {error}"))
        })?;
        let text = Frame::request(&id, method, params).to_text();
        self.socket.send(Message::text(text)).await.map_err(|error| lost(&error))?;
        Ok(id)
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

    /// The next thing that comes. It may be dropped while it waits without losing anything.
    ///
    /// # Errors
    /// When the connection is gone, silent for too long, or what came is no frame.
    pub async fn next(&mut self) -> Result<Heard, Failure> {
        loop {
            let Ok(message) = timeout_at(self.heard + self.silence, self.socket.next()).await else {
                return Err(away("agentbotd says nothing any more"));
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
