//! The gate as it stands before everything else, and what it tells the browsers of pages that it lets in.

use std::sync::Arc;

use agentbot_wire::Code;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};

use super::gate::{Gate, Refused};
use crate::error::Error;
use crate::http::request_id;
use crate::http::shape::Called;

/// Headers that pages may send, for a browser that names none.
const SENT: HeaderValue = HeaderValue::from_static("authorization, content-type, idempotency-key");
/// The longest list of headers that is allowed as it was asked for. Libraries have many of their own.
const MAX_ASKED: usize = 1_024;
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
    let mut response = if asks { may(request.headers()) } else { next.run(request).await };
    let told = response.headers_mut();
    told.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, page);
    told.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, READ);
    told.append(header::VARY, HeaderValue::from_static("origin"));
    response
}

/// What a browser is told that asks before it sends a page's request.
fn may(asked: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let told = response.headers_mut();
    told.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    told.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, sent(asked));
    told.append(header::VARY, HeaderValue::from_static("access-control-request-headers"));
    told.insert(header::ACCESS_CONTROL_MAX_AGE, REMEMBERED);
    response
}

/// What a page may send: whatever it asked for. The page is one that was let in, and no header grants anything but the
/// credential.
fn sent(asked: &HeaderMap) -> HeaderValue {
    let mut lists = asked.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter();
    let (Some(list), None) = (lists.next(), lists.next()) else { return SENT };
    let is_name = |name: &[u8]| HeaderName::from_bytes(name.trim_ascii()).is_ok();
    let fits = list.len() <= MAX_ASKED && list.as_bytes().split(|byte| *byte == b',').all(is_name);
    if fits { list.clone() } else { SENT }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_may_send_the_headers_that_it_asks_for() {
        let told = |lists: &[&str]| {
            let mut asked = HeaderMap::new();
            for list in lists {
                asked.append(header::ACCESS_CONTROL_REQUEST_HEADERS, list.parse().unwrap());
            }
            sent(&asked).to_str().unwrap().to_owned()
        };
        let sdk = "authorization,content-type,x-stainless-arch, x-stainless-lang";
        assert_eq!(told(&[sdk]), sdk);
        let longest = "x".repeat(MAX_ASKED);
        assert_eq!(told(&[&longest]), longest);
        let usual = told(&[]);
        for lists in [&[""][..], &["a b"], &["a,,b"], &["*,a:b"], &["a", "b"], &[&format!("{longest}x")]] {
            assert_eq!(told(lists), usual, "{lists:?}");
        }
    }
}
