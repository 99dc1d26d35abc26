//! The builtin model: a few rules that answer in the shape of a language model, so that an agent works before one is set
//! up. It says so.

mod rules;
mod say;
mod want;

use std::time::Duration;

use agentbot_wire::Code;
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};

use self::rules::{Piece, Reply, Request, reply};
use super::Answer;
use super::call::Call;
use super::request::Asked;
use crate::error::{Error, Result};

/// Its full name.
const MODEL: &str = "builtin/basic";

/// Answers a request.
///
/// # Errors
/// `invalid` when its messages are none.
pub(super) fn answer(asked: &Asked<'_>, mut call: Call) -> Result<Answer> {
    let reply = read(asked).map(|request| reply(&request)).inspect_err(|error| call.failed(error.code()))?;
    let head = Head::new();
    if asked.stream {
        return Ok(Answer::Events(stream(head.chunks(reply), call)));
    }
    call.answered();
    Ok(Answer::Json(head.whole(&reply).to_string().into()))
}

fn read(asked: &Asked<'_>) -> Result<Request> {
    let wrong = |field: &str, why: &dyn std::fmt::Display| Error::invalid(field, why).hint("as OpenAI's API has it");
    let missing = || Error::new(Code::Invalid, "messages: missing").hint("as OpenAI's API has it");
    let messages = asked.field("messages").ok_or_else(missing)?;
    let messages = serde_json::from_str(messages.get()).map_err(|why| wrong("messages", &why))?;
    let tools = match asked.field("tools") {
        Some(tools) => serde_json::from_str(tools.get()).map_err(|why| wrong("tools", &why))?,
        None => None,
    };
    let forbidden = asked.field("tool_choice").is_some_and(|choice| choice.get() == "\"none\"");
    Ok(Request::new(messages, tools.filter(|_| !forbidden).unwrap_or_default()))
}

/// What all parts of one answer have in common.
struct Head {
    id: String,
    created: i64,
}

/// One event and the pause before it.
struct Event {
    pause: Duration,
    data: Bytes,
}

impl Head {
    fn new() -> Self {
        let mut bytes = [0_u8; 12];
        // Without randomness the id is less unique, nothing worse.
        let _ = getrandom::fill(&mut bytes);
        Self { id: format!("chatcmpl-{}", hex::encode(bytes)), created: jiff::Timestamp::now().as_second() }
    }

    fn call(&self, tool: &str, arguments: &Value) -> Value {
        let id = self.id.replace("chatcmpl-", "call_");
        json!({"id": id, "type": "function", "function": {"name": tool, "arguments": arguments.to_string()}})
    }

    /// The answer as one object.
    fn whole(&self, reply: &Reply) -> Value {
        let (message, reason) = match reply {
            Reply::Say(pieces) => {
                let text: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
                (json!({"role": "assistant", "content": text}), "stop")
            }
            Reply::Use(tool, arguments) => {
                let calls = [self.call(tool, arguments)];
                (json!({"role": "assistant", "content": null, "tool_calls": calls}), "tool_calls")
            }
        };
        json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        })
    }

    /// The answer in pieces.
    fn chunks(&self, reply: Reply) -> Vec<Event> {
        let mut events = vec![self.chunk(Duration::ZERO, &json!({"role": "assistant", "content": ""}), None)];
        let reason = match reply {
            Reply::Say(pieces) => {
                let piece = |Piece { pause, text }| self.chunk(pause, &json!({"content": text}), None);
                events.extend(pieces.into_iter().map(piece));
                "stop"
            }
            Reply::Use(tool, arguments) => {
                let mut call = self.call(&tool, &arguments);
                call["index"] = json!(0);
                events.push(self.chunk(Duration::ZERO, &json!({"tool_calls": [call]}), None));
                "tool_calls"
            }
        };
        events.push(self.chunk(Duration::ZERO, &json!({}), Some(reason)));
        events.push(Event { pause: Duration::ZERO, data: Bytes::from_static(b"data: [DONE]\n\n") });
        events
    }

    fn chunk(&self, pause: Duration, delta: &Value, reason: Option<&str>) -> Event {
        let chunk = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": MODEL,
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
        });
        Event { pause, data: format!("data: {chunk}\n\n").into() }
    }
}

fn stream(events: Vec<Event>, call: Call) -> super::Pieces {
    Box::pin(stream::unfold((events.into_iter(), call), |(mut events, mut call)| async move {
        let Event { pause, data } = events.next()?;
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        if events.len() == 0 {
            call.answered();
        }
        Some((Ok(data), (events, call)))
    }))
}
