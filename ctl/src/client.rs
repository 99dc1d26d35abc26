//! HTTP over the daemon's Unix socket: one connection for each request, every wait bounded.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::exit::{BAD_REPLY, Exit, Failure, UNREACHABLE, USAGE};

/// The largest answer that is read, in bytes.
pub const MAX_REPLY: usize = 8 * 1024 * 1024;
/// How long a connection may take to be accepted.
const CONNECT: Duration = Duration::from_secs(5);
/// Pauses before a request is sent again whose answer was lost: a daemon that restarts is back within them.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(200), Duration::from_millis(400), Duration::from_millis(800)];

/// A request to the daemon.
#[derive(Clone, Debug)]
pub struct Call {
    /// GET, POST or DELETE.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// JSON; empty for none.
    pub body: Bytes,
    /// Makes a repeat harmless; on every request that changes something.
    pub key: Option<String>,
    /// How long the whole answer may take.
    pub deadline: Duration,
}

/// An answer as it came.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body; at most [`MAX_REPLY`].
    pub body: Bytes,
}

/// The daemon's socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// What went wrong with one attempt.
enum Attempt {
    /// Nothing was sent.
    NotConnected(Failure),
    /// It was sent and the answer got lost: a daemon that restarts does this.
    Lost(Failure),
    /// Asking again would not help.
    Hopeless(Failure),
}

impl Client {
    /// A client of the daemon at this socket. Nothing is opened yet.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Where the daemon listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks once.
    ///
    /// # Errors
    /// When the daemon cannot be reached, is too slow, or answers nonsense. An error answer of the daemon is a reply.
    pub async fn once(&self, call: &Call) -> Result<Reply, Failure> {
        self.attempt(call).await.map_err(|attempt| match attempt {
            Attempt::NotConnected(failure) | Attempt::Lost(failure) | Attempt::Hopeless(failure) => failure,
        })
    }

    /// Asks, and asks again when an answer got lost. Every attempt carries the same idempotency key.
    ///
    /// # Errors
    /// As [`Self::once`]. A daemon that was away from the start is reported at once.
    pub async fn send(&self, call: &Call) -> Result<Reply, Failure> {
        let mut sent = false;
        let mut pauses = PAUSES.into_iter();
        loop {
            let failure = match self.attempt(call).await {
                Ok(reply) => return Ok(reply),
                Err(Attempt::Hopeless(failure)) => return Err(failure),
                Err(Attempt::NotConnected(failure)) if !sent => return Err(failure),
                Err(Attempt::NotConnected(failure) | Attempt::Lost(failure)) => failure,
            };
            sent = true;
            let Some(pause) = pauses.next() else { return Err(failure) };
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&self, call: &Call) -> Result<Reply, Attempt> {
        let stream = match tokio::time::timeout(CONNECT, UnixStream::connect(&self.socket)).await {
            Ok(connected) => connected.map_err(|error| Attempt::NotConnected(not_connected(&self.socket, &error)))?,
            Err(_) => return Err(Attempt::NotConnected(slow("accept a connection", CONNECT))),
        };
        match tokio::time::timeout(call.deadline, exchange(stream, call)).await {
            Ok(result) => result,
            Err(_) => Err(Attempt::Hopeless(slow("answer", call.deadline))),
        }
    }
}

/// What to do when no daemon is there.
const START: &str = "start it with `sudo systemctl start agentbotd` (from a source tree: `make quickstart`), or name its socket with \
                     --socket or AGENTBOT_SOCKET";

/// Why a connection to the daemon's socket was not made.
#[must_use]
pub fn not_connected(socket: &Path, error: &std::io::Error) -> Failure {
    let path = socket.display();
    match error.kind() {
        ErrorKind::NotFound => Failure::new(
            Exit::Unreachable,
            UNREACHABLE,
            format!("agentbotd is not running: there is no socket at {path}"),
        )
        .hint(START),
        ErrorKind::ConnectionRefused => {
            Failure::new(Exit::Unreachable, UNREACHABLE, format!("agentbotd is not running: nobody listens at {path}"))
                .hint(START)
        }
        ErrorKind::PermissionDenied => {
            Failure::new(Exit::NotAllowed, "forbidden", format!("your user may not open {path}"))
                .hint("run it with sudo, or join the admin group (sudo usermod -aG agentbot $USER) and log in again")
        }
        ErrorKind::InvalidInput => {
            Failure::new(Exit::Usage, USAGE, format!("{path} cannot be a socket: {error}")).hint("see --socket")
        }
        _ => Failure::new(Exit::Unreachable, UNREACHABLE, format!("{path}: {error}")).hint(START),
    }
}

fn slow(what: &str, limit: Duration) -> Failure {
    let limit = crate::output::text::took(limit);
    Failure::new(Exit::TimedOut, "timed_out", format!("agentbotd did not {what} within {limit}"))
        .hint("look at `journalctl -u agentbotd`; give more time with --timeout")
}

fn lost() -> Attempt {
    let message = "agentbotd closed the connection before its answer was complete";
    Attempt::Lost(
        Failure::new(Exit::Unreachable, UNREACHABLE, message)
            .hint("it may be restarting: try again, and look at `journalctl -u agentbotd`"),
    )
}

fn nonsense(why: &str) -> Failure {
    Failure::new(Exit::Failed, BAD_REPLY, format!("the answer is not agentbotd's: {why}"))
        .hint("is another program listening on that socket, or a daemon of another version? See `agentbotctl version`")
}

/// An answer whose body has not the shape that was expected.
#[must_use]
pub fn bad_shape(why: &str) -> Failure {
    nonsense(why)
}

async fn exchange(stream: UnixStream, call: &Call) -> Result<Reply, Attempt> {
    let request = request(call).map_err(Attempt::Hopeless)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| lost())?;
    let mut connection = pin!(connection);
    let mut answer = pin!(async {
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let status = response.status().as_u16();
        match Limited::new(response.into_body(), MAX_REPLY).collect().await {
            Ok(body) => Ok(Reply { status, body: body.to_bytes() }),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(Attempt::Hopeless(nonsense(&format!("it is larger than {} MiB", MAX_REPLY >> 20))))
            }
            Err(error) => match error.downcast::<hyper::Error>() {
                Ok(error) => Err(broken(&error)),
                Err(_) => Err(lost()),
            },
        }
    });
    // The connection moves the bytes while the answer waits for them; an answer that has fully come outlives it.
    tokio::select! {
        answer = &mut answer => return answer,
        _ = &mut connection => {}
    }
    answer.await
}

fn request(call: &Call) -> Result<Request<Full<Bytes>>, Failure> {
    let mut builder = Request::builder()
        .method(call.method.clone())
        .uri(&call.path)
        .header("host", "agentbot")
        .header("accept", "application/json")
        .header("connection", "close")
        .header("user-agent", concat!("agentbotctl/", env!("CARGO_PKG_VERSION")));
    if let Some(key) = &call.key {
        builder = builder.header("idempotency-key", key).header("prefer", "respond-async");
    }
    if !call.body.is_empty() {
        builder = builder.header("content-type", "application/json");
    }
    builder
        .body(Full::new(call.body.clone()))
        .map_err(|error| Failure::new(Exit::Usage, USAGE, format!("that cannot be asked: {error}")))
}

fn broken(error: &hyper::Error) -> Attempt {
    if error.is_parse() || error.is_parse_too_large() {
        return Attempt::Hopeless(nonsense("it is not HTTP"));
    }
    lost()
}
