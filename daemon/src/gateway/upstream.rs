//! Asking a server that speaks OpenAI's API.

use std::time::Duration;

use agentbot_wire::Code;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::timeout_at;
use tokio_util::task::TaskTracker;

use super::call::Call;
use super::key;
use super::relay::{Bounds, Cut, Pieces, Source, relay, without};
use super::sse;
use crate::error::{Error, Result};
use crate::secret::Secret;

/// The most that is read of an error's body, in bytes.
const ERROR_BODY: usize = 64 * 1024;
/// Time that it gets.
const ERROR_TIME: Duration = Duration::from_secs(5);
/// The most that is told of it, in characters.
const ERROR_TEXT: usize = 500;

/// A server of models and the key to it.
pub(super) struct Server<'a> {
    pub(super) name: &'a str,
    pub(super) base_url: &'a str,
    pub(super) key: Option<Secret<String>>,
    pub(super) client: &'a Client,
}

/// An answer, before it has a shape at any door.
pub(super) enum Reply {
    /// JSON, all of it.
    Whole(Bytes),
    /// Events, as they come.
    Events(Pieces),
}

impl Server<'_> {
    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder> {
        let url = format!("{}{path}", self.base_url.trim_end_matches('/'));
        let mut request = self.client.request(method, url);
        if let Some(key) = &self.key {
            let text = Secret::new(format!("Bearer {}", key.expose()));
            let mut value = HeaderValue::from_str(text.expose()).map_err(Error::internal)?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        Ok(request)
    }

    fn failed(&self, code: Code, why: impl std::fmt::Display) -> Error {
        Error::new(code, format!("provider `{}` {why}", self.name))
    }

    async fn send(&self, request: RequestBuilder, bounds: Bounds) -> Result<Response> {
        let sent = timeout_at(bounds.first.min(bounds.end), request.send()).await.map_err(|_| {
            self.failed(Code::TimedOut, "did not begin to answer in time")
                .hint("ask again; `models.first_byte_timeout` in the configuration sets how long it is waited for")
        })?;
        let response = sent.map_err(|error| {
            let why = if error.is_connect() { "cannot be reached" } else { "broke off before it answered" };
            self.failed(Code::ModelFailed, why)
                .hint("look whether it runs, and at base_url in the configuration; the daemon's log has the cause")
                .caused_by(error)
        })?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response).await) }
    }

    /// What a server that refuses says, as we say it.
    async fn refusal(&self, response: Response) -> Error {
        let status = response.status();
        if status.is_redirection() {
            return self
                .failed(Code::ModelFailed, format!("sends us elsewhere ({status}), and nobody goes there"))
                .hint("set base_url in the configuration to the address that answers itself");
        }
        let said = said(&head_of(response).await).map(|said| key::redact(&said, self.key.as_ref()));
        let said = said.map(|said| format!(": {said}")).unwrap_or_default();
        let (code, hint) = match status.as_u16() {
            401 | 403 => (Code::ModelFailed, "it does not take the key: look at api_key_file or api_key_env"),
            402 => (Code::LimitReached, "the account there has no credit left"),
            404 => (Code::NotFound, "it may not have that model: `agentbotctl model list` shows those it has"),
            408 => (Code::TimedOut, "ask again"),
            413 => (Code::TooLarge, "ask with less"),
            429 => (Code::RateLimited, "it wants to be asked less often, or has no credit left"),
            400..500 => (Code::Invalid, "change the request, or choose another model"),
            _ => (Code::ModelFailed, "ask again later"),
        };
        self.failed(code, format!("answers {}{said}", status.as_u16())).hint(hint)
    }

    /// Asks for a completion.
    ///
    /// # Errors
    /// `model_failed` and what else the server refused with; `timed_out`.
    pub(super) async fn complete(
        self,
        body: Vec<u8>,
        bounds: Bounds,
        mut call: Call,
        tasks: &TaskTracker,
    ) -> Result<Reply> {
        let outcome = self.ask(body, bounds).await;
        let (response, events) = outcome.inspect_err(|error| call.failed(error.code()))?;
        let Self { name, key, .. } = self;
        let pieces = response.bytes_stream().map_err(|error| Cut::from(error.without_url()));
        let mut source = Source::new(name, bounds, pieces);
        if events {
            return Ok(Reply::Events(relay(source, key, call, tasks)));
        }
        let whole = match source.whole().await {
            Ok(whole) if serde_json::from_slice::<&RawValue>(&whole).is_ok() => whole.freeze(),
            other => {
                let error = other.err().unwrap_or_else(|| {
                    Error::new(Code::ModelFailed, format!("provider `{name}` answers with something that is no JSON"))
                        .hint("look at base_url in the configuration")
                });
                call.failed(error.code());
                return Err(error);
            }
        };
        call.usage = sse::usage_of(&whole);
        call.answered();
        Ok(Reply::Whole(without(whole, key.as_ref())))
    }

    async fn ask(&self, body: Vec<u8>, bounds: Bounds) -> Result<(Response, bool)> {
        let request = self
            .request(Method::POST, "/chat/completions")?
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "text/event-stream, application/json")
            .body(body);
        let response = self.send(request, bounds).await?;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match kind.as_str() {
            "text/event-stream" => Ok((response, true)),
            "application/json" | "" => Ok((response, false)),
            _ => Err(self
                .failed(Code::ModelFailed, "answers with something that is neither JSON nor events")
                .hint("look at base_url in the configuration")),
        }
    }

    /// The names of the models it has.
    ///
    /// # Errors
    /// As [`Server::complete`].
    pub(super) async fn models(&self, bounds: Bounds) -> Result<Vec<String>> {
        let response = self.send(self.request(Method::GET, "/models")?, bounds).await?;
        let pieces = response.bytes_stream().map_err(|error| Cut::from(error.without_url()));
        let whole = Source::new(self.name, bounds, pieces).whole().await?;
        super::list::names(&whole).ok_or_else(|| {
            self.failed(Code::ModelFailed, "does not answer /models with a list of models")
                .hint("look at base_url in the configuration; it mostly ends with /v1")
        })
    }
}

