//! A call in OpenAI's shape, read as words to one agent. Pure. The agent keeps the conversation itself: of the messages
//! only the last one is news.

use agentbot_wire::Code;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The words to the agent.
    pub text: String,
    /// The conversation by name.
    pub topic: Option<String>,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Whether a stream ends with a chunk about usage.
    pub usage: bool,
}

/// Reads the body of `POST /v1/chat/completions`. Parameters that only tune a model are taken and have no effect.
///
/// # Errors
/// `invalid`; `unsupported` for what would be answered otherwise than it was asked.
pub fn read(body: &[u8]) -> Result<Asked> {
    let body: Map<String, Value> = serde_json::from_slice(body).map_err(|why| {
        Error::new(Code::Invalid, format!("the body is not what is asked for: {why}")).hint("a JSON object in UTF-8")
    })?;
    refuse_what_is_not_done(&body)?;
    let messages = body.get("messages").and_then(Value::as_array).ok_or_else(|| {
        Error::invalid("messages", "is not a list").hint("[{\"role\": \"user\", \"content\": \"…\"}]")
    })?;
    let last = messages.last().ok_or_else(|| Error::invalid("messages", "is empty").hint("ask something"))?;
    if last.get("role").and_then(Value::as_str) != Some("user") {
        return Err(Error::new(Code::Unsupported, "messages: the last one is not of the role `user`")
            .hint("the agent keeps the conversation; send what the user says, last"));
    }
    let topic = match body.get("user") {
        None | Some(Value::Null) => None,
        Some(Value::String(user)) if user.is_empty() => None,
        Some(Value::String(user)) => Some(user.clone()),
        Some(_) => return Err(Error::invalid("user", "is not a text").hint("it names the conversation")),
    };
    let usage = body.get("stream_options").and_then(|options| options.get("include_usage"));
    Ok(Asked {
        text: content(last.get("content").unwrap_or(&Value::Null))?,
        topic,
        stream: flag(&body, "stream")?,
        usage: usage.and_then(Value::as_bool).unwrap_or(false),
    })
}

fn flag(body: &Map<String, Value>, name: &str) -> Result<bool> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(Error::invalid(name, "is neither true nor false").hint("leave it out for false")),
    }
}

fn refuse_what_is_not_done(body: &Map<String, Value>) -> Result<()> {
    let given = |name: &str| body.get(name).filter(|value| !value.is_null());
    let refuse = |what: &str, hint: &str| Err(Error::new(Code::Unsupported, what).hint(hint));
    if given("n").is_some_and(|n| n.as_u64() != Some(1)) {
        return refuse("n: an agent gives one answer", "leave it out");
    }
    for name in ["tools", "functions"] {
        if given(name).is_some_and(|list| list.as_array().is_none_or(|list| !list.is_empty())) {
            let what = format!("{name}: an agent has tools of its own and takes none from a caller");
            return refuse(&what, "leave it out; a model that takes tools is called directly");
        }
    }
    let format = given("response_format").map(|format| format.get("type").and_then(Value::as_str).unwrap_or_default());
    if format.is_some_and(|format| format != "text") {
        return refuse("response_format: an agent answers in text", "leave it out, and say in words what is wanted");
    }
    Ok(())
}

/// The text of a message: a text, or parts that are texts.
fn content(content: &Value) -> Result<String> {
    let other = || {
        Error::new(Code::Unsupported, "messages: the content of the last one is not text")
            .hint("send a text, or parts of the type `text`")
    };
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) if !parts.is_empty() => {
            let text = |part: &Value| {
                let is_text = part.get("type").and_then(Value::as_str) == Some("text");
                part.get("text").and_then(Value::as_str).filter(|_| is_text).map(str::to_owned).ok_or_else(other)
            };
            parts.iter().map(text).collect()
        }
        _ => Err(other()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_value(body: &Value) -> Result<Asked> {
        read(body.to_string().as_bytes())
    }

    fn with(name: &str, value: Value) -> Value {
        let mut body = json!({"model": "x", "messages": [{"role": "user", "content": "hi"}]});
        body[name] = value;
        body
    }

    #[test]
    fn the_last_words_of_the_user_are_what_is_said() {
        let body = json!({
            "model": "gpt-4o",
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": "old"},
                {"role": "assistant", "content": "answer"},
                {"role": "user", "content": [{"type": "text", "text": "new "}, {"type": "text", "text": "words"}]},
            ],
            "user": "trip",
            "stream": true,
            "stream_options": {"include_usage": true},
            "temperature": 0.2, "max_tokens": 5, "tools": [], "n": 1, "response_format": {"type": "text"},
            "whatever": {"comes": "next"},
        });
        let asked = Asked { text: "new words".to_owned(), topic: Some("trip".to_owned()), stream: true, usage: true };
        assert_eq!(read_value(&body).unwrap(), asked);
        let plain = Asked { text: "hi".to_owned(), topic: None, stream: false, usage: false };
        assert_eq!(read_value(&with("user", Value::Null)).unwrap(), plain);
        assert_eq!(read_value(&with("user", json!(""))).unwrap(), plain);
    }

    #[test]
    fn what_would_be_answered_otherwise_is_refused_with_a_hint() {
        let message = |content: Value| with("messages", json!([{"role": "user", "content": content}]));
        let role = |role: &str| with("messages", json!([{"role": role, "content": "x"}]));
        for body in [
            with("n", json!(2)),
            with("n", json!(0)),
            with("tools", json!([{"type": "function"}])),
            with("functions", json!([{}])),
            with("tools", json!("all")),
            with("response_format", json!({"type": "json_object"})),
            with("response_format", json!({"type": "json_schema", "json_schema": {}})),
            with("response_format", json!("json")),
            message(json!([{"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}])),
            message(json!([{"type": "text", "text": "x"}, {"type": "input_audio"}])),
            message(json!([])),
            message(Value::Null),
            message(json!(7)),
            role("assistant"),
            role("tool"),
        ] {
            let error = read_value(&body).unwrap_err();
            assert_eq!(error.code(), Code::Unsupported, "{body}");
            assert!(error.to_api().hint.is_some(), "{body}");
        }
        for body in [
            with("messages", json!([])),
            with("messages", json!("hi")),
            with("stream", json!("yes")),
            with("user", json!(7)),
        ] {
            assert_eq!(read_value(&body).unwrap_err().code(), Code::Invalid, "{body}");
        }
        for text in ["", "[]", "{", "null", "\"hi\"", "{\"messages\": [}"] {
            assert_eq!(read(text.as_bytes()).unwrap_err().code(), Code::Invalid, "{text}");
        }
    }
}
