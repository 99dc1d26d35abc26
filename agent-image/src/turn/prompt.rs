//! What a model is asked, in OpenAI's shape.

use agentbot_wire::{Message, Sender};
use serde_json::{Value, json};

use super::about::About;
use crate::kit;
use crate::model::Call;

/// Said of every agent.
const GUIDE: &str = "\
You have two tools. `memory` keeps facts across conversations: store what you are asked to remember, and look things up \
before you say that you do not know them. `files` reads and writes your own workspace; nothing else of the machine can \
be reached, and there is no network. Use a tool only when it helps, and say plainly when one failed.";

/// The head of a question: who the agent is.
#[must_use]
pub fn system_message(about: &About, today: &str) -> Value {
    json!({"role": "system", "content": system(about, today)})
}

/// A message of the conversation.
#[must_use]
pub fn message(message: &Message) -> Value {
    let role = match message.sender {
        Sender::Agent => "assistant",
        Sender::User | Sender::System => "user",
    };
    json!({"role": role, "content": message.content})
}

fn system(about: &About, today: &str) -> String {
    let name = match &about.name {
        Some(name) => format!("Your name is {name}."),
        None => String::new(),
    };
    let persona = about.persona.as_deref().unwrap_or("You are a helpful assistant. Answer briefly and to the point.");
    [persona, name.as_str(), GUIDE, &format!("Today is {today} (UTC).")]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("\n\n")
}

/// What the model said before it used tools, as the next question repeats it.
#[must_use]
pub fn said<'a>(text: &str, calls: impl IntoIterator<Item = &'a Call>) -> Value {
    let calls: Vec<Value> = calls
        .into_iter()
        .map(|call| {
            let arguments = if call.arguments.is_empty() { "{}" } else { &call.arguments };
            let function = json!({"name": call.name, "arguments": arguments});
            json!({"id": call.id, "type": "function", "function": function})
        })
        .collect();
    let content = if text.is_empty() { Value::Null } else { Value::from(text) };
    json!({"role": "assistant", "content": content, "tool_calls": calls})
}

/// What a tool answered.
#[must_use]
pub fn result(call: &Call, content: &str) -> Value {
    json!({"role": "tool", "tool_call_id": call.id, "content": content})
}

/// The body of a request. In the last round no tool may be used any more.
#[must_use]
pub fn body(about: &About, messages: Vec<Value>, last: bool) -> Vec<u8> {
    let mut body = json!({"stream": true, "tools": kit::schemas()});
    body["messages"] = Value::Array(messages);
    if let Some(model) = &about.asked_model {
        body["model"] = model.as_str().into();
    }
    if let Some(temperature) = about.temperature {
        body["temperature"] = temperature.into();
    }
    if last {
        body["tool_choice"] = "none".into();
    }
    // JSON values only: writing them cannot fail.
    serde_json::to_vec(&body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(config: &Value) -> About {
        About { name: Some("scout".to_owned()), ..About::default() }.with_config(config)
    }

    #[test]
    fn the_system_prompt_has_persona_name_guide_and_date() {
        let text = system(&about(&json!({"persona": "You are a pirate."})), "2026-01-02");
        for part in ["You are a pirate.", "Your name is scout.", "`memory`", "`files`", "2026-01-02"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn a_request_names_the_model_only_where_the_configuration_does() {
        let body = |config: Value, last| -> Value {
            serde_json::from_slice(&super::body(&about(&config), Vec::new(), last)).unwrap()
        };
        let plain = body(json!({}), false);
        assert_eq!((plain.get("model"), plain.get("temperature"), plain.get("tool_choice")), (None, None, None));
        assert_eq!((plain["stream"].as_bool(), plain["tools"].as_array().unwrap().len()), (Some(true), 2));
        let chosen = body(json!({"model": "a/b", "temperature": 0.5}), true);
        assert_eq!((&chosen["model"], &chosen["temperature"]), (&json!("a/b"), &json!(0.5)));
        assert_eq!(chosen["tool_choice"], "none");
    }

    #[test]
    fn calls_and_results_go_back_to_the_model() {
        let call = Call { id: "c1".to_owned(), name: "files".to_owned(), arguments: String::new() };
        let said = said("", [&call]);
        assert_eq!((&said["content"], &said["tool_calls"][0]["function"]["arguments"]), (&Value::Null, &json!("{}")));
        assert_eq!(result(&call, "ok"), json!({"role": "tool", "tool_call_id": "c1", "content": "ok"}));
    }
}
