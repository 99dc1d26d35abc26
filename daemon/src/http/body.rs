//! Bodies have a limit. One over it is answered 413 and read to its end, up to a second limit, so that the caller gets
//! to see the answer instead of a broken pipe.

use agentbot_wire::Code;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use hyper::body::Body as _;

use super::agentbot::envelope::Refusal;
use super::request_id::RequestId;
use crate::error::Error;

/// The two limits in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The longest body.
    pub limit: usize,
    /// The most that is read of one that is too long.
    pub drain: usize,
}

/// Reads the body up to the limit and hands it on whole.
pub async fn bound(State(bounds): State<Bounds>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let id = parts.extensions.get::<RequestId>().cloned();
    match read(body, bounds).await {
        Ok(bytes) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Err(error) => Refusal::new(error, id).into_response(),
    }
}

async fn read(mut body: Body, bounds: Bounds) -> Result<Bytes, Error> {
    let mut kept = Vec::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Error::new(Code::Invalid, "the body broke off before its end").hint("send it again").caused_by(error)
        })?;
        let Ok(data) = frame.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length <= bounds.limit {
            kept.extend_from_slice(&data);
        } else {
            kept = Vec::new();
            if length > bounds.drain {
                break;
            }
        }
    }
    if length > bounds.limit {
        return Err(Error::new(Code::TooLarge, format!("the body is over the limit of {} bytes", bounds.limit))
            .hint("`limits.body` in the configuration sets it"));
    }
    Ok(kept.into())
}
