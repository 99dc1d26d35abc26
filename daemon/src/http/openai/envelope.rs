//! OpenAI's shape of failure; no other file knows it.

use agentbot_wire::{ApiError, Code};
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::error::Error;
use crate::http::status;

/// A refusal on its way out.
#[derive(Debug)]
pub struct OpenAiError {
    error: Error,
    told: bool,
}

impl OpenAiError {
    /// One that the log has had its line of, or had left out, from somebody who knows who provoked it.
    #[must_use]
    pub fn told(error: Error) -> Self {
        Self { error, told: true }
    }
}

impl From<Error> for OpenAiError {
    fn from(error: Error) -> Self {
        Self { error, told: false }
    }
}

/// The word of OpenAI's API for a kind of error.
#[must_use]
pub fn kind(code: Code) -> &'static str {
    match status::of(code) {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "authentication_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "api_error",
    }
}

/// The body of a failure, alone or as the last event of a stream. The hint goes with the message: clients show nothing
/// else.
#[must_use]
pub fn body(error: &ApiError) -> Value {
    let message = match &error.hint {
        Some(hint) => format!("{}; {hint}", error.message),
        None => error.message.clone(),
    };
    json!({"error": {"message": message, "type": kind(error.code), "code": error.code, "param": null}})
}

impl IntoResponse for OpenAiError {
    fn into_response(self) -> Response {
        let error = self.error.to_api();
        let code = status::of(error.code);
        if code.is_server_error() && !self.told {
            tracing::warn!(error = %self.error, "a call in OpenAI's shape failed");
        }
        let mut response = (code, Json(body(&error))).into_response();
        if matches!(code, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_word_that_openais_clients_know() {
        for (code, word) in [
            (Code::Invalid, "invalid_request_error"),
            (Code::TooLarge, "invalid_request_error"),
            (Code::Unauthenticated, "authentication_error"),
            (Code::RateLimited, "rate_limit_error"),
            (Code::ModelFailed, "api_error"),
            (Code::Internal, "api_error"),
        ] {
            assert_eq!(kind(code), word, "{code}");
        }
        for code in Code::ALL {
            assert!(kind(*code).ends_with("_error"));
        }
    }

    #[test]
    fn the_hint_is_part_of_the_message() {
        let error = Error::new(Code::RateLimited, "too many").hint("wait");
        let said = body(&error.to_api());
        assert_eq!(said["error"]["message"], "too many; wait");
        assert_eq!(said["error"]["code"], "rate_limited");
        assert!(said["error"]["param"].is_null());
        assert_eq!(OpenAiError::from(error).into_response().status(), 429);
    }
}
