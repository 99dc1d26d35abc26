//! `/api/operations`: ours, not dialect B's; unknown parameters are refused.

use std::time::Duration;

use agentbot_wire::{OperationId, OperationList, OperationStatus};
use axum::extract::{Path, State as From};
use axum::response::Response;
use serde::Deserialize;

use super::envelope::{Refusal, ok};
use super::request::{Empty, Mutation, Params, Tag};
use crate::error::Error;
use crate::http::State;
use crate::http::auth::Caller;
use crate::http::request_id::RequestId;

/// Operations of one page when nobody says how many.
const PAGE: u32 = 50;
/// The most operations of one page.
const MAX_PAGE: u32 = 500;
/// The longest wait of one call.
const MAX_WAIT: f64 = 300.0;

/// Which operations are listed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    agent: Option<String>,
    status: Option<OperationStatus>,
    limit: Option<u32>,
}

/// How long to wait, in seconds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patience {
    timeout: Option<f64>,
}

fn id(text: &str, tag: Option<&RequestId>) -> Result<OperationId, Refusal> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().filter(|c| !c.is_control()).take(64).collect();
        let error = Error::not_found("operation", shown).hint("`agentbotctl operation list` shows the newest");
        Refusal::new(error, tag.cloned())
    })
}

/// `GET /api/operations`.
pub async fn list(
    From(state): From<State>,
    caller: Caller,
    Tag(tag): Tag,
    Params(which): Params<Which>,
) -> Result<Response, Refusal> {
    let limit = which.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Refusal::new(
            Error::invalid("limit", format!("is not between 1 and {MAX_PAGE}")).hint("ask for less at once"),
            tag,
        ));
    }
    let operations = state.instances.operations(&caller.0, which.agent, which.status, limit).await;
    let operations = operations.map_err(|error| Refusal::new(error, tag))?;
    Ok(ok(OperationList { count: operations.len(), operations }))
}

/// `GET /api/operations/:id`.
pub async fn show(
    From(state): From<State>,
    caller: Caller,
    Tag(tag): Tag,
    Path(text): Path<String>,
) -> Result<Response, Refusal> {
    let id = id(&text, tag.as_ref())?;
    state.instances.operation(&caller.0, &id).await.map(ok).map_err(|error| Refusal::new(error, tag))
}

/// `GET /api/operations/:id/wait?timeout=`: the operation as it is when it ends or the time is over.
pub async fn wait(
    From(state): From<State>,
    caller: Caller,
    Tag(tag): Tag,
    Path(text): Path<String>,
    Params(patience): Params<Patience>,
) -> Result<Response, Refusal> {
    let id = id(&text, tag.as_ref())?;
    let limit = match patience.timeout {
        None => state.config.load().limits.operation_wait,
        Some(seconds) if (0.0..=MAX_WAIT).contains(&seconds) => Duration::from_secs_f64(seconds),
        Some(_) => {
            return Err(Refusal::new(
                Error::invalid("timeout", format!("is not between 0 and {MAX_WAIT} seconds")),
                tag,
            ));
        }
    };
    state.instances.wait(&caller.0, &id, limit, false).await.map(ok).map_err(|error| Refusal::new(error, tag))
}

/// `POST /api/operations/:id/cancel`.
pub async fn cancel(
    From(state): From<State>,
    caller: Caller,
    Tag(tag): Tag,
    Path(text): Path<String>,
    mutation: Mutation<Empty>,
) -> Result<Response, Refusal> {
    let id = id(&text, tag.as_ref())?;
    state.instances.cancel(&caller.0, &id, mutation.idempotency).await.map(ok).map_err(|error| Refusal::new(error, tag))
}
