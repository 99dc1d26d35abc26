//! `/api/chat`, `/api/conversations` and `/api/agents/:id/messages`.

use agentbot_wire::{ApiError, ChatReply, ChatRequest, ChatSend, HISTORY_PAGE, Platform};
use axum::extract::State as From;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::envelope::{Refusal, ok};
use super::request::{Agent, Mutation, Params, Tag};
use crate::chat::Event;
use crate::error::Error;
use crate::http::State;
use crate::http::auth::{Caller, Held};
use crate::http::sse::{self, Ends, Teller};

/// Which conversation is shown.
#[derive(Deserialize)]
pub struct Which {
    #[serde(rename = "agentId")]
    agent: Option<String>,
    topic: Option<String>,
}

/// Which page of an agent's messages is shown.
#[derive(Deserialize)]
pub struct Page {
    limit: Option<u32>,
    offset: Option<u64>,
}

/// `POST /api/chat`: waits for the answer, or streams it.
pub async fn send(
    From(state): From<State>,
    Caller(actor): Caller,
    held: Held,
    Tag(tag): Tag,
    headers: HeaderMap,
    mutation: Mutation<ChatRequest>,
) -> Result<Response, Refusal> {
    let refuse = |error: Error| Refusal::new(error, tag.clone());
    let ChatRequest { message, topic, agent } = mutation.body;
    let idempotency_key = mutation.idempotency.map(|idempotency| idempotency.key);
    let send = ChatSend { agent, conversation: None, topic, text: message, idempotency_key };
    let exchange = state.chat.converse(&actor, &send, Platform::Http).await.map_err(refuse)?;
    let ends = Ends { held, stop: state.instances.stopping().clone() };
    if sse::is_wanted(&headers) {
        let last = exchange.message().seq.saturating_sub(1);
        return Ok(sse::stream(exchange, ends, Frames { last }));
    }
    let (message, topic) = (exchange.message().clone(), exchange.topic().to_owned());
    let turn = exchange.turn().clone();
    let limit = state.config.load().chat.reply_wait;
    let reply = sse::reply(exchange, &ends, limit).await.map_err(refuse)?;
    Ok(ok(ChatReply {
        id: message.id,
        message: message.content,
        topic,
        status: "sent".to_owned(),
        timestamp: message.timestamp,
        reply: reply.content,
        conversation: message.conversation,
        turn,
        seq: reply.seq,
    }))
}

/// `GET /api/chat`: the newest messages of one conversation.
pub async fn log(
    From(state): From<State>,
    Caller(actor): Caller,
    Tag(tag): Tag,
    Params(which): Params<Which>,
) -> Result<Response, Refusal> {
    let log = state.chat.log(&actor, which.agent.as_deref(), which.topic.as_deref()).await;
    log.map(ok).map_err(|error| Refusal::new(error, tag))
}

/// `GET /api/agents/:id/messages`.
pub async fn messages(
    From(state): From<State>,
    Caller(actor): Caller,
    Tag(tag): Tag,
    Agent(agent): Agent,
    Params(page): Params<Page>,
) -> Result<Response, Refusal> {
    let (limit, offset) = (page.limit.unwrap_or(HISTORY_PAGE), page.offset.unwrap_or(0));
    let messages = state.chat.messages(&actor, &agent, limit, offset).await;
    messages.map(ok).map_err(|error| Refusal::new(error, tag))
}

/// `GET /api/conversations`.
pub async fn conversations(
    From(state): From<State>,
    Caller(actor): Caller,
    Tag(tag): Tag,
    Params(which): Params<Which>,
) -> Result<Response, Refusal> {
    let conversations = state.chat.conversations(&actor, which.agent.as_deref()).await;
    conversations.map(ok).map_err(|error| Refusal::new(error, tag))
}

/// The events of the chat socket as they are; the id is the place of the last stored message.
struct Frames {
    last: u64,
}

impl Teller for Frames {
    fn event(&mut self, event: &Event) -> String {
        self.last = event.seq().unwrap_or(self.last);
        let payload = String::from_utf8_lossy(event.payload());
        format!("event: {}\nid: {}\ndata: {payload}\n\n", event.name(), self.last)
    }

    fn end(&mut self, error: Error) -> String {
        let ApiError { code, message, hint } = error.to_api();
        format!(
            "event: error\nid: {}\ndata: {}\n\n",
            self.last,
            json!({"code": code, "message": message, "hint": hint})
        )
    }
}

#[cfg(test)]
mod tests {
    use agentbot_wire::{ChatDelta, Code, ConversationId, InstanceId, Message, MessageId, Sender, TurnId};

    use super::*;

    #[test]
    fn a_stream_has_the_frames_events_and_the_place_of_the_last_message() {
        let (agent, conversation, turn) = (InstanceId::mint(), ConversationId::mint(), TurnId::mint());
        let mut frames = Frames { last: 6 };
        let message = Message {
            id: MessageId::mint(),
            agent: agent.clone(),
            conversation: conversation.clone(),
            sender: Sender::Agent,
            content: "one\ntwo".to_owned(),
            timestamp: jiff::Timestamp::UNIX_EPOCH,
            platform: Platform::Agent,
            seq: 7,
            turn: Some(turn.clone()),
        };
        let delta = ChatDelta { agent, conversation, turn, index: 0, text: "one\n".to_owned(), snapshot: false };
        let told = frames.event(&Event::delta(delta));
        assert!(told.starts_with("event: chat.delta\nid: 6\ndata: {") && told.ends_with("}\n\n"), "{told}");
        let told = frames.event(&Event::message(message.clone()));
        let data = told.strip_prefix("event: chat.message\nid: 7\ndata: ").unwrap().strip_suffix("\n\n").unwrap();
        assert_eq!(serde_json::from_str::<Message>(data).unwrap(), message, "a newline within ends no event");
        let told = frames.end(Error::new(Code::Busy, "why").hint("what to do"));
        assert!(told.starts_with("event: error\nid: 7\ndata: {\"code\":\"busy\""), "{told}");
    }
}
