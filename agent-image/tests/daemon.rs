//! The other side: a socket directory, a daemon of a few lines, and the agent as a child process.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use agentbot_wire::{AGENT_PROTOCOL, AgentPolicy, ApiError, Frame, Hello, MAX_FRAME, Welcome};
use futures_util::{SinkExt, StreamExt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue, Uri};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

/// Nothing here takes this long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub const NONCE: &str = "b1946ac92492d2347c6235b4d2611184";

/// A slot's socket directory.
pub struct Slot {
    directory: TempDir,
}

impl Slot {
    pub fn new() -> Self {
        let slot = Self { directory: tempfile::tempdir().unwrap() };
        slot.write_nonce(NONCE);
        slot
    }

    pub fn write_nonce(&self, nonce: &str) {
        std::fs::write(self.directory.path().join("nonce"), format!("{nonce}\n")).unwrap();
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("agentbot.sock")
    }

    /// Listens as the daemon does: under a temporary name, then renamed.
    pub fn listen(&self) -> UnixListener {
        let new = self.directory.path().join("agentbot.sock.new");
        let listener = UnixListener::bind(&new).unwrap();
        std::fs::rename(new, self.socket()).unwrap();
        listener
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agentbot-agent"));
        command.env("AGENTBOT_SOCKET", self.socket()).stdout(Stdio::piped()).kill_on_drop(true);
        command
    }

    pub fn start(&self) -> Agent {
        Agent::watch(self.command().spawn().unwrap())
    }
}

/// The agent.
pub struct Agent {
    child: Child,
    log: Lines<BufReader<ChildStdout>>,
    /// How many log lines the agent says that it dropped.
    pub dropped: u64,
}

impl Agent {
    pub fn watch(mut child: Child) -> Self {
        let log = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, log, dropped: 0 }
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().try_into().unwrap()), signal).unwrap();
    }

    pub async fn exit(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap()
    }

    /// The next log line whose message holds `words`; every line must be a whole one.
    pub async fn logged(&mut self, words: &str) -> String {
        let found = timeout(PATIENCE, async {
            loop {
                let line = self.log.next_line().await.unwrap().unwrap_or_else(|| panic!("no line says {words:?}"));
                let line: serde_json::Value = serde_json::from_str(&line).unwrap();
                assert!(line["time"].is_string() && line["level"].is_string(), "{line}");
                self.dropped += line["dropped"].as_u64().unwrap_or(0);
                let message = line["msg"].as_str().unwrap();
                if message.contains(words) {
                    return message.to_owned();
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("nothing says {words:?}"))
    }
}

/// What the agent sent with its upgrade.
pub struct Upgrade {
    pub path: Uri,
    pub headers: HeaderMap,
}

/// The daemon's end of one link.
pub struct Link {
    pub stream: WebSocketStream<UnixStream>,
    pub upgrade: Upgrade,
}

impl Link {
    /// Takes the next connection and upgrades it.
    pub async fn accept(listener: &UnixListener) -> Self {
        let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        Self::upgrade(stream).await
    }

    /// Upgrades a connection.
    pub async fn upgrade(stream: UnixStream) -> Self {
        let mut seen = None;
        #[allow(clippy::result_large_err)] // the callback's type is the library's
        let note = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
            seen = Some(Upgrade { path: request.uri().clone(), headers: request.headers().clone() });
            let protocol = HeaderValue::from_static(AGENT_PROTOCOL);
            response.headers_mut().insert("sec-websocket-protocol", protocol);
            Ok(response)
        };
        let stream = timeout(PATIENCE, accept_hdr_async(stream, note)).await.unwrap().unwrap();
        Self { stream, upgrade: seen.unwrap() }
    }

    /// Takes the next connection and refuses its upgrade.
    pub async fn forbid(listener: &UnixListener) {
        #[allow(clippy::result_large_err)] // the callback's type is the library's
        let refuse = |_: &Request, _: Response| -> Result<Response, ErrorResponse> {
            let mut response = ErrorResponse::new(None);
            *response.status_mut() = tokio_tungstenite::tungstenite::http::StatusCode::FORBIDDEN;
            Err(response)
        };
        let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        assert!(timeout(PATIENCE, accept_hdr_async(stream, refuse)).await.unwrap().is_err());
    }

    /// Takes the next connection up to its first beat.
    pub async fn greet(listener: &UnixListener, beat_ms: u64) -> Self {
        let mut link = Self::accept(listener).await;
        link.welcome(beat_ms).await;
        link.beat().await;
        link
    }

    pub async fn message(&mut self) -> Option<Message> {
        timeout(PATIENCE, self.stream.next()).await.unwrap()?.ok()
    }

    pub async fn frame(&mut self) -> Frame {
        match self.message().await {
            Some(Message::Text(text)) => Frame::parse(&text).unwrap(),
            other => panic!("no frame but {other:?}"),
        }
    }

    pub async fn hello(&mut self) -> (String, Hello) {
        match self.frame().await {
            Frame::Req { id, method, params } if method == "agent.hello" => {
                (id, serde_json::from_value(params).unwrap())
            }
            other => panic!("no hello but {other:?}"),
        }
    }

    pub async fn welcome(&mut self, beat_ms: u64) {
        let (id, _) = self.hello().await;
        let policy = AgentPolicy { max_frame: MAX_FRAME, beat_ms };
        let welcome = Welcome { protocol: 1, instance: None, name: None, model: None, config: json!({}), policy };
        self.send(&Frame::answer(&id, serde_json::to_value(welcome).unwrap())).await;
    }

    pub async fn refuse(&mut self, error: ApiError) {
        let (id, _) = self.hello().await;
        self.send(&Frame::refusal(&id, error)).await;
    }

    /// The next beat's uptime in milliseconds.
    pub async fn beat(&mut self) -> u64 {
        match self.frame().await {
            Frame::Event { event, payload, .. } if event == "agent.beat" => payload["uptime_ms"].as_u64().unwrap(),
            other => panic!("no beat but {other:?}"),
        }
    }

    /// The answer to a request, past the beats.
    pub async fn answer(&mut self) -> Frame {
        loop {
            match self.frame().await {
                Frame::Event { .. } => {}
                answer => return answer,
            }
        }
    }

    pub async fn send(&mut self, frame: &Frame) {
        self.stream.send(Message::text(frame.to_text())).await.unwrap();
    }

    pub async fn request(&mut self, id: &str, method: &str) -> Frame {
        self.send(&Frame::request(id, method, json!({}))).await;
        self.answer().await
    }
}
