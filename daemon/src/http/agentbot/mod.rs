//! Dialect B: the Agentbot API under `/api`.

mod agents;
pub mod chat;
pub mod envelope;
mod instances;
mod memory;
mod models;
mod operations;
pub mod request;
mod system;

use axum::Router;
use axum::extract::Extension;
use axum::middleware::from_fn;
use axum::response::IntoResponse;
use axum::routing::{delete, get, post};

use self::envelope::Refusal;
use super::auth::{Policy, guarded};
use super::request_id::RequestId;
use super::shape::{method_not_allowed, not_found};
use super::{State, ws};
use crate::error::Error;

/// Every route with its policy.
pub fn router() -> Router<State> {
    guarded([
        ("/api/health", get(system::health), Policy::Operator),
        ("/api/status", get(system::status), Policy::Operator),
        ("/api/agents", get(agents::list), Policy::Operator),
        ("/api/agents/provision", post(agents::provision).get(agents::provisioned), Policy::Operator),
        ("/api/agents/{id}", get(agents::show), Policy::Operator),
        ("/api/instance/{id}", get(instances::show).merge(delete(instances::delete)), Policy::Operator),
        ("/api/instance/{id}/start", post(instances::start), Policy::Operator),
        ("/api/instance/{id}/stop", post(instances::stop), Policy::Operator),
        ("/api/instance/{id}/restart", post(instances::restart), Policy::Operator),
        ("/api/instance/{id}/repair", post(instances::repair), Policy::Operator),
        ("/api/instance/{id}/undelete", post(instances::undelete), Policy::Operator),
        ("/api/instance/{id}/token", get(instances::token), Policy::Operator),
        ("/api/instance/{id}/token/rotate", post(instances::rotate_token), Policy::Operator),
        ("/api/agents/{id}/messages", get(chat::messages), Policy::Operator),
        ("/api/chat", get(chat::log).post(chat::send), Policy::Operator),
        ("/api/chat/ws", get(ws::upgrade), Policy::Operator),
        ("/api/conversations", get(chat::conversations), Policy::Operator),
        ("/api/memory", get(memory::show).post(memory::write), Policy::Operator),
        ("/api/models", get(models::list), Policy::Operator),
        ("/api/models/test", post(models::test), Policy::Operator),
        ("/api/models/discover", get(models::discover), Policy::Operator),
        ("/api/operations", get(operations::list), Policy::Operator),
        ("/api/operations/{id}", get(operations::show), Policy::Operator),
        ("/api/operations/{id}/wait", get(operations::wait), Policy::Operator),
        ("/api/operations/{id}/cancel", post(operations::cancel), Policy::Operator),
    ])
    .fallback(not_found)
    .method_not_allowed_fallback(method_not_allowed)
}

/// A router that answers everything with one refusal.
pub fn refuse_all(error: &Error) -> Router {
    let error = error.to_api();
    let answer = move |id: Option<Extension<RequestId>>| {
        let error = Error::from(error.clone());
        async move { Refusal::new(error, id.map(|Extension(id)| id)).into_response() }
    };
    Router::new().fallback(answer).layer(from_fn(super::request_id::tag))
}
