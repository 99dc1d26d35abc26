//! Which shape a refusal has that no handler has made: that of the API whose path was called.

use agentbot_wire::Code;
use axum::extract::{OriginalUri, Request};
use axum::http::HeaderValue;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};

use super::agentbot::envelope::Refusal;
use super::openai::envelope::OpenAiError;
use super::request_id::RequestId;
use crate::error::Error;

/// What is needed of a request to refuse it.
#[derive(Clone, Debug)]
pub struct Called {
    openai: bool,
    tag: Option<RequestId>,
}

impl Called {
    /// Of a request.
    pub fn of(request: &Request) -> Self {
        // Within a part of a router the path is shortened.
        let path = request.extensions().get::<OriginalUri>().map_or_else(|| request.uri(), |called| &called.0).path();
        Self { openai: path.starts_with("/v1/"), tag: request.extensions().get::<RequestId>().cloned() }
    }

    /// The refusal.
    pub fn refuse(self, error: Error) -> Response {
        if self.openai {
            OpenAiError::from(error).into_response()
        } else {
            Refusal::new(error, self.tag).into_response()
        }
    }

    /// The refusal of a caller who comes too often, with the seconds after which to come back.
    pub fn refuse_for(self, (error, seconds): (Error, u64)) -> Response {
        let mut response = if self.openai {
            OpenAiError::from(error).into_response()
        } else {
            Refusal::new(error, self.tag).retry_after(seconds).into_response()
        };
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        response
    }
}

/// The answer to a path that does not exist.
pub async fn not_found(request: Request) -> Response {
    let error = Error::new(Code::NotFound, "there is no such path").hint("docs/API.md lists the paths of each door");
    Called::of(&request).refuse(error)
}

/// The answer to a method that a path does not have.
pub async fn method_not_allowed(request: Request) -> Response {
    let error = Error::new(Code::MethodNotAllowed, format!("this path does not take {}", request.method()))
        .hint("the header `Allow` lists what it takes");
    Called::of(&request).refuse(error)
}
