//! What agents say, in the words of turns.

use agentbot_wire::{
    Code, HistoryParams, MAX_TOOL_DETAIL, ToolCall, TurnDelta, TurnDone, TurnFailed, TurnTool, event, method,
};
use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::lanes::Presence;
use super::reason::reason;
use super::text::{clean, line};
use super::{Chat, REQUESTS_PER_SECOND};
use crate::error::{Error, Result};
use crate::identity::Actor;
use crate::link::{Ears, Speaker, unknown};

/// The longest word of an agent's that names a tool or a call, in characters.
const MAX_WORD: usize = 64;

#[async_trait]
impl Ears for Chat {
    fn joined(&self, agent: &Speaker) {
        let Speaker { slot, connection, boot, .. } = agent.clone();
        self.live.apply(&agent.instance, |lanes, now| lanes.joined(Presence { slot, connection, boot }, now));
    }

    fn left(&self, agent: &Speaker) {
        self.live.apply(&agent.instance, |lanes, _| {
            lanes.left(agent.connection);
            Vec::new()
        });
    }

    fn event(&self, agent: &Speaker, event: &str, payload: Value) {
        if !self.turn_event(agent, event, payload) {
            self.live.count_stray();
        }
    }

    async fn request(&self, agent: &Speaker, method: &str, params: Value) -> Result<Value> {
        if !self.pace.keeps(&agent.instance) {
            return Err(Error::new(Code::RateLimited, format!("more than {REQUESTS_PER_SECOND} requests a second"))
                .hint("ask less often, or for more at once"));
        }
        let actor = Actor::Agent { slot: agent.slot.clone(), instance: agent.instance.clone() };
        match method {
            method::CHAT_HISTORY => {
                let params: HistoryParams = read(params)?;
                answer(&self.history(&actor, &params).await?)
            }
            method::MEMORY_GET => answer(&self.live.memory().get(&agent.instance, &read(params)?).await?),
            method::MEMORY_PUT => answer(&self.live.memory().put(&agent.instance, &read(params)?).await?),
            method::MEMORY_SEARCH => answer(&self.live.memory().search(&agent.instance, &read(params)?).await?),
            _ => Err(unknown(method).into()),
        }
    }
}

impl Chat {
    /// Says whether the event was one that turns know, of its right shape.
    fn turn_event(&self, agent: &Speaker, event: &str, payload: Value) -> bool {
        let connection = agent.connection;
        match event {
            event::TURN_DELTA => {
                let Ok(TurnDelta { turn, text, snapshot }) = serde_json::from_value(payload) else { return false };
                let text = clean(text);
                self.live.heard(&agent.instance, |lanes, now| lanes.delta(&turn, connection, &text, snapshot, now));
            }
            event::TURN_TOOL => {
                let Ok(TurnTool { turn, call }) = serde_json::from_value(payload) else { return false };
                let call = ToolCall {
                    id: line(&call.id, MAX_WORD),
                    name: line(&call.name, MAX_WORD),
                    status: call.status,
                    detail: call.detail.map(|detail| line(&detail, MAX_TOOL_DETAIL)),
                };
                self.live.heard(&agent.instance, |lanes, now| lanes.tool(&turn, connection, call, now));
            }
            event::TURN_DONE => {
                let Ok(TurnDone { turn, text }) = serde_json::from_value(payload) else { return false };
                let text = clean(text);
                self.live.heard(&agent.instance, |lanes, now| lanes.done(&turn, connection, text, now));
            }
            event::TURN_FAILED => {
                let Ok(TurnFailed { turn, error }) = serde_json::from_value(payload) else { return false };
                let code = error.code.as_deref().and_then(Code::from_word);
                let error = reason(code, &error.message, error.hint.as_deref());
                self.live.heard(&agent.instance, |lanes, now| lanes.failed(&turn, connection, error, now));
            }
            _ => return false,
        }
        true
    }
}

fn read<T: DeserializeOwned>(params: Value) -> Result<T> {
    serde_json::from_value(params).map_err(|error| {
        let why: String = error.to_string().chars().take(200).collect();
        Error::invalid("params", why).hint("docs/API.md shows each request")
    })
}

fn answer(payload: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(payload).map_err(Error::internal)
}
