//! Calls of the model: one HTTP request each on the daemon's socket, its answer taken as it comes.

mod chunk;
mod feed;
mod sse;

pub use chunk::{Call, Calls, Chunk, clean};
#[cfg(test)]
pub use chunk::{MAX_ARGUMENTS, MAX_CALLS};

use std::fmt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use feed::{Feed, MAX_BODY, Next};

/// The daemon has this long to accept the connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// The most that is read of an answer before it is taken, in bytes.
const READ_BUFFER: usize = 32 * 1024;
/// A model may be silent for so long before the first piece of its answer. The gateway gives up earlier, with better
/// words (`models.first_byte_timeout`); the daemon waits a little longer for a sign of the turn (`chat.turn_idle`).
const FIRST_LIMIT: Duration = Duration::from_secs(170);
/// And between two pieces (`models.idle_timeout`).
const IDLE_LIMIT: Duration = Duration::from_secs(170);
/// An error has this long to say its reason.
const REASON_LIMIT: Duration = Duration::from_secs(10);

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection to the daemon: the daemon may have been restarted.
    Broken(String),
    /// The answer ended before its end was said: the model's server, or a daemon that was stopped.
    Unfinished,
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

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(cause) => write!(f, "the connection to the daemon broke: {cause}"),
            Self::Unfinished => f.write_str("its answer broke off before its end"),
            Self::Model { cause, .. } => f.write_str(cause),
        }
    }
}

/// An answer that comes. Dropped, it ends the request.
#[derive(Debug)]
pub struct Answer {
    body: Incoming,
    feed: Feed,
    /// When the first piece is too late; `None` once it is there.
    first_by: Option<Instant>,
    _connection: JoinSet<()>,
}

/// Asks for a chat completion.
///
/// # Errors
/// When the daemon cannot be reached, does not answer in time, or refuses.
pub async fn ask(socket: &Path, nonce: &str, body: Vec<u8>) -> Result<Answer, Fault> {
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
    let first_by = Instant::now() + FIRST_LIMIT;
    let response = timeout_at(first_by, sender.send_request(request))
        .await
        .map_err(|_| silent(FIRST_LIMIT))?
        .map_err(|error| broken(&error))?;
    if !response.status().is_success() {
        return Err(refused(response).await);
    }
    let json =
        response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let feed = if json { Feed::whole() } else { Feed::stream() };
    Ok(Answer { body: response.into_body(), feed, first_by: Some(first_by), _connection: connection })
}

/// Reads why a request was refused.
async fn refused(response: Response<Incoming>) -> Fault {
    let status = response.status();
    let text = timeout(REASON_LIMIT, Limited::new(response.into_body(), MAX_BODY).collect()).await;
    let text = text.ok().and_then(Result::ok).map(Collected::to_bytes).unwrap_or_default();
    let (said, hint) = match serde_json::from_slice(&text) {
        Ok(error) if chunk::is_shutdown(&error) => return Fault::Broken("the daemon ends".to_owned()),
        Ok(error) => chunk::reason(&error),
        Err(_) => ("no reason given".to_owned(), None),
    };
    let hint = hint.or_else(|| {
        let usual = match status.as_u16() {
            401 | 403 => "look at the key of the model's provider",
            404 => "`agentbotctl model list` shows the models there are",
            413 => {
                "send a shorter message, or let `agentbotctl provision NAME --config '{\"context_tokens\":12000}'` make \
                 an agent that asks with less"
            }
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
    pub async fn next(&mut self) -> Result<Option<Chunk>, Fault> {
        loop {
            match self.feed.next()? {
                Next::Piece(chunk) => {
                    self.first_by = None;
                    return Ok(Some(chunk));
                }
                Next::Over => return Ok(None),
                Next::Hungry => self.fetch().await?,
            }
        }
    }

    /// Whether the answer said its end.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.feed.is_complete()
    }

    async fn fetch(&mut self) -> Result<(), Fault> {
        let frame = match self.first_by {
            Some(first_by) => timeout_at(first_by, self.body.frame()).await.map_err(|_| silent(FIRST_LIMIT))?,
            None => timeout(IDLE_LIMIT, self.body.frame()).await.map_err(|_| silent(IDLE_LIMIT))?,
        };
        match frame {
            Some(frame) => match frame.map_err(|error| broken(&error))?.data_ref() {
                Some(data) => self.feed.push(data),
                None => Ok(()),
            },
            None => self.feed.finish(),
        }
    }
}

fn broken(error: &dyn std::fmt::Display) -> Fault {
    Fault::Broken(error.to_string())
}

fn silent(limit: Duration) -> Fault {
    Fault::model(format!("nothing came for {} s", limit.as_secs()))
}

#[cfg(test)]
mod tests;
