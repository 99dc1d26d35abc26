//! What a client asks: frames read into requests. Pure.

use agentbot_wire::{
    ChatSend, ChatSubscribe, ChatTurn, Code, Connect, Frame, HistoryParams, MAX_MESSAGE, PROTOCOL_VERSION, Platform,
    method,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::identity::Actor;

/// The longest name of a client, in characters.
pub const MAX_CLIENT: usize = 64;
/// What the name of our own command line begins with.
const CTL: &str = "agentbotctl";
/// Bytes that no name of an agent or conversation and no key can have.
const MAX_NAME: usize = 1_024;
/// The longest part of a client's words that is said back to it, in characters.
const MAX_ECHO: usize = 64;

/// A request after `connect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `chat.send`.
    Send(ChatSend),
    /// `chat.subscribe`.
    Subscribe(ChatSubscribe),
    /// `chat.history`.
    History(HistoryParams),
    /// `chat.abort`.
    Abort(ChatTurn),
    /// `chat.retry`.
    Retry(ChatTurn),
}

/// Reads a request; `agent` is meant where it names neither agent nor conversation.
///
/// # Errors
/// `unsupported` for a method that nobody knows; `invalid` for params of another shape.
pub fn read(method: &str, params: Value, agent: Option<&str>) -> Result<Request> {
    let meant = |named: Option<String>, elsewhere: bool| {
        named.or_else(|| if elsewhere { None } else { agent.map(str::to_owned) })
    };
    Ok(match method {
        method::CHAT_SEND => {
            let send: ChatSend = shaped(params)?;
            check(&send)?;
            let agent = meant(send.agent, send.conversation.is_some());
            Request::Send(ChatSend { agent, ..send })
        }
        method::CHAT_SUBSCRIBE => {
            let subscribe: ChatSubscribe = shaped(params)?;
            let agent = meant(subscribe.agent, subscribe.conversation.is_some());
            Request::Subscribe(ChatSubscribe { agent, ..subscribe })
        }
        method::CHAT_HISTORY => Request::History(shaped(params)?),
        method::CHAT_ABORT => Request::Abort(shaped(params)?),
        method::CHAT_RETRY => Request::Retry(shaped(params)?),
        method::CONNECT => {
            return Err(Error::new(Code::Invalid, "`connect` was said already").hint("it is the first frame only"));
        }
        other => {
            let shown: String = other.chars().filter(|c| !c.is_control()).take(MAX_ECHO).collect();
            return Err(Error::new(Code::Unsupported, format!("no method `{shown}`"))
                .hint("the chat socket is described in docs/API.md"));
        }
    })
}

/// What waits for its turn is short: the rest of the rules is the core's to check.
fn check(send: &ChatSend) -> Result<()> {
    if send.text.len() > MAX_MESSAGE {
        let error = format!("the message has {} bytes, and {MAX_MESSAGE} are allowed", send.text.len());
        return Err(Error::new(Code::TooLarge, error).hint("send it in parts, or as a file in the workspace"));
    }
    for (field, value) in [("agent", &send.agent), ("topic", &send.topic), ("idempotency_key", &send.idempotency_key)] {
        if value.as_ref().is_some_and(|value| value.len() > MAX_NAME) {
            return Err(Error::invalid(field, format!("is longer than {MAX_NAME} bytes"))
                .hint("docs/API.md says how long each may be"));
        }
    }
    Ok(())
}

fn shaped<T: DeserializeOwned>(params: Value) -> Result<T> {
    // A derived reader would take a list as an object's fields in order.
    let params = match params {
        Value::Null => Value::Object(serde_json::Map::new()),
        Value::Object(_) => params,
        _ => return Err(Error::invalid("params", "is not an object").hint("docs/API.md shows each request")),
    };
    serde_path_to_error::deserialize(params).map_err(|why| {
        let field = why.path().to_string();
        let field = if field == "." { "params" } else { &field };
        let rule: String = why.inner().to_string().chars().take(4 * MAX_ECHO).collect();
        Error::invalid(field, rule).hint("docs/API.md shows each request")
    })
}

/// A frame that is no valid `connect`: its id, where there is one to answer, and what is wrong.
#[derive(Debug)]
pub struct NoConnect {
    /// The request's id.
    pub id: Option<String>,
    /// What is wrong.
    pub error: Error,
}

/// Reads the first frame.
///
/// # Errors
/// It is no valid `connect`.
pub fn read_connect(frame: Frame) -> Result<(String, Connect), NoConnect> {
    let first = || Error::new(Code::Invalid, "the first frame is not `connect`").hint("docs/API.md shows it");
    let Frame::Req { id, method, params } = frame else { return Err(NoConnect { id: None, error: first() }) };
    let refuse = |error| NoConnect { id: Some(id.clone()), error };
    if method != method::CONNECT {
        return Err(refuse(first()));
    }
    let connect: Connect = shaped(params).map_err(refuse)?;
    if connect.version == 0 {
        let error = Error::new(Code::Unsupported, format!("version: this daemon speaks 1 to {PROTOCOL_VERSION}"));
        return Err(refuse(error.hint("say the newest version that the client speaks")));
    }
    let named = |client: &String| client.chars().count() <= MAX_CLIENT && !client.chars().any(char::is_control);
    if !connect.client.as_ref().is_none_or(named) {
        let rule = format!("at most {MAX_CLIENT} characters, and no control characters");
        return Err(refuse(Error::invalid("client", rule).hint("name and version, such as `example/1.0`")));
    }
    Ok((id, connect))
}

