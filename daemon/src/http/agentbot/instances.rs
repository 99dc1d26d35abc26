//! `/api/instance/:id`.

use agentbot_wire::{
    AgentName, Code, LifecycleReply, OperationKind, OperationStatus, Phase, TokenReply, UndeleteRequest,
};
use axum::extract::State as From;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::envelope::{Refusal, accepted, ok};
use super::request::{Agent, Empty, Mutation, Nothing, Params, Tag};
use crate::error::Error;
use crate::http::State;
use crate::http::auth::Caller;
use crate::http::request_id::RequestId;
use crate::instance::{Ask, Idempotency};

/// `GET /api/instance/:id`.
pub async fn show(
    From(state): From<State>,
    caller: Caller,
    Tag(tag): Tag,
    Agent(agent): Agent,
) -> Result<Response, Refusal> {
    state.instances.view(&caller.0, &agent).await.map(ok).map_err(|error| Refusal::new(error, tag))
}

/// `GET /api/instance/:id/token`.
pub async fn token(
    From(state): From<State>,
    caller: Caller,
    Tag(tag): Tag,
    Agent(agent): Agent,
) -> Result<Response, Refusal> {
    let token = state.instances.token(&caller.0, &agent).await.map_err(|error| Refusal::new(error, tag))?;
    Ok(ok(TokenReply { token: token.expose().clone() }))
}

/// `POST /api/instance/:id/token/rotate`: another token; the former one opens nothing from now on.
pub async fn rotate_token(
    From(state): From<State>,
    caller: Caller,
    Tag(tag): Tag,
    Agent(agent): Agent,
    mutation: Mutation<Empty>,
) -> Result<Response, Refusal> {
    let token = state.instances.rotate_token(&caller.0, &agent, mutation.idempotency).await;
    let token = token.map_err(|error| Refusal::new(error, tag))?;
    Ok(ok(TokenReply { token: token.expose().clone() }))
}

macro_rules! verbs {
    ($($(#[$doc:meta])* $verb:ident = $kind:ident,)+) => {
        $($(#[$doc])*
        pub async fn $verb(
            From(state): From<State>,
            caller: Caller,
            Tag(tag): Tag,
            Agent(agent): Agent,
            mutation: Mutation<Nothing>,
        ) -> Result<Response, Refusal> {
            let call = Call { kind: OperationKind::$kind, agent, new_name: None };
            carry_out(&state, &caller, tag, call, mutation.idempotency, mutation.respond_async).await
        })+
    };
}

verbs! {
    /// `POST /api/instance/:id/start`.
    start = Start,
    /// `POST /api/instance/:id/stop`.
    stop = Stop,
    /// `POST /api/instance/:id/restart`.
    restart = Restart,
    /// `POST /api/instance/:id/repair`.
    repair = Repair,
}

/// `?purge=true` leaves nothing.
#[derive(Deserialize)]
pub struct HowFar {
    #[serde(default)]
    purge: bool,
}

/// `DELETE /api/instance/:id`.
pub async fn delete(
    From(state): From<State>,
    caller: Caller,
    Tag(tag): Tag,
    Agent(agent): Agent,
    Params(how_far): Params<HowFar>,
    mutation: Mutation<Nothing>,
) -> Result<Response, Refusal> {
    let kind = if how_far.purge { OperationKind::Purge } else { OperationKind::Delete };
    let call = Call { kind, agent, new_name: None };
    carry_out(&state, &caller, tag, call, mutation.idempotency, mutation.respond_async).await
}

/// `POST /api/instance/:id/undelete`.
pub async fn undelete(
    From(state): From<State>,
    caller: Caller,
    Tag(tag): Tag,
    Agent(agent): Agent,
    mutation: Mutation<UndeleteRequest>,
) -> Result<Response, Refusal> {
    let new_name = mutation.body.new_name.as_deref().map(str::parse::<AgentName>).transpose();
    let new_name = new_name.map_err(|rule| {
        Refusal::new(Error::invalid("as", rule).hint("for example {\"as\": \"helper-2\"}"), tag.clone())
    })?;
    let call = Call { kind: OperationKind::Undelete, agent, new_name };
    carry_out(&state, &caller, tag, call, mutation.idempotency, mutation.respond_async).await
}

struct Call {
    kind: OperationKind,
    agent: String,
    new_name: Option<AgentName>,
}

/// Asks, waits as long as the dialect waits, and answers in its shape.
async fn carry_out(
    state: &State,
    caller: &Caller,
    tag: Option<RequestId>,
    call: Call,
    idempotency: Option<Idempotency>,
    respond_async: bool,
) -> Result<Response, Refusal> {
    let refuse = |error: Error| Refusal::new(error, tag.clone());
    let Call { kind, agent, new_name } = call;
    let ask = Ask { kind, agent, new_name, host: state.daemon.host(), idempotency };
    let taken = state.instances.ask(&caller.0, ask).await.map_err(refuse)?;
    let seen = taken.instance.map_or(Phase::Deleted, |instance| instance.phase);
    if respond_async {
        return Ok(accepted(&taken.operation, seen));
    }
    let limit = state.config.load().limits.operation_wait;
    let operation = if taken.operation.status.is_ended() {
        taken.operation
    } else {
        state.instances.wait(&caller.0, &taken.operation.id, limit, true).await.map_err(refuse)?
    };
    match operation.status {
        OperationStatus::Succeeded => {}
        OperationStatus::Failed | OperationStatus::Cancelled => return Err(Refusal::of_operation(operation, tag)),
        _ => {
            let phase = match state.instances.find(&caller.0, operation.agent.as_str()).await {
                Ok(instance) => instance.phase,
                // A purge that ended this very moment.
                Err(error) if error.code() == Code::NotFound => Phase::Deleted,
                Err(error) => return Err(refuse(error)),
            };
            return Ok(accepted(&operation, phase));
        }
    }
    let result = operation.result.clone().unwrap_or_default();
    let phase = result.get("status").and_then(|word| word.as_str()).and_then(Phase::from_word);
    let phase = phase.unwrap_or(seen);
    if kind == OperationKind::Repair {
        return Ok(ok(json!({
            "success": true,
            "message": "Agent repaired successfully",
            "status": phase,
            "report": result.get("report"),
            "operation": operation,
        })));
    }
    Ok(ok(LifecycleReply { success: true, status: phase, operation }))
}
