//! Knocking at doors as somebody: at the admin socket under a foreign uid, at a slot's socket as an agent that lies.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use agentbot_wire::{AGENT_PROTOCOL, ApiError, Beat, Frame, Hello, Welcome, event, method};
use futures_util::{SinkExt, StreamExt};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::binaries::helper_binary;
use super::scripted_agent::Seat;

const PATIENCE: Duration = Duration::from_secs(10);

/// A connection by way of a helper.
pub type AgentStream = tokio::io::Join<ChildStdout, ChildStdin>;

/// The helper of a connection and the copy it was started from.
#[derive(Debug)]
pub struct AgentHelper(#[allow(dead_code)] Child, #[allow(dead_code)] TempDir);

/// Why an agent was not let in.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// It could not connect, or was cut off without an HTTP answer.
    Connection(String),
    /// The upgrade was answered with this status.
    Status(u16),
    /// The hello was answered with this error.
    Hello(ApiError),
    /// The socket was closed instead of an answer to hello.
    Closed(String),
}

/// A process that connects its standard streams with the socket `name` in `dir`, running as this uid and gid.
fn helper(copy: &TempDir, dir: &Path, name: &str, uid: u32, gid: u32) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned(), "--".to_owned()])
        .arg(copy.path().join("knock"))
        .arg(name)
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A copy of the helper in a place that every user may run programs from: the build directory need not be one.
fn copy_of_helper() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::Builder::new().prefix("abk").tempdir_in("/tmp").expect("a directory under /tmp");
    let anybody = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.path(), anybody.clone()).expect("its mode can be set");
    let copy = dir.path().join("knock");
    std::fs::copy(helper_binary("knock"), &copy).expect("the helper can be copied");
    std::fs::set_permissions(&copy, anybody).expect("its mode can be set");
    dir
}

/// Sends bytes to the socket `name` in `dir` as this uid and gid, and gives what came back and how the helper ended.
///
/// # Panics
/// When the helper cannot be run.
pub async fn knock(dir: &Path, name: &str, uid: u32, gid: u32, bytes: &[u8]) -> Output {
    let copy = copy_of_helper();
    let mut child = helper(&copy, dir, name, uid, gid).spawn().expect("setpriv can be run; it comes with util-linux");
    let mut input = child.stdin.take().expect("a piped stdin");
    // A door that hangs up first is an answer too.
    let _ = input.write_all(bytes).await;
    let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    // Until here: to a server the end of what we say is the end of our interest in the answer.
    drop(input);
    ended.expect("the door answers").expect("the helper ends")
}

/// A bare connection to an agent's socket under its uid. The helper behind it lives as long as the second value.
///
/// # Panics
/// When the helper cannot be run.
pub async fn agent_stream(seat: &Seat) -> (AgentStream, AgentHelper) {
    let copy = copy_of_helper();
    let mut child = helper(&copy, &seat.run, "agentbot.sock", seat.uid, seat.uid).spawn().expect("setpriv can be run");
    let input = child.stdin.take().expect("a piped stdin");
    let output = child.stdout.take().expect("a piped stdout");
    (tokio::io::join(output, input), AgentHelper(child, copy))
}

/// A program that speaks the agent's protocol by hand.
#[derive(Debug)]
pub struct FakeAgent {
    socket: WebSocketStream<AgentStream>,
    _helper: AgentHelper,
}

