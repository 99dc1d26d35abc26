//! What dialect B's handlers take from a request.

use agentbot_wire::{AgentName, Code};
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::envelope::Refusal;
use crate::error::Error;
use crate::http::idempotency;
use crate::http::request_id::RequestId;
use crate::instance::Idempotency;

/// The id of the request, for refusals.
pub struct Tag(pub Option<RequestId>);

impl<S: Send + Sync> FromRequestParts<S> for Tag {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get::<RequestId>().cloned()))
    }
}

/// The `:id` of a path: an id or a name, not yet looked up.
pub struct Agent(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Agent {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let tag = parts.extensions.get::<RequestId>().cloned();
        let refuse = |text: &str| Refusal::new(crate::instance::missing(text), tag.clone());
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| refuse("?"))?;
        let known = text.parse::<AgentName>().is_ok() || text.parse::<agentbot_wire::InstanceId>().is_ok();
        if known { Ok(Self(text)) } else { Err(refuse(&text)) }
    }
}

/// Query parameters; unknown ones are ignored, malformed ones refused.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let tag = parts.extensions.get::<RequestId>().cloned();
        Query::<T>::from_request_parts(parts, state).await.map(|Query(params)| Self(params)).map_err(|why| {
            let error = Error::invalid("query", why.body_text()).hint("docs/API.md lists what each path takes");
            Refusal::new(error, tag)
        })
    }
}

/// A mutation: its JSON body (an empty one counts as `{}`), its idempotency key, and whether the caller will not wait.
pub struct Mutation<T> {
    /// The body.
    pub body: T,
    /// The key.
    pub idempotency: Option<Idempotency>,
    /// `Prefer: respond-async`.
    pub respond_async: bool,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Mutation<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let tag = request.extensions().get::<RequestId>().cloned();
        let (method, path) = (request.method().to_string(), request.uri().to_string());
        let headers = request.headers().clone();
        let refuse = |error: Error| Refusal::new(error, tag.clone());
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|why| refuse(Error::new(Code::Invalid, why.body_text()).hint("send it again and whole")))?;
        let idempotency = idempotency::key(&headers, &method, &path, &bytes).map_err(refuse)?;
        if let Some(encoding) = headers.get("content-encoding").filter(|encoding| *encoding != "identity") {
            let error =
                format!("the body is encoded as {}", String::from_utf8_lossy(encoding.as_bytes()).escape_debug());
            return Err(refuse(Error::new(Code::Unsupported, error).hint("send it without Content-Encoding")));
        }
        let wrong = |why: String| {
            let error = Error::new(Code::Invalid, format!("the body is not what is asked for: {why}"));
            refuse(error.hint("a JSON object in UTF-8"))
        };
        let text = if bytes.trim_ascii().is_empty() { b"{}".as_slice() } else { &bytes };
        // A derived reader would take a list as an object's fields in order.
        if text.trim_ascii_start().first() != Some(&b'{') {
            return Err(wrong("it is not an object".to_owned()));
        }
        let mut reader = serde_json::Deserializer::from_slice(text);
        let body =
            serde_path_to_error::deserialize(&mut reader).map_err(|why| match why.path().to_string().as_str() {
                "." => wrong(why.inner().to_string()),
                field => refuse(Error::invalid(field, why.inner()).hint("docs/API.md lists what each field takes")),
            })?;
        reader.end().map_err(|why| wrong(why.to_string()))?;
        Ok(Self { body, idempotency, respond_async: prefers_async(&headers) })
    }
}

/// RFC 7240: `Prefer: respond-async`, alone or among others.
fn prefers_async(headers: &HeaderMap) -> bool {
    headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
}

/// The body of a route of ours that takes no fields.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// A body of which nothing is wanted: anything that is JSON, or nothing.
#[derive(Debug)]
pub struct Nothing;

impl<'de> serde::Deserialize<'de> for Nothing {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Dialect B ignores fields that it does not know.
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}
