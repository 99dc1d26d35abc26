//! `/v1/*` at the TCP door: talking to one agent in OpenAI's shape. The agent is what OpenAI calls a model.

use agentbot_wire::{ApiError, ChatSend, Code, Platform, Sender, TurnId};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State as From;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::ask;
use super::envelope::{self, OpenAiError};
use crate::chat::{Body, Event};
use crate::error::{Error, Result};
use crate::http::auth::{Caller, Held};
use crate::http::sse::{self, Ends, Teller};
use crate::http::{State, idempotency};
use crate::identity::Actor;

/// What ends a stream that was answered.
const DONE: &str = "data: [DONE]\n\n";

/// The agent as a model.
struct Model {
    id: String,
    created: i64,
}

/// The one agent that the caller may talk to.
async fn own(state: &State, actor: &Actor) -> Result<Model> {
    let Actor::Gateway { instance, .. } = actor else {
        return Err(Error::internal("a call in OpenAI's shape without an agent of its own"));
    };
    let agent = state.instances.find(actor, instance.as_str()).await?;
    Ok(Model { id: agent.name.as_str().to_owned(), created: agent.created_at.as_second() })
}

/// `GET /v1/models`: the one agent.
pub async fn models(From(state): From<State>, Caller(actor): Caller) -> Result<Response, OpenAiError> {
    let Model { id, created } = own(&state, &actor).await?;
    let model = json!({"id": id, "object": "model", "created": created, "owned_by": "agentbot"});
    Ok(Json(json!({"object": "list", "data": [model]})).into_response())
}

/// `POST /v1/chat/completions`.
pub async fn complete(
    From(state): From<State>,
    Caller(actor): Caller,
    held: Held,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, OpenAiError> {
    let asked = ask::read(&body)?;
    let key = idempotency::key(&headers, "POST", uri.path(), &body)?;
    let model = own(&state, &actor).await?;
    let send = ChatSend {
        agent: None,
        conversation: None,
        topic: asked.topic,
        text: asked.text,
        idempotency_key: key.map(|idempotency| idempotency.key),
    };
    let exchange = state.chat.converse(&actor, &send, Platform::Http).await?;
    let ends = Ends { held, stop: state.instances.stopping().clone() };
    let head = Head { id: id(exchange.turn()), model: model.id, created: exchange.message().timestamp.as_second() };
    if asked.stream {
        let chunks = Chunks { head, usage: asked.usage, begun: false, said: String::new(), other: None };
        return Ok(sse::stream(exchange, ends, chunks));
    }
    let limit = state.config.load().chat.reply_wait;
    let reply = sse::reply(exchange, &ends, limit).await?;
    let message = json!({"role": "assistant", "content": reply.content, "refusal": null});
    let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"});
    // Nobody measured what the answer took: null, not 0.
    Ok(Json(head.object("chat.completion", &json!([choice]), true)).into_response())
}

fn id(turn: &TurnId) -> String {
    format!("chatcmpl-{turn}")
}

/// What every object of one answer has in common.
struct Head {
    id: String,
    model: String,
    created: i64,
}

impl Head {
    fn object(&self, kind: &str, choices: &Value, usage: bool) -> Value {
        let mut object = json!({
            "id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices,
        });
        if usage {
            object["usage"] = Value::Null;
        }
        object
    }
}

/// A turn as chunks.
struct Chunks {
    head: Head,
    usage: bool,
    begun: bool,
    /// The answer as far as it was sent.
    said: String,
    /// The answer as it stands, where it is no continuation of what was sent.
    other: Option<String>,
}

impl Chunks {
    fn chunk(&mut self, mut delta: Value, finish: Option<&str>) -> String {
        if !std::mem::replace(&mut self.begun, true) {
            delta["role"] = json!("assistant");
        }
        let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish});
        data(&self.head.object("chat.completion.chunk", &json!([choice]), false))
    }

    /// Sends what is new of the answer as a whole. What was sent cannot be taken back: if the answer does not go on from
    /// there it is kept, for it may come to do so.
    fn catch_up(&mut self, whole: &str) -> String {
        match whole.strip_prefix(self.said.as_str()).map(str::to_owned) {
            Some(news) => {
                self.other = None;
                self.say(&news)
            }
            None => {
                self.other = Some(whole.to_owned());
                String::new()
            }
        }
    }

    /// Sends a piece that follows what was shown last.
    fn go_on(&mut self, news: &str) -> String {
        match self.other.take() {
            None => self.say(news),
            Some(shown) => self.catch_up(&(shown + news)),
        }
    }

    fn say(&mut self, news: &str) -> String {
        if news.is_empty() {
            return String::new();
        }
        self.said.push_str(news);
        self.chunk(json!({"content": news}), None)
    }

    fn finish(&mut self) -> String {
        if self.other.is_some() {
            let error = Error::new(Code::Interrupted, "the agent took back words that had been sent already");
            return self.end(error.hint("its whole answer stands in the conversation's messages"));
        }
        let mut last = self.chunk(json!({}), Some("stop"));
        if self.usage {
            last.push_str(&data(&self.head.object("chat.completion.chunk", &json!([]), true)));
        }
        last + DONE
    }
}

fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

impl Teller for Chunks {
    fn event(&mut self, event: &Event) -> String {
        match event.body() {
            Body::Delta(delta) if delta.snapshot => self.catch_up(&delta.text),
            Body::Delta(delta) => self.go_on(&delta.text),
            Body::Message(message) if message.sender == Sender::Agent => self.catch_up(&message.content),
            Body::Done(done) => match &done.error {
                None => self.finish(),
                Some(error) => data(&envelope::body(error)),
            },
            Body::Message(_) | Body::Tool(_) | Body::Phase(_) => String::new(),
        }
    }

    fn end(&mut self, error: Error) -> String {
        let error: ApiError = error.to_api();
        data(&envelope::body(&error))
    }
}

#[cfg(test)]
mod tests {
    use agentbot_wire::{ChatDelta, ChatDone, ConversationId, InstanceId, Message, MessageId, TurnStatus};

    use super::*;

    struct Scene {
        agent: InstanceId,
        conversation: ConversationId,
        turn: TurnId,
        chunks: Chunks,
    }

    fn scene(usage: bool) -> Scene {
        let turn = TurnId::mint();
        let head = Head { id: id(&turn), model: "helper".to_owned(), created: 7 };
        let chunks = Chunks { head, usage, begun: false, said: String::new(), other: None };
        Scene { agent: InstanceId::mint(), conversation: ConversationId::mint(), turn, chunks }
    }

    impl Scene {
        fn delta(&mut self, index: u64, text: &str, snapshot: bool) -> String {
            let (agent, conversation, turn) = (self.agent.clone(), self.conversation.clone(), self.turn.clone());
            let delta = ChatDelta { agent, conversation, turn, index, text: text.to_owned(), snapshot };
            self.chunks.event(&Event::delta(delta))
        }

        fn message(&mut self, content: &str) -> String {
            self.chunks.event(&Event::message(Message {
                id: MessageId::mint(),
                agent: self.agent.clone(),
                conversation: self.conversation.clone(),
                sender: Sender::Agent,
                content: content.to_owned(),
                timestamp: jiff::Timestamp::UNIX_EPOCH,
                platform: Platform::Agent,
                seq: 2,
                turn: Some(self.turn.clone()),
            }))
        }

        fn done(&mut self, status: TurnStatus, error: Option<ApiError>) -> String {
            self.chunks.event(&Event::done(ChatDone {
                agent: self.agent.clone(),
                conversation: self.conversation.clone(),
                turn: self.turn.clone(),
                status,
                message: MessageId::mint(),
                last_seq: 2,
                error,
            }))
        }
    }

