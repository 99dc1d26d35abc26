//! Which HTTP status a kind of error has: one table for every dialect.

use agentbot_wire::Code;
use axum::http::StatusCode;

/// The status of a code.
#[must_use]
pub fn of(code: Code) -> StatusCode {
    match code {
        Code::Invalid | Code::Unsupported => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Forbidden => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::Conflict | Code::Superseded | Code::Cancelled => StatusCode::CONFLICT,
        Code::IdempotencyMismatch => StatusCode::UNPROCESSABLE_ENTITY,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::LimitReached => StatusCode::BAD_REQUEST,
        Code::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::CursorExpired => StatusCode::GONE,
        Code::ModelFailed => StatusCode::BAD_GATEWAY,
        Code::Busy | Code::EngineUnavailable | Code::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        Code::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        Code::EngineRefused
        | Code::ForeignContainer
        | Code::NotHardened
        | Code::AgentUnresponsive
        | Code::AgentFailed
        | Code::DataLost
        | Code::Interrupted
        | Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_an_error_status() {
        for code in Code::ALL {
            assert!(of(*code).is_client_error() || of(*code).is_server_error(), "{code}");
        }
    }
}
