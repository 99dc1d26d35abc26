//! What the agent says, as pure decisions.

use std::time::Duration;

use agentbot_wire::{AgentPolicy, ApiError, Beat, Code, Frame, Hello, PROTOCOL_VERSION, Welcome, event, method};
use serde_json::Value;

use super::Ended;

/// The runtime's name in `agent.hello`.
const RUNTIME: &str = "agentbot-agent";

/// What this runtime can do.
const CAPABILITIES: [&str; 3] = ["chat", "drain", "probe"];

/// The id of the request `agent.hello`.
const HELLO_ID: &str = "hello";

/// The beat asked for is kept within these bounds, whatever the daemon says.
const BEAT_BOUNDS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(60));

/// Longest part of a method's name that is said back in a refusal, in bytes.
const MAX_ECHO: usize = 64;

/// The first frame of a link.
#[must_use]
pub fn hello(nonce: String, boot: &str) -> Frame {
    let hello = Hello {
        protocol: PROTOCOL_VERSION,
        nonce,
        runtime: RUNTIME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
        boot: Some(boot.to_owned()),
    };
    // Numbers, strings and a list of strings: they always have a JSON value.
    Frame::request(HELLO_ID, method::HELLO, serde_json::to_value(hello).unwrap_or_default())
}

/// A beat.
#[must_use]
pub fn beat(uptime: Duration, turns: u32) -> Frame {
    let beat = Beat { uptime_ms: u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX), turns };
    // Two numbers: they always have a JSON value.
    Frame::event(event::BEAT, serde_json::to_value(beat).unwrap_or_default())
}

/// Reads a frame as the answer to hello; `None` when it is another frame.
///
/// # Errors
/// When the daemon refuses, or welcomes in a way that this agent does not understand.
pub fn welcome(frame: &Frame) -> Option<Result<Welcome, Ended>> {
    let Frame::Res { id, ok, payload, error } = frame else { return None };
    if id != HELLO_ID {
        return None;
    }
    if !ok {
        return Some(Err(Ended::Refused(match error {
            Some(ApiError { code, message, hint: Some(hint) }) => format!("{message} ({code}; {hint})"),
            Some(ApiError { code, message, hint: None }) => format!("{message} ({code})"),
            None => "no reason given".to_owned(),
        })));
    }
    let payload = payload.clone().unwrap_or(Value::Null);
    Some(match serde_json::from_value::<Welcome>(payload) {
        Ok(welcome) if welcome.protocol == PROTOCOL_VERSION => Ok(welcome),
        Ok(welcome) => Err(Ended::Refused(format!(
            "it speaks version {} of the protocol, this agent version {PROTOCOL_VERSION}",
            welcome.protocol
        ))),
        Err(error) => Err(Ended::Refused(format!("its welcome cannot be read: {error}"))),
    })
}

/// The refusal of a method that this agent does not know.
#[must_use]
pub fn unknown(id: &str, method: &str) -> Frame {
    let name = &method[..method.floor_char_boundary(MAX_ECHO)];
    Frame::refusal(
        id,
        ApiError {
            code: Code::Unsupported,
            message: format!("{RUNTIME} {} does not know the method {name}", env!("CARGO_PKG_VERSION")),
            hint: Some("update the agent to an image that knows it".to_owned()),
        },
    )
}

/// The time between two beats.
#[must_use]
pub fn beat_period(policy: &AgentPolicy) -> Duration {
    Duration::from_millis(policy.beat_ms).clamp(BEAT_BOUNDS.0, BEAT_BOUNDS.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentbot_wire::MAX_FRAME;
    use serde_json::json;

    fn policy(beat_ms: u64) -> AgentPolicy {
        AgentPolicy { max_frame: MAX_FRAME, beat_ms }
    }

    fn welcoming(protocol: u32) -> Frame {
        let policy = policy(5000);
        let welcome = Welcome { protocol, instance: None, name: None, model: None, config: json!({}), policy };
        Frame::answer(HELLO_ID, serde_json::to_value(welcome).unwrap())
    }

    #[test]
    fn hello_names_runtime_version_and_nonce() {
        let Frame::Req { method, params, .. } = hello("n".to_owned(), "b") else { panic!("not a request") };
        let hello: Hello = serde_json::from_value(params).unwrap();
        assert_eq!(method, "agent.hello");
        assert_eq!((hello.protocol, hello.nonce.as_str(), hello.runtime.as_str()), (1, "n", "agentbot-agent"));
        assert_eq!((hello.boot.as_deref(), hello.capabilities.contains(&"chat".to_owned())), (Some("b"), true));
        assert_eq!(hello.version, env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn a_beat_says_how_long_the_agent_runs() {
        assert_eq!(
            beat(Duration::from_millis(1500), 2).to_text(),
            r#"{"type":"event","event":"agent.beat","payload":{"turns":2,"uptime_ms":1500}}"#
        );
    }

    #[test]
    fn a_welcome_is_read() {
        assert_eq!(welcome(&welcoming(1)).unwrap().unwrap().policy.beat_ms, 5000);
    }

    #[test]
    fn a_welcome_in_another_protocol_is_a_refusal() {
        assert!(matches!(welcome(&welcoming(2)), Some(Err(Ended::Refused(why))) if why.contains("version 2")));
    }

    #[test]
    fn a_welcome_without_a_policy_is_a_refusal() {
        let frame = Frame::answer(HELLO_ID, json!({"protocol": 1}));
        assert!(matches!(welcome(&frame), Some(Err(Ended::Refused(_)))));
    }

    #[test]
    fn a_refused_hello_says_why_and_what_to_do() {
        let error = ApiError {
            code: Code::Unauthenticated,
            message: "the nonce is not this slot's".to_owned(),
            hint: Some("restart the agent".to_owned()),
        };
        let Some(Err(Ended::Refused(why))) = welcome(&Frame::refusal(HELLO_ID, error)) else { panic!("not refused") };
        assert_eq!(why, "the nonce is not this slot's (unauthenticated; restart the agent)");
    }

    #[test]
    fn other_frames_are_no_answer_to_hello() {
        assert!(welcome(&Frame::answer("another", json!({}))).is_none());
        assert!(welcome(&Frame::event("x", Value::Null)).is_none());
    }

    #[test]
    fn an_unknown_request_is_refused_as_unsupported() {
        let Frame::Res { id, ok: false, error: Some(error), .. } = unknown("8", "agent.dance") else {
            panic!("not refused")
        };
        assert_eq!((id.as_str(), error.code), ("8", Code::Unsupported));
        assert!(error.message.contains("agent.dance"));
    }

    #[test]
    fn the_refusal_of_a_huge_method_is_still_a_frame() {
        assert!(unknown("9", &"é".repeat(MAX_FRAME / 2 - 100)).to_text().len() < 1024);
    }

    #[test]
    fn the_beat_is_bounded_on_both_sides() {
        let period = |ms| beat_period(&policy(ms)).as_millis();
        assert_eq!(
            [period(0), period(10), period(5000), period(60_000), period(u64::MAX)],
            [10, 10, 5000, 60_000, 60_000]
        );
    }
}
