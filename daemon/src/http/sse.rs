//! A turn as a stream of server-sent events, and what can end it before its time.

use std::sync::Arc;
use std::time::Duration;

use agentbot_wire::{Code, TurnId};
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use futures_util::stream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::auth::Held;
use crate::chat::{self, Event, Exchange, Lagged};
use crate::error::{Error, Result};

/// Time without an event after which a comment is sent, so that proxies do not take the stream for dead.
const SILENCE: Duration = Duration::from_secs(15);
/// What is sent then.
const COMMENT: &str = ": \n\n";

/// What can end a call that waits for a turn.
pub struct Ends {
    /// The credential is not valid any more.
    pub held: Held,
    /// The daemon ends.
    pub stop: CancellationToken,
}

impl Ends {
    /// Waits for an end, and says which.
    pub async fn come(&self, turn: &TurnId) -> Error {
        tokio::select! {
            biased;
            () = self.held.revoked() => Error::new(Code::Unauthenticated, "this gateway token is not valid any more")
                .hint("`agentbotctl token NAME` shows the present one"),
            () = self.stop.cancelled() => Error::new(Code::ShuttingDown, format!("the daemon ends: {turn}"))
                .hint("the turn goes on when it is back; the answer will stand in the conversation's messages"),
        }
    }
}

/// Waits for the answer, at most so long.
///
/// # Errors
/// Why there is none, or none yet.
pub async fn reply(exchange: Exchange, ends: &Ends, limit: Duration) -> Result<agentbot_wire::Message> {
    let turn = exchange.turn().clone();
    tokio::select! {
        biased;
        end = ends.come(&turn) => Err(end),
        reply = exchange.reply(limit) => reply,
    }
}

/// Puts a turn into the words of an API; each text is one or several whole events.
pub trait Teller: Send + 'static {
    /// An event of the turn; the last one is that it is done.
    fn event(&mut self, event: &Event) -> String;

    /// Nothing more comes, before the turn was done.
    fn end(&mut self, error: Error) -> String;
}

/// Whether a request wants a stream.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|kind| kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/event-stream"))
}

struct Telling<T> {
    exchange: Exchange,
    ends: Ends,
    teller: T,
    over: bool,
}

impl<T: Teller> Telling<T> {
    async fn next(&mut self) -> String {
        let turn = self.exchange.turn().clone();
        let heard: Result<Result<Option<Arc<Event>>, Lagged>, Error> = tokio::select! {
            biased;
            end = self.ends.come(&turn) => Err(end),
            heard = timeout(SILENCE, self.exchange.next()) => match heard {
                Ok(heard) => Ok(heard),
                Err(_) => return COMMENT.to_owned(),
            },
        };
        match heard {
            Ok(Ok(Some(event))) => {
                self.over = matches!(event.body(), chat::Body::Done(_));
                self.teller.event(&event)
            }
            Ok(Ok(None)) => {
                self.over = true;
                String::new()
            }
            Ok(Err(Lagged)) => {
                self.over = true;
                let error = Error::new(Code::Busy, format!("the answer came faster than it was read: {turn}"));
                self.teller.end(error.hint("it goes on; it will stand in the conversation's messages"))
            }
            Err(end) => {
                self.over = true;
                self.teller.end(end)
            }
        }
    }
}

/// The stream of a turn.
pub fn stream(exchange: Exchange, ends: Ends, teller: impl Teller) -> Response {
    let telling = Telling { exchange, ends, teller, over: false };
    let texts = stream::unfold(telling, |mut telling| async move {
        while !telling.over {
            let text = telling.next().await;
            if !text.is_empty() {
                return Some((Ok::<_, std::convert::Infallible>(Bytes::from(text)), telling));
            }
        }
        None
    });
    let mut response = Response::new(Body::from_stream(texts));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that collect answers would hold it back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_sent_to_whoever_asks_for_one() {
        let wanted = |accept: &'static str| {
            is_wanted(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]))
        };
        for accept in ["text/event-stream", "Text/Event-Stream", "application/json, text/event-stream;q=0.9"] {
            assert!(wanted(accept), "{accept}");
        }
        for accept in ["", "*/*", "application/json", "text/plain", "text/event-streams"] {
            assert!(!wanted(accept), "{accept}");
        }
        assert!(!is_wanted(&HeaderMap::new()));
    }
}
