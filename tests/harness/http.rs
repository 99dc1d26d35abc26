//! HTTP over a Unix socket, for the daemon's door and the engine's alike; broken requests by the byte.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

/// How long a call may take unless it says otherwise.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// One request.
#[derive(Clone, Debug)]
pub struct Call {
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Bytes,
    deadline: Duration,
}

impl Call {
    /// A request without a body.
    ///
    /// # Panics
    /// When the method is not a word of HTTP.
    #[must_use]
    pub fn new(method: &str, path: impl Into<String>) -> Self {
        Self {
            method: method.parse().expect("a method"),
            path: path.into(),
            headers: Vec::new(),
            body: Bytes::new(),
            deadline: DEADLINE,
        }
    }

    /// `GET path`.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    /// `POST path` without a body.
    #[must_use]
    pub fn post(path: impl Into<String>) -> Self {
        Self::new("POST", path)
    }

    /// `DELETE path`.
    #[must_use]
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new("DELETE", path)
    }

    /// With this header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// With this JSON as body.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    /// With these bytes as body.
    #[must_use]
    pub fn body(mut self, kind: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header("content-type", kind)
    }

    /// With this `Idempotency-Key`.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    /// With `Prefer: respond-async`.
    #[must_use]
    pub fn respond_async(self) -> Self {
        self.header("prefer", "respond-async")
    }

    /// Answered within this time, or it failed.
    #[must_use]
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Reply {
    /// The body as JSON of a known shape.
    ///
    /// # Panics
    /// When it is not of that shape.
    #[must_use]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self}"))
    }

    /// The body as any JSON; null when it is none.
    #[must_use]
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// This reply, which has the given status.
    ///
    /// # Panics
    /// When it has another.
    // Mostly called for the check alone.
    #[allow(clippy::must_use_candidate, clippy::return_self_not_must_use)]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }

    /// An error of dialect B: status, code, and every field that such an error owes its reader.
    ///
    /// # Panics
    /// When it is not that error.
    pub fn expect_error(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self}");
        let body = self.value();
        assert_eq!(body["code"], code, "{self}");
        assert_eq!(body["success"], false, "{self}");
        assert_eq!(body["status"], "error", "{self}");
        for field in ["error", "message", "hint", "request_id"] {
            assert!(body[field].as_str().is_some_and(|text| !text.is_empty()), "`{field}` is wanted in {self}");
        }
        body
    }

    /// One header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 2_000;
        let body = &self.body[..self.body.len().min(SHOWN)];
        write!(f, "{} {}", self.status, String::from_utf8_lossy(body))
    }
}

/// One connection that is kept.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    // Drives the connection, and ends with it.
    _driver: JoinSet<()>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens, or the listener does not take us.
    pub async fn open(socket: &Path) -> Result<Self, String> {
        let stream = UnixStream::connect(socket).await.map_err(|error| format!("connect: {error}"))?;
        Self::over(stream).await
    }

    /// Connects to the TCP door.
    ///
    /// # Errors
    /// When nobody listens, or the listener does not take us.
    pub async fn tcp(door: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(door).await.map_err(|error| format!("connect: {error}"))?;
        Self::over(stream).await
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<Self, String> {
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| format!("handshake: {error}"))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Its error reaches the caller through the request.
            let _ = connection.await;
        });
        Ok(Self { sender, _driver: driver })
    }

    /// Sends one request and reads the whole answer.
    ///
    /// # Errors
    /// When the answer does not come in time, or not whole.
    pub async fn send(&mut self, call: Call) -> Result<Reply, String> {
        let mut request = Request::builder().method(call.method).uri(&call.path).header("host", "localhost");
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(call.body)).map_err(|error| format!("request: {error}"))?;
        let work = async {
            self.sender.ready().await.map_err(|error| format!("connection: {error}"))?;
            let answer = self.sender.send_request(request).await.map_err(|error| format!("answer: {error}"))?;
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_err(|error| format!("body: {error}"))?.to_bytes();
            Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
        };
        tokio::time::timeout(call.deadline, work)
            .await
            .unwrap_or_else(|_| Err(format!("no answer to {} within {:?}", call.path, call.deadline)))
    }
}

/// One request on a connection of its own.
///
/// # Errors
/// When nobody listens, or the answer does not come in time and whole.
pub async fn send(socket: &Path, call: Call) -> Result<Reply, String> {
    Connection::open(socket).await?.send(call).await
}

/// One request on a connection of its own to the TCP door.
///
/// # Errors
/// When nobody listens, or the answer does not come in time and whole.
pub async fn send_tcp(door: SocketAddr, call: Call) -> Result<Reply, String> {
    Connection::tcp(door).await?.send(call).await
}

/// Writes bytes that need not be HTTP, then reads until the other side closes or `patience` ends.
///
/// # Errors
/// When nobody listens.
pub async fn raw(socket: &Path, bytes: &[u8], patience: Duration) -> Result<Vec<u8>, String> {
    let stream = UnixStream::connect(socket).await.map_err(|error| format!("connect: {error}"))?;
    exchange(stream, bytes, patience).await
}

/// The same at the TCP door.
///
/// # Errors
/// When nobody listens.
pub async fn raw_tcp(door: SocketAddr, bytes: &[u8], patience: Duration) -> Result<Vec<u8>, String> {
    let stream = TcpStream::connect(door).await.map_err(|error| format!("connect: {error}"))?;
    exchange(stream, bytes, patience).await
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    bytes: &[u8],
    patience: Duration,
) -> Result<Vec<u8>, String> {
    // A door may close before it has read everything: what it answered until then counts.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(patience, stream.read_to_end(&mut answer)).await;
    Ok(answer)
}

/// The status in the first line of a raw answer, `None` when there is none.
#[must_use]
pub fn raw_status(answer: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(answer);
    text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}
