//! Calls of the model: one HTTP request each on the daemon's socket, its answer taken as it comes.

mod chunk;
mod sse;

pub use chunk::{Call, Calls, Chunk, clean};

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use sse::Sse;

/// The daemon has this long to accept the connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// The most that is read of an answer before it is taken, in bytes.
const READ_BUFFER: usize = 32 * 1024;
/// The longest stream of one answer in bytes, all framing included.
const MAX_STREAM: usize = 16 * 1024 * 1024;
/// The longest answer that is not streamed, and the longest error, in bytes.
const MAX_BODY: usize = 1024 * 1024;
/// What ends a stream of answers.
const DONE: &[u8] = b"[DONE]";

/// How long a model may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Until the first byte of its answer.
    pub first: Duration,
    /// Between two pieces.
    pub idle: Duration,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection to the daemon: the daemon may have been restarted.
    Broken(String),
    /// The model, or what stands before it.
    Model {
        /// What went wrong, as the end of a sentence.
        cause: String,
        /// What to do about it.
        hint: Option<String>,
    },
}

impl Fault {
    /// A failure of the model without a hint of its own.
    #[must_use]
    pub fn model(cause: impl Into<String>) -> Self {
        Self::Model { cause: cause.into(), hint: None }
    }
}

/// An answer that comes. Dropped, it ends the request.
#[derive(Debug)]
pub struct Answer {
    body: Incoming,
    framing: Framing,
    events: VecDeque<Vec<u8>>,
    taken: usize,
    patience: Patience,
    over: bool,
    /// Whether the end was said, not only reached.
    complete: bool,
    _connection: JoinSet<()>,
}

/// How the answer is cut into events.
#[derive(Debug)]
enum Framing {
    /// A stream of events.
    Stream(Sse),
    /// One document, of a server that does not stream.
    Whole(Vec<u8>),
}

/// Asks for a chat completion.
///
/// # Errors
/// When the daemon cannot be reached, does not answer in time, or refuses.
pub async fn ask(socket: &Path, nonce: &str, body: Vec<u8>, patience: Patience) -> Result<Answer, Fault> {
    let mut connection = JoinSet::new();
    let connect = async {
        let stream = UnixStream::connect(socket).await.map_err(|error| broken(&error))?;
        http1::Builder::new()
            .max_buf_size(READ_BUFFER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))
    };
    let (mut sender, driver) =
        timeout(CONNECT_LIMIT, connect).await.map_err(|_| Fault::Broken("the daemon does not accept".to_owned()))??;
    connection.spawn(async move {
        // Its end is seen at the answer.
        let _ = driver.await;
    });
    let mut bearer = HeaderValue::from_str(&format!("Bearer {nonce}"))
        .map_err(|_| Fault::Broken("the nonce has characters that no header carries".to_owned()))?;
    bearer.set_sensitive(true);
    let request = Request::post("/v1/chat/completions")
        .header(HOST, "agentbot")
        .header(AUTHORIZATION, bearer)
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "text/event-stream")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| broken(&error))?;
    let response = timeout(patience.first, sender.send_request(request))
        .await
        .map_err(|_| silent(patience.first))?
        .map_err(|error| broken(&error))?;
    let status = response.status();
    if !status.is_success() {
        return Err(refused(response, patience).await);
    }
    let json =
        response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    Ok(Answer {
        body: response.into_body(),
        framing: if json { Framing::Whole(Vec::new()) } else { Framing::Stream(Sse::default()) },
        events: VecDeque::new(),
        taken: 0,
        patience,
        over: false,
        complete: false,
        _connection: connection,
    })
}

/// Reads why a request was refused.
async fn refused(response: Response<Incoming>, patience: Patience) -> Fault {
    let status = response.status();
    let mut body = response.into_body();
    let mut text = Vec::new();
    while let Ok(Some(Ok(frame))) = timeout(patience.idle, body.frame()).await {
        text.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        if text.len() > MAX_BODY {
            break;
        }
    }
    let (said, hint) = match serde_json::from_slice(&text) {
        Ok(error) if chunk::is_shutdown(&error) => return Fault::Broken("the daemon ends".to_owned()),
        Ok(error) => chunk::reason(&error),
        Err(_) => ("no reason given".to_owned(), None),
    };
    let hint = hint.or_else(|| {
        let usual = match status.as_u16() {
            401 | 403 => "look at the key of the model's provider",
            404 => "`agentbotctl model list` shows the models there are",
            413 => "a shorter message or a smaller `context_tokens` may help",
            429 => "wait a moment, then ask again",
            _ => return None,
        };
        Some(usual.to_owned())
    });
    Fault::Model { cause: format!("{said} (HTTP {})", status.as_u16()), hint }
}

impl Answer {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When the stream breaks, falls silent, has no end, or says that the model failed.
    pub async fn next(&mut self, first: bool) -> Result<Option<Chunk>, Fault> {
        loop {
            if let Some(event) = self.events.pop_front() {
                if event == DONE {
                    (self.over, self.complete) = (true, true);
                    self.events.clear();
                    return Ok(None);
                }
                return read(&event).map(Some);
            }
            if self.over {
                return Ok(None);
            }
            self.fetch(first).await?;
        }
    }

    /// Whether the stream said its end. A server that is stopped in the middle may end it as politely.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    async fn fetch(&mut self, first: bool) -> Result<(), Fault> {
        let limit = if first { self.patience.first } else { self.patience.idle };
        let frame = timeout(limit, self.body.frame()).await.map_err(|_| silent(limit))?;
        let Some(frame) = frame else {
            self.over = true;
            return match &mut self.framing {
                Framing::Stream(sse) => sse.finish(&mut self.events).map_err(|_| too_long()),
                Framing::Whole(body) => {
                    self.complete = true;
                    self.events.push_back(std::mem::take(body));
                    Ok(())
                }
            };
        };
        let frame = frame.map_err(|error| broken(&error))?;
        let Some(data) = frame.data_ref() else { return Ok(()) };
        self.taken += data.len();
        match &mut self.framing {
            Framing::Stream(_) if self.taken > MAX_STREAM => Err(too_long()),
            Framing::Stream(sse) => sse.push(data, &mut self.events).map_err(|_| too_long()),
            Framing::Whole(_) if self.taken > MAX_BODY => Err(too_long()),
            Framing::Whole(body) => {
                body.extend_from_slice(data);
                Ok(())
            }
        }
    }
}

fn read(event: &[u8]) -> Result<Chunk, Fault> {
    let chunk: Chunk = serde_json::from_slice(event)
        .map_err(|_| Fault::model("its stream has an event that is not of OpenAI's shape"))?;
    match &chunk.error {
        Some(error) if chunk::is_shutdown(error) => Err(Fault::Broken("the daemon ends".to_owned())),
        Some(error) if !error.is_null() => {
            let (cause, hint) = chunk::reason(error);
            Err(Fault::Model { cause, hint })
        }
        _ => Ok(chunk),
    }
}

fn broken(error: &dyn std::fmt::Display) -> Fault {
    Fault::Broken(error.to_string())
}

fn silent(limit: Duration) -> Fault {
    Fault::Model {
        cause: format!("nothing came for {} s", limit.as_secs_f64()),
        hint: Some("the agent's config keys `first_byte_s` and `idle_s` give a slow model more time".to_owned()),
    }
}

fn too_long() -> Fault {
    Fault::model("its stream is longer than any answer")
}