    fn objects(text: &str) -> Vec<Value> {
        let events = text.split("\n\n").filter(|event| !event.is_empty() && *event != "data: [DONE]");
        events.map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap()).collect()
    }

    #[test]
    fn an_answer_comes_in_chunks_and_ends_with_done() {
        let mut scene = scene(false);
        let all = [
            scene.delta(0, "Hel", false),
            scene.delta(1, "lo", false),
            scene.message("Hello!"),
            scene.done(TurnStatus::Done, None),
        ]
        .concat();
        assert!(all.ends_with(DONE), "{all}");
        let chunks = objects(&all);
        let said: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(said, "Hello!");
        assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
        assert!(chunks[1]["choices"][0]["delta"].get("role").is_none());
        assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "stop");
        assert!(chunks.iter().all(|chunk| chunk["id"] == id(&scene.turn) && chunk["model"] == "helper"));
    }

    #[test]
    fn a_snapshot_repeats_nothing_that_was_said() {
        let mut scene = scene(false);
        let all = [
            scene.delta(0, "Hel", false),
            scene.delta(5, "Hello th", true),
            scene.delta(6, "ere", false),
            scene.message("Hello there"),
        ]
        .concat();
        let chunks = objects(&all);
        let said: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(said, "Hello there");
    }

    fn said(told: &str) -> String {
        objects(told).iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
    }

    #[test]
    fn an_answer_that_does_not_go_on_from_what_was_sent_ends_with_an_error() {
        for (snapshot, last) in [(None, "Goodbye"), (Some("Good"), "Goodbye"), (None, "Hel"), (Some("Help"), "Help!")] {
            let mut scene = scene(true);
            let mut told = scene.delta(0, "Hello", false);
            told += &snapshot.map(|text| scene.delta(1, text, true)).unwrap_or_default();
            told += &scene.message(last);
            told += &scene.done(TurnStatus::Done, None);
            let chunks = objects(&told);
            assert_eq!(chunks.last().unwrap()["error"]["code"], "interrupted", "{told}");
            assert!(!told.contains("[DONE]") && !told.contains("\"stop\""), "{told}");
            assert_eq!(said(&told), "Hello");
        }
    }

    #[test]
    fn an_answer_that_was_told_anew_goes_on_once_it_is_further_than_what_was_sent() {
        let mut scene = scene(false);
        let told = [
            scene.delta(0, "Hello", false),
            // A repeat in the middle: everything so far, and that is less.
            scene.delta(1, "He", true),
            scene.delta(2, "llo th", false),
            scene.delta(3, "ere", false),
            scene.message("Hello there!"),
            scene.done(TurnStatus::Done, None),
        ]
        .concat();
        assert_eq!(said(&told), "Hello there!");
        assert!(told.ends_with(DONE), "{told}");
    }

    #[test]
    fn a_snapshot_at_the_beginning_is_said_once() {
        let mut scene = scene(false);
        let told = scene.delta(4, "Hello", true) + &scene.delta(5, " there", false) + &scene.message("Hello there");
        assert_eq!(said(&told), "Hello there");
    }

    #[test]
    fn usage_that_nobody_measured_is_null() {
        let mut scene = scene(true);
        let chunks = objects(&scene.done(TurnStatus::Done, None));
        assert_eq!(chunks.len(), 2);
        assert_eq!((chunks[1]["choices"].clone(), chunks[1]["usage"].clone()), (json!([]), Value::Null));
    }

    #[test]
    fn a_failed_turn_ends_with_an_error_and_not_with_done() {
        let mut scene = scene(false);
        let error = ApiError { code: Code::ModelFailed, message: "no model".to_owned(), hint: None };
        let told = scene.delta(0, "Hel", false) + &scene.done(TurnStatus::Failed, Some(error));
        assert_eq!(objects(&told).last().unwrap()["error"]["code"], "model_failed");
        assert!(!told.contains("[DONE]"));
        let told = scene.chunks.end(Error::new(Code::ShuttingDown, "the daemon ends"));
        assert_eq!(objects(&told)[0]["error"]["code"], "shutting_down");
    }
}
