//! `/api/models`.

use agentbot_wire::ModelTest;
use axum::extract::State as From;
use axum::response::Response;

use super::envelope::{Refusal, ok};
use super::request::{Mutation, Tag};
use crate::http::State;
use crate::http::auth::Caller;

/// `GET /api/models`.
pub async fn list(From(state): From<State>) -> Response {
    ok(&*state.gateway.list().await)
}

/// `POST /api/models/test`.
pub async fn test(
    From(state): From<State>,
    caller: Caller,
    Tag(tag): Tag,
    mutation: Mutation<ModelTest>,
) -> Result<Response, Refusal> {
    let (tenant, who) = (caller.0.tenant(), caller.0.to_string());
    state.gateway.test(tenant, who, &mutation.body).await.map(ok).map_err(|error| Refusal::new(error, tag))
}

/// `GET /api/models/discover`.
pub async fn discover(From(state): From<State>, Tag(tag): Tag) -> Result<Response, Refusal> {
    state.gateway.discover().await.map(ok).map_err(|error| Refusal::new(error, tag))
}
