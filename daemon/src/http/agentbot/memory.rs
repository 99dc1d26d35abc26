//! `/api/memory`.

use agentbot_wire::MemoryWrite;
use axum::extract::State as From;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::envelope::{Refusal, ok};
use super::request::{Mutation, Params, Tag};
use crate::error::Error;
use crate::http::State;
use crate::http::auth::Caller;

/// `?agentId=`.
#[derive(Deserialize)]
pub struct Whose {
    #[serde(default, rename = "agentId")]
    agent: Option<String>,
}

/// `GET /api/memory`.
pub async fn show(
    From(state): From<State>,
    caller: Caller,
    Tag(tag): Tag,
    Params(whose): Params<Whose>,
) -> Result<Response, Refusal> {
    let refuse = |error: Error| Refusal::new(error, tag.clone());
    let agent = state.instances.meant(&caller.0, whose.agent.as_deref()).await.map_err(refuse)?;
    state.memory.view(&agent.id).await.map(ok).map_err(refuse)
}

/// `POST /api/memory`.
pub async fn write(
    From(state): From<State>,
    caller: Caller,
    Tag(tag): Tag,
    mutation: Mutation<MemoryWrite>,
) -> Result<Response, Refusal> {
    let refuse = |error: Error| Refusal::new(error, tag.clone());
    let MemoryWrite { agent, key, memory } = mutation.body;
    let agent = state.instances.meant(&caller.0, agent.as_deref()).await.map_err(refuse)?.id;
    match key {
        Some(key) => {
            let saved = state.memory.write(&agent, &key, &memory).await.map_err(refuse)?;
            Ok(ok(json!({"success": true, "agentId": agent, "key": key, "saved": saved})))
        }
        None => {
            let count = state.memory.write_all(&agent, &memory).await.map_err(refuse)?;
            Ok(ok(json!({"success": true, "agentId": agent, "keysUpdated": count, "saved": true})))
        }
    }
}
