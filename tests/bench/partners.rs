//! Who is talked to in the chat rows, each a process of its own: a bare WebSocket echo, and an agent that answers at once.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agentbot_tests::{Home, Seat, eventually};
use agentbot_wire::{AGENT_PROTOCOL, Beat, Frame, Hello, TurnDelta, TurnDone, TurnId, TurnRun, event, method};
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// The argument that makes this program the bare echo.
pub const ECHO: &str = "ws-echo";
/// The argument that makes this program an agent, in its socket directory.
pub const AGENT: &str = "echo-agent";
/// Messages that begin so are answered with so many pieces at once.
pub const BURST: &str = "burst ";
/// Messages that begin so are answered with so many pieces, one each millisecond, each with the time it was sent.
pub const PACED: &str = "paced ";

const BUFFER: usize = 4 * 1024;
const BEAT: Duration = Duration::from_secs(1);
const PACE: Duration = Duration::from_millis(1);
const SOON: Duration = Duration::from_secs(10);

/// Microseconds of the wall clock: the same for every process of the machine.
pub fn clock_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    u64::try_from(now.as_micros()).expect("a time of this age")
}

/// Buffers as small on our side as on the daemon's.
pub fn bounds() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(BUFFER).write_buffer_size(BUFFER)
}

/// A WebSocket client on a Unix socket.
///
/// # Panics
/// When it is not upgraded.
pub async fn client(socket: &Path, path: &str, protocol: &str, more: &[(&str, &str)]) -> WebSocketStream<UnixStream> {
    let mut request = format!("ws://localhost{path}").into_client_request().expect("a fixed request");
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", protocol.parse().expect("a fixed value"));
    for (name, value) in more {
        let name = hyper::header::HeaderName::from_bytes(name.as_bytes()).expect("a header");
        headers.insert(name, value.parse().expect("a plain value"));
    }
    let stream = UnixStream::connect(socket).await.expect("somebody listens");
    let upgrade = tokio_tungstenite::client_async_with_config(request, stream, Some(bounds()));
    upgrade.await.expect("an upgrade").0
}

/// A bare echo at this socket, bounded as the daemon's sockets are.
pub fn serve_echo(socket: &Path) {
    async fn upgrade(upgrade: WebSocketUpgrade) -> axum::response::Response {
        let bounded = upgrade.read_buffer_size(BUFFER).write_buffer_size(4 * BUFFER);
        bounded.protocols([AGENT_PROTOCOL]).on_upgrade(async |mut socket: WebSocket| {
            while let Some(Ok(message)) = socket.recv().await {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
        })
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::bind(socket).expect("a socket to serve at");
        let app = axum::Router::new().route("/", axum::routing::get(upgrade));
        axum::serve(listener, app).await.expect("it serves until it is killed");
    });
}

fn event(name: &str, payload: impl serde::Serialize) -> Message {
    Message::text(Frame::event(name, serde_json::to_value(payload).expect("plain data")).to_text())
}

/// An agent that takes every turn and answers it with what it was sent, until it is killed.
pub fn serve_agent() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let nonce = std::fs::read_to_string("nonce").expect("a nonce").trim().to_owned();
        let bearer = format!("Bearer {nonce}");
        let link = client(Path::new("agentbot.sock"), "/agent/ws", AGENT_PROTOCOL, &[("authorization", &bearer)]).await;
        let hello = Hello {
            protocol: 1,
            nonce,
            runtime: "bench".to_owned(),
            version: "0".to_owned(),
            capabilities: Vec::new(),
            boot: Some("bench".to_owned()),
        };
        let (mut sink, mut stream) = link.split();
        let params = serde_json::to_value(hello).expect("plain data");
        sink.send(Message::text(Frame::request("1", method::HELLO, params).to_text())).await.expect("a hello");
        let mut beat = tokio::time::interval(BEAT);
        loop {
            tokio::select! {
                _ = beat.tick() => sink.send(event(event::BEAT, Beat::default())).await.expect("a beat"),
                next = stream.next() => {
                    let Some(Ok(message)) = next else { return };
                    let Message::Text(text) = message else { continue };
                    if let Ok(Frame::Req { id, method, params }) = Frame::parse(&text) {
                        sink.feed(Message::text(Frame::answer(&id, json!({})).to_text())).await.expect("an answer");
                        if method == method::TURN_RUN {
                            answer(&mut sink, params).await;
                        }
                        sink.flush().await.expect("an answer");
                    }
                }
            }
        }
    });
}

async fn answer<S>(sink: &mut S, params: Value)
where
    S: SinkExt<Message> + Unpin,
    S::Error: std::fmt::Debug,
{
    let TurnRun { turn, message, .. } = serde_json::from_value(params).expect("the shape of turn.run");
    let piece =
        |turn: &TurnId, text: String| event(event::TURN_DELTA, TurnDelta { turn: turn.clone(), text, snapshot: false });
    let count = |word: &str| message.content.strip_prefix(word).and_then(|count| count.parse::<u32>().ok());
    if let Some(count) = count(BURST) {
        for _ in 0..count {
            sink.feed(piece(&turn, "x".to_owned())).await.expect("a piece");
        }
    } else if let Some(count) = count(PACED) {
        sink.flush().await.expect("an answer");
        for _ in 0..count {
            tokio::time::sleep(PACE).await;
            sink.send(piece(&turn, clock_us().to_string())).await.expect("a piece");
        }
    }
    sink.feed(event(event::TURN_DONE, TurnDone { turn, text: message.content })).await.expect("an answer");
}

/// One of these processes, ended with this value.
pub struct Partner {
    child: Child,
    _copy: Option<tempfile::TempDir>,
}

impl Partner {
    /// The bare echo, and where it listens.
    pub async fn echo(home: &Home) -> (Self, PathBuf) {
        let socket = home.path().join("echo.sock");
        let program = std::env::current_exe().expect("this program has a path");
        let child = Command::new(program).arg(ECHO).arg(&socket).spawn().expect("the echo can be started");
        let partner = Self { child, _copy: None };
        let connect = async || UnixStream::connect(&socket).await.map(drop).map_err(|error| error.to_string());
        eventually("the echo", SOON, connect).await;
        (partner, socket)
    }

    /// An agent in this seat, with the seat's uid: a copy of this program in a place where that uid may run it.
    pub fn agent(seat: &Seat) -> Self {
        let anybody = std::fs::Permissions::from_mode(0o755);
        let copy = tempfile::Builder::new().prefix("abb").tempdir_in("/tmp").expect("a directory under /tmp");
        std::fs::set_permissions(copy.path(), anybody.clone()).expect("its mode can be set");
        let program = copy.path().join("bench");
        std::fs::copy(std::env::current_exe().expect("this program has a path"), &program).expect("it can be copied");
        std::fs::set_permissions(&program, anybody).expect("its mode can be set");
        let child = Command::new("setpriv")
            .args([format!("--reuid={}", seat.uid), format!("--regid={}", seat.uid), "--clear-groups".to_owned()])
            .arg("--")
            .arg(&program)
            .arg(AGENT)
            .current_dir(&seat.run)
            .stdin(Stdio::null())
            .spawn()
            .expect("setpriv can be run");
        Self { child, _copy: Some(copy) }
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A text message's text.
pub fn text(message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>) -> Option<Utf8Bytes> {
    match message.expect("the connection stands").expect("a whole message") {
        Message::Text(text) => Some(text),
        Message::Close(reason) => panic!("closed: {reason:?}"),
        _ => None,
    }
}