/// The way by which this client's messages come.
pub fn platform(actor: &Actor, connect: &Connect) -> Platform {
    let ours = connect.client.as_ref().is_some_and(|client| client.starts_with(CTL));
    if ours && matches!(actor, Actor::Operator { .. }) { Platform::Ctl } else { Platform::Ws }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CONVERSATION: &str = "cnv_01kak2m5v5e7qrf9v3n6m8t0zx";

    #[test]
    fn the_agent_of_the_url_is_meant_where_nothing_else_is() {
        let agent = |method: &str, params: Value| match read(method, params, Some("helper")).unwrap() {
            Request::Send(send) => send.agent,
            Request::Subscribe(subscribe) => subscribe.agent,
            other => panic!("{other:?}"),
        };
        for (method, text) in [("chat.send", "text"), ("chat.subscribe", "ignored")] {
            assert_eq!(agent(method, json!({text: "x"})).as_deref(), Some("helper"), "{method}");
            assert_eq!(agent(method, json!({text: "x", "agent": "other"})).as_deref(), Some("other"), "{method}");
            assert_eq!(agent(method, json!({text: "x", "conversation": CONVERSATION})), None, "{method}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_request_is_named() {
        for (method, params, code, said) in [
            ("chat.send", json!({}), Code::Invalid, "text"),
            ("chat.send", json!({"text": 1}), Code::Invalid, "text: invalid type"),
            ("chat.send", json!(["a"]), Code::Invalid, "params"),
            ("chat.history", Value::Null, Code::Invalid, "conversation"),
            ("chat.history", json!({"conversation": "x"}), Code::Invalid, "conversation: an id of the form cnv_"),
            ("chat.abort", json!({"turn": CONVERSATION}), Code::Invalid, "turn: an id of the form trn_"),
            ("connect", json!({}), Code::Invalid, "already"),
            ("chat.fly\n", json!({}), Code::Unsupported, "no method `chat.fly`"),
        ] {
            let error = read(method, params, None).unwrap_err();
            assert!(error.code() == code && error.message().contains(said), "{method}: {error}");
            assert!(error.to_api().hint.is_some(), "{method}");
        }
        let long = read("chat.send", json!({"text": ["x".repeat(10_000)]}), None).unwrap_err();
        assert!(long.message().len() < 1_000);
    }

    #[test]
    fn what_is_too_long_is_seen_when_it_is_read() {
        let text = |length: usize| read("chat.send", json!({"text": "x".repeat(length)}), None).map_err(|no| no.code());
        assert!(text(MAX_MESSAGE).is_ok());
        assert_eq!(text(MAX_MESSAGE + 1), Err(Code::TooLarge));
        for field in ["agent", "topic", "idempotency_key"] {
            let named = |length: usize| {
                let mut params = json!({"text": "x"});
                params[field] = json!("x".repeat(length));
                read("chat.send", params, None).map_err(|no| no.code())
            };
            assert!(named(MAX_NAME).is_ok(), "{field}");
            assert_eq!(named(MAX_NAME + 1), Err(Code::Invalid), "{field}");
        }
    }

    #[test]
    fn connect_has_its_rules() {
        let connect =
            |params: Value| read_connect(Frame::request("1", "connect", params)).map_err(|no| no.error.code());
        assert_eq!(connect(Value::Null).unwrap().1.version, PROTOCOL_VERSION);
        assert_eq!(connect(json!({"version": 7, "client": "x".repeat(MAX_CLIENT)})).unwrap().1.version, 7);
        assert_eq!(connect(json!({"version": 0})), Err(Code::Unsupported));
        assert_eq!(connect(json!({"version": "1"})), Err(Code::Invalid));
        assert_eq!(connect(json!({"client": "x".repeat(MAX_CLIENT + 1)})), Err(Code::Invalid));
        assert_eq!(connect(json!({"client": "a\u{1b}[2J"})), Err(Code::Invalid));
        let other = read_connect(Frame::request("9", "chat.send", Value::Null)).unwrap_err();
        assert_eq!(other.id.as_deref(), Some("9"));
        assert_eq!(read_connect(Frame::event("connect", Value::Null)).unwrap_err().id, None);
    }

    #[test]
    fn only_an_operators_command_line_is_the_command_line() {
        let connect = |client: &str| Connect { version: 1, client: Some(client.to_owned()) };
        let operator = Actor::Operator { uid: 0 };
        let holder = Actor::Gateway { instance: agentbot_wire::InstanceId::mint(), token: [0; 32] };
        assert_eq!(platform(&operator, &connect("agentbotctl/0.1.0")), Platform::Ctl);
        assert_eq!(platform(&operator, &connect("browser")), Platform::Ws);
        assert_eq!(platform(&operator, &Connect { version: 1, client: None }), Platform::Ws);
        assert_eq!(platform(&holder, &connect("agentbotctl/0.1.0")), Platform::Ws);
    }
}
