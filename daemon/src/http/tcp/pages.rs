//! The gate as it stands before everything else, and what it tells the browsers of pages that it lets in.

use std::sync::Arc;

use agentbot_wire::Code;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};

use super::gate::{Gate, Refused};
use crate::error::Error;
use crate::http::request_id;
use crate::http::shape::Called;

/// Headers that pages may send.
const SENT: HeaderValue = HeaderValue::from_static("authorization, content-type, idempotency-key");
/// Headers that pages may read.
const READ: HeaderValue = HeaderValue::from_static("retry-after, x-request-id");
/// Methods that pages may use.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST");
/// Seconds for which a browser need not ask again.
const REMEMBERED: HeaderValue = HeaderValue::from_static("600");

/// Puts a router behind the gate.
pub fn behind(router: Router, gate: Arc<Gate>) -> Router {
    router.layer(from_fn_with_state(gate, pass)).layer(from_fn(request_id::tag))
}

async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let all = |name: HeaderName| headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let target = request.uri().authority().map(|target| target.as_str());
    if let Err(refused) = gate.judge(target, all(header::HOST), all(header::ORIGIN)) {
        return Called::of(&request).refuse(refusal(refused));
    }
    let Some(page) = headers.get(header::ORIGIN).cloned() else { return next.run(request).await };
    let asks = request.method() == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if asks { may() } else { next.run(request).await };
    let told = response.headers_mut();
    told.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, page);
    told.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, READ);
    told.append(header::VARY, HeaderValue::from_static("origin"));
    response
}

/// What a browser is told that asks before it sends a page's request.
fn may() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let told = response.headers_mut();
    told.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    told.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, SENT);
    told.insert(header::ACCESS_CONTROL_MAX_AGE, REMEMBERED);
    response
}

fn refusal(refused: Refused) -> Error {
    let (message, hint) = match refused {
        Refused::HostCount => ("the request needs one header `Host`", "send it once"),
        Refused::Host => (
            "this daemon is not known by the name in `Host`",
            "`http.allowed_hosts` in the configuration lists the names it may be called by",
        ),
        Refused::OriginCount => ("the request has more than one header `Origin`", "send it once or not at all"),
        Refused::Origin => (
            "pages of this origin may not call",
            "`http.allowed_origins` in the configuration lists the origins that may",
        ),
    };
    Error::new(Code::Forbidden, message).hint(hint)
}
