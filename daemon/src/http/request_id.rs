//! Every answer carries the id by which the log knows its request.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

/// The header of answers.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// A request's id: ours, never the caller's.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

/// Gives the request an id, and the answer the same.
pub async fn tag(mut request: Request, next: Next) -> Response {
    let mut bytes = [0_u8; 8];
    // Without randomness the id is less unique, nothing worse.
    let _ = getrandom::fill(&mut bytes);
    let id = format!("req_{}", hex::encode(bytes));
    request.extensions_mut().insert(RequestId(id.clone()));
    let span =
        tracing::debug_span!("request", request.id = %id, method = %request.method(), path = %request.uri().path());
    let mut response = next.run(request).instrument(span).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HEADER, value);
    }
    response
}
