//! `/api/agents`.

use agentbot_wire::{AgentList, ProvisionReply, ProvisionRequest};
use axum::Json;
use axum::extract::State as From;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::envelope::{Refusal, ok, with_status};
use super::request::{Agent, Mutation, Params, Tag};
use crate::error::Error;
use crate::http::State;
use crate::http::auth::Caller;
use crate::instance::provisioned as new_agent;

/// `?deleted=true` lists the deleted ones.
#[derive(Deserialize)]
pub struct Which {
    #[serde(default)]
    deleted: bool,
}

async fn agents(state: &State, caller: &Caller, deleted: bool) -> Result<AgentList, Error> {
    let agents = state.instances.list(&caller.0, deleted).await?;
    Ok(AgentList { count: agents.len(), agents })
}

/// `GET /api/agents`.
pub async fn list(
    From(state): From<State>,
    caller: Caller,
    Tag(tag): Tag,
    Params(which): Params<Which>,
) -> Result<Response, Refusal> {
    let list = agents(&state, &caller, which.deleted).await.map_err(|error| Refusal::new(error, tag))?;
    Ok(with_status(list))
}

/// `GET /api/agents/provision`.
pub async fn provisioned(From(state): From<State>, caller: Caller, Tag(tag): Tag) -> Result<Response, Refusal> {
    let list = agents(&state, &caller, false).await.map_err(|error| Refusal::new(error, tag))?;
    Ok(ok(json!({"success": true, "agents": list.agents, "count": list.count})))
}

/// `GET /api/agents/:id`.
pub async fn show(
    From(state): From<State>,
    caller: Caller,
    Tag(tag): Tag,
    Agent(agent): Agent,
) -> Result<Response, Refusal> {
    let view = state.instances.view(&caller.0, &agent).await.map_err(|error| Refusal::new(error, tag))?;
    Ok(with_status(json!({"agent": {
        "id": view.id,
        "name": view.name,
        "status": view.phase,
        "model": view.model,
        "startedAt": view.started_at,
        "plan": view.plan,
        "subdomain": Value::Null,
        "url": Value::Null,
        "openclawVersion": view.openclaw_version,
        "verified": false,
        "verificationType": Value::Null,
        "attestationUid": Value::Null,
        "verifiedAt": Value::Null,
    }})))
}

/// `POST /api/agents/provision`: 201 once it is committed.
pub async fn provision(
    From(state): From<State>,
    caller: Caller,
    Tag(tag): Tag,
    mutation: Mutation<ProvisionRequest>,
) -> Result<Response, Refusal> {
    let accepted = state
        .instances
        .provision(&caller.0, &mutation.body, state.daemon.host(), mutation.idempotency)
        .await
        .map_err(|error| Refusal::new(error, tag))?;
    let reply = ProvisionReply { success: true, agent: new_agent(&accepted.instance), operation: accepted.operation };
    Ok((StatusCode::CREATED, Json(reply)).into_response())
}
