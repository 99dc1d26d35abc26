//! Dialect B's shapes of success and failure; no other file knows them.

use agentbot_wire::{ApiError, Operation, OperationStatus};
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::http::request_id::RequestId;
use crate::http::status;

/// A refusal on its way out.
#[derive(Debug)]
pub struct Refusal {
    error: Error,
    request: Option<RequestId>,
    operation: Option<Box<Operation>>,
    retry_after: Option<u64>,
}

impl Refusal {
    /// Of a request.
    #[must_use]
    pub fn new(error: Error, request: Option<RequestId>) -> Self {
        Self { error, request, operation: None, retry_after: None }
    }

    /// Of something that was accepted and then failed.
    #[must_use]
    pub fn of_operation(operation: Operation, request: Option<RequestId>) -> Self {
        let error =
            operation.error.clone().map_or_else(|| Error::internal("an operation failed without a cause"), Error::from);
        Self { error, request, operation: Some(Box::new(operation)), retry_after: None }
    }

    /// With the seconds after which to come back, as dialect B says them in the body too.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }
}

fn body(error: &ApiError, request: Option<&RequestId>) -> Value {
    json!({
        "success": false,
        "status": "error",
        "error": error.message,
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "request_id": request.map(|request| request.0.as_str()),
    })
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let error = self.error.to_api();
        let mut code = status::of(error.code);
        let mut answer = body(&error, self.request.as_ref());
        if let Some(operation) = self.operation {
            // It was accepted: what ended it since is no fault of the request, unless somebody wished it ended.
            let cancelled = operation.status == OperationStatus::Cancelled;
            code = if cancelled { StatusCode::CONFLICT } else { StatusCode::INTERNAL_SERVER_ERROR };
            answer["operation"] = json!(operation);
        } else if code.is_server_error() {
            tracing::error!(error = %self.error, "request failed");
        }
        if let Some(seconds) = self.retry_after {
            answer["retryAfterSeconds"] = json!(seconds);
        }
        let mut response = (code, Json(answer)).into_response();
        if matches!(code, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after.unwrap_or(1)));
        }
        response
    }
}

/// Something accepted that goes on: 202 with where to look.
#[must_use]
pub fn accepted(operation: &Operation, phase: agentbot_wire::Phase) -> Response {
    let answer = json!({"success": true, "status": phase, "operation": operation});
    let location = HeaderValue::from_str(&format!("/api/operations/{}", operation.id));
    let mut response = (StatusCode::ACCEPTED, Json(answer)).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// A plain answer.
pub fn ok(answer: impl Serialize) -> Response {
    Json(answer).into_response()
}

/// A plain answer with `status: "ok"` added, as dialect B's lists have it.
pub fn with_status(answer: impl Serialize) -> Response {
    #[derive(Serialize)]
    struct WithStatus<T> {
        #[serde(flatten)]
        answer: T,
        status: &'static str,
    }
    Json(WithStatus { answer, status: "ok" }).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentbot_wire::{Code, InstanceId, OperationId, OperationKind};

    fn ended(status: OperationStatus, code: Code) -> Operation {
        let now = jiff::Timestamp::UNIX_EPOCH;
        Operation {
            id: OperationId::mint(),
            kind: OperationKind::Start,
            agent: InstanceId::mint(),
            agent_name: "helper".to_owned(),
            status,
            steps: Vec::new(),
            progress: 1.0,
            actor: "operator:0".to_owned(),
            result: None,
            error: Some(ApiError { code, message: "why".to_owned(), hint: None }),
            created_at: now,
            updated_at: now,
        }
    }

    #[test]
    fn what_was_accepted_and_failed_is_500_and_what_was_called_off_is_409_whatever_the_code() {
        for code in Code::ALL {
            for (status, answer) in [(OperationStatus::Failed, 500), (OperationStatus::Cancelled, 409)] {
                let response = Refusal::of_operation(ended(status, *code), None).into_response();
                assert_eq!(response.status(), answer, "{status} {code}");
            }
        }
    }
}