impl FakeAgent {
    /// Connects to the agent socket in `run_dir` as this uid and gid with this nonce in the header.
    ///
    /// # Errors
    /// When it is not let in.
    ///
    /// # Panics
    /// When the helper cannot be run, or the door does not answer in time.
    pub async fn connect(run_dir: &Path, uid: u32, gid: u32, nonce: &str) -> Result<Self, Refusal> {
        let copy = copy_of_helper();
        // A directory that is gone is a door that is not there.
        let child = helper(&copy, run_dir, "agentbot.sock", uid, gid).spawn();
        let mut child = child.map_err(|error| Refusal::Connection(format!("setpriv: {error}")))?;
        let input = child.stdin.take().expect("a piped stdin");
        let output = child.stdout.take().expect("a piped stdout");
        let mut request = "ws://localhost/agent/ws".into_client_request().expect("a fixed request");
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", AGENT_PROTOCOL.parse().expect("a fixed value"));
        headers.insert("authorization", format!("Bearer {nonce}").parse().expect("a nonce is plain text"));
        let upgrade = tokio_tungstenite::client_async(request, tokio::io::join(output, input));
        match tokio::time::timeout(PATIENCE, upgrade).await.expect("the agent's door answers") {
            Ok((socket, _)) => Ok(Self { socket, _helper: AgentHelper(child, copy) }),
            Err(tokio_tungstenite::tungstenite::Error::Http(reply)) => Err(Refusal::Status(reply.status().as_u16())),
            Err(error) => Err(Refusal::Connection(error.to_string())),
        }
    }

    /// Says hello with this nonce and waits for the answer.
    ///
    /// # Errors
    /// When it is refused.
    ///
    /// # Panics
    /// When there is no answer in time.
    pub async fn hello(&mut self, nonce: &str) -> Result<Welcome, Refusal> {
        self.hello_as(nonce, None).await
    }

    /// Says hello with this nonce as this process, and waits for the answer.
    ///
    /// # Errors
    /// When it is refused.
    ///
    /// # Panics
    /// When there is no answer in time.
    pub async fn hello_as(&mut self, nonce: &str, boot: Option<&str>) -> Result<Welcome, Refusal> {
        let hello = Hello {
            protocol: 1,
            nonce: nonce.to_owned(),
            runtime: "fake".to_owned(),
            version: "0".to_owned(),
            capabilities: Vec::new(),
            boot: boot.map(str::to_owned),
        };
        let params = serde_json::to_value(hello).expect("plain data");
        self.send(Frame::request("1", method::HELLO, params).to_text()).await?;
        match self.receive().await? {
            Frame::Res { ok: true, payload: Some(welcome), .. } => {
                Ok(serde_json::from_value(welcome).expect("a welcome has its documented shape"))
            }
            Frame::Res { error: Some(error), .. } => Err(Refusal::Hello(error)),
            other => Err(Refusal::Closed(format!("an answer to hello was wanted, not {other:?}"))),
        }
    }

    /// The socket itself, for whoever speaks and hears at once. The helper lives as long as the second value.
    pub(crate) fn into_parts(self) -> (WebSocketStream<AgentStream>, AgentHelper) {
        (self.socket, self._helper)
    }

    /// Beats once.
    ///
    /// # Errors
    /// When the socket is closed.
    pub async fn beat(&mut self) -> Result<(), Refusal> {
        let payload = serde_json::to_value(Beat::default()).expect("plain data");
        self.send(Frame::event(event::BEAT, payload).to_text()).await
    }

    /// Sends any text as one frame.
    ///
    /// # Errors
    /// When the socket is closed.
    pub async fn send(&mut self, text: String) -> Result<(), Refusal> {
        self.socket.send(Message::text(text)).await.map_err(|error| Refusal::Closed(error.to_string()))
    }

    /// The next frame.
    ///
    /// # Errors
    /// When the socket is closed instead.
    ///
    /// # Panics
    /// When nothing comes in time, or something that is no frame.
    pub async fn receive(&mut self) -> Result<Frame, Refusal> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("a frame or the end");
            match next {
                Some(Ok(Message::Text(text))) => return Ok(Frame::parse(&text).expect("the daemon sends frames")),
                Some(Ok(Message::Close(reason))) => return Err(Refusal::Closed(format!("{reason:?}"))),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(Refusal::Closed(error.to_string())),
                None => return Err(Refusal::Closed("end of stream".to_owned())),
            }
        }
    }
}