/// The beginning of a body.
async fn head_of(response: Response) -> Vec<u8> {
    let mut body = response.bytes_stream();
    let mut head = Vec::new();
    let read = async {
        while let Some(Ok(piece)) = body.next().await {
            head.extend_from_slice(&piece[..piece.len().min(ERROR_BODY - head.len())]);
            if head.len() >= ERROR_BODY {
                break;
            }
        }
    };
    // What has come by then is what there is to tell.
    let _ = tokio::time::timeout(ERROR_TIME, read).await;
    head
}

/// The sentence in the body of an error, wherever servers put it.
fn said(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let places = ["/error/message", "/error", "/message", "/detail", "/0/error/message"];
    let text = places.iter().find_map(|place| value.pointer(place)?.as_str())?;
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(ERROR_TEXT).collect();
    Some(plain.trim().to_owned()).filter(|plain| !plain.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_of_an_error_is_found_where_servers_put_it() {
        for body in [
            r#"{"error":{"message":"why","type":"x"}}"#,
            r#"{"error":"why"}"#,
            r#"{"message":"why"}"#,
            r#"{"detail":"why"}"#,
            r#"[{"error":{"message":"why"}}]"#,
        ] {
            assert_eq!(said(body.as_bytes()).as_deref(), Some("why"), "{body}");
        }
        assert_eq!(said(b"<html>"), None);
        assert_eq!(said(br#"{"error":{"message":"\u001b[31m"}}"#).as_deref(), Some("[31m"));
        let long = format!(r#"{{"error":"{}"}}"#, "x".repeat(ERROR_TEXT + 1));
        assert_eq!(said(long.as_bytes()).unwrap().len(), ERROR_TEXT);
    }
}
