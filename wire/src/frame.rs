//! Frames: the one framing of every WebSocket of Agentbot, and the payloads of the agent's protocol.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{AgentName, ApiError, InstanceId};

/// The longest frame in bytes, in both directions.
pub const MAX_FRAME: usize = 256 * 1024;

/// The WebSocket subprotocol that an agent asks for at `GET /agent/ws`.
pub const AGENT_PROTOCOL: &str = "agentbot.agent.v1";

/// The WebSocket subprotocol that a client asks for at `GET /api/chat/ws`.
pub const CHAT_PROTOCOL: &str = "agentbot.chat.v1";

/// The newest version of both protocols: the agent's and the client's.
pub const PROTOCOL_VERSION: u32 = 1;

/// Method names of requests.
pub mod method {
    /// Agent to daemon, first frame: [`crate::Hello`], answered with [`crate::Welcome`].
    pub const HELLO: &str = "agent.hello";
    /// Daemon to agent: finish what is under way; the container is about to be stopped.
    pub const DRAIN: &str = "agent.drain";
    /// Daemon to agent: [`crate::TurnRun`]; the answer says that the agent has it.
    pub const TURN_RUN: &str = "turn.run";
    /// Daemon to agent: [`crate::TurnCancel`].
    pub const TURN_CANCEL: &str = "turn.cancel";
    /// Agent to daemon and client to daemon: [`crate::HistoryParams`], answered with [`crate::History`].
    pub const CHAT_HISTORY: &str = "chat.history";
    /// Agent to daemon: [`crate::MemoryGet`], answered with [`crate::MemoryFound`].
    pub const MEMORY_GET: &str = "memory.get";
    /// Agent to daemon: [`crate::MemoryPut`], answered with [`crate::MemorySaved`].
    pub const MEMORY_PUT: &str = "memory.put";
    /// Agent to daemon: [`crate::MemorySearch`], answered with [`crate::MemoryFound`].
    pub const MEMORY_SEARCH: &str = "memory.search";
    /// Client to daemon, first frame: [`crate::Connect`], answered with [`crate::Connected`].
    pub const CONNECT: &str = "connect";
    /// Client to daemon: [`crate::ChatSend`], answered with [`crate::ChatSent`].
    pub const CHAT_SEND: &str = "chat.send";
    /// Client to daemon: [`crate::ChatSubscribe`], answered with [`crate::ChatSubscribed`].
    pub const CHAT_SUBSCRIBE: &str = "chat.subscribe";
    /// Client to daemon: [`crate::ChatTurn`], answered with [`crate::TurnView`].
    pub const CHAT_ABORT: &str = "chat.abort";
    /// Client to daemon: [`crate::ChatTurn`], answered with the [`crate::TurnView`] of the new turn.
    pub const CHAT_RETRY: &str = "chat.retry";
}

/// Names of events.
pub mod event {
    /// Agent to daemon: [`crate::Beat`].
    pub const BEAT: &str = "agent.beat";
    /// Agent to daemon: [`crate::TurnDelta`].
    pub const TURN_DELTA: &str = "turn.delta";
    /// Agent to daemon: [`crate::TurnTool`].
    pub const TURN_TOOL: &str = "turn.tool";
    /// Agent to daemon: [`crate::TurnDone`].
    pub const TURN_DONE: &str = "turn.done";
    /// Agent to daemon: [`crate::TurnFailed`].
    pub const TURN_FAILED: &str = "turn.failed";
    /// Daemon to client: [`crate::Message`], stored, with its `seq`.
    pub const CHAT_MESSAGE: &str = "chat.message";
    /// Daemon to client: [`crate::ChatDelta`].
    pub const CHAT_DELTA: &str = "chat.delta";
    /// Daemon to client: [`crate::ChatTool`].
    pub const CHAT_TOOL: &str = "chat.tool";
    /// Daemon to client: [`crate::ChatDone`].
    pub const CHAT_DONE: &str = "chat.done";
    /// Daemon to client: [`crate::AgentPhase`], with the `seq` of the event log.
    pub const AGENT_PHASE: &str = "agent.phase";
    /// Daemon to client, its last event: [`crate::Bye`].
    pub const BYE: &str = "bye";
}

/// One text frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Frame {
    /// A request; the other side owes one `res` with the same id.
    Req {
        /// Chosen by the sender, unique among its open requests; at most 64 characters.
        id: String,
        /// What is asked for.
        method: String,
        /// Shaped by the method.
        #[serde(default, skip_serializing_if = "Value::is_null")]
        params: Value,
    },
    /// The answer to a request.
    Res {
        /// The request's id.
        id: String,
        /// Whether it succeeded.
        ok: bool,
        /// Shaped by the method; absent when it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payload: Option<Value>,
        /// Absent when it succeeded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<ApiError>,
    },
    /// Something that happened; nobody answers.
    Event {
        /// What happened.
        event: String,
        /// Position in a stored sequence, absent on events that are not stored.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        /// Shaped by the event.
        #[serde(default, skip_serializing_if = "Value::is_null")]
        payload: Value,
    },
}

/// Why a text is no frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// Longer than [`MAX_FRAME`].
    TooLong,
    /// Not JSON of a frame's shape.
    Shape(String),
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLong => write!(f, "a frame has at most {MAX_FRAME} bytes"),
            Self::Shape(why) => write!(f, "not a frame: {why}"),
        }
    }
}

impl std::error::Error for FrameError {}

const MAX_ID: usize = 64;

impl Frame {
    /// Reads one frame.
    ///
    /// # Errors
    /// When the text is too long, not JSON, or not of a frame's shape.
    pub fn parse(text: &str) -> Result<Self, FrameError> {
        if text.len() > MAX_FRAME {
            return Err(FrameError::TooLong);
        }
        let frame: Self = serde_json::from_str(text).map_err(|error| FrameError::Shape(error.to_string()))?;
        match &frame {
            Self::Req { id, .. } | Self::Res { id, .. } if id.len() > MAX_ID => {
                Err(FrameError::Shape(format!("an id has at most {MAX_ID} characters")))
            }
            _ => Ok(frame),
        }
    }

    /// The frame as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        // Strings, numbers and JSON values only: serialising them cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// A request.
    #[must_use]
    pub fn request(id: &str, method: &str, params: Value) -> Self {
        Self::Req { id: id.to_owned(), method: method.to_owned(), params }
    }

    /// A successful answer.
    #[must_use]
    pub fn answer(id: &str, payload: Value) -> Self {
        Self::Res { id: id.to_owned(), ok: true, payload: Some(payload), error: None }
    }

    /// A refusal.
    #[must_use]
    pub fn refusal(id: &str, error: ApiError) -> Self {
        Self::Res { id: id.to_owned(), ok: false, payload: None, error: Some(error) }
    }

    /// An event that is not stored.
    #[must_use]
    pub fn event(event: &str, payload: Value) -> Self {
        Self::Event { event: event.to_owned(), seq: None, payload }
    }
}

/// Params of `agent.hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The newest version of the protocol that the agent speaks, from 1 on.
    #[serde(default = "one")]
    pub protocol: u32,
    /// Content of the file `nonce` in the socket directory.
    pub nonce: String,
    /// The runtime's name; at most 64 characters.
    pub runtime: String,
    /// The runtime's version; at most 64 characters.
    pub version: String,
    /// What the runtime can do, as short words; at most 32 of 64 characters.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// A word of at most 64 characters that is another one each time the agent's process starts. By it the daemon knows
    /// an agent that only lost its connection from one that died, and lets its turns go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
}

fn one() -> u32 {
    1
}

/// Payload of the answer to `agent.hello`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version of the protocol that both will speak: the newest that both know.
    pub protocol: u32,
    /// Whose agent this is; absent while the slot has no instance yet.
    pub instance: Option<InstanceId>,
    /// The agent's name.
    #[serde(default)]
    pub name: Option<AgentName>,
    /// The model that its calls mean when they name none: `<provider>/<model>` or an alias.
    #[serde(default)]
    pub model: Option<String>,
    /// The agent's configuration.
    pub config: Value,
    /// What the daemon expects.
    pub policy: AgentPolicy,
}

/// What the daemon expects of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentPolicy {
    /// The longest frame in bytes.
    pub max_frame: usize,
    /// Time between two beats in milliseconds.
    pub beat_ms: u64,
}

/// Payload of the event `agent.beat`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// How long the agent runs, in milliseconds.
    pub uptime_ms: u64,
    /// Turns under way.
    #[serde(default)]
    pub turns: u32,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_kind_of_frame_has_the_documented_shape() {
        let request = Frame::request("1", "agent.hello", serde_json::json!({"nonce": "n"}));
        assert_eq!(request.to_text(), r#"{"type":"req","id":"1","method":"agent.hello","params":{"nonce":"n"}}"#);
        assert_eq!(
            Frame::answer("1", serde_json::json!({})).to_text(),
            r#"{"type":"res","id":"1","ok":true,"payload":{}}"#
        );
        assert_eq!(
            Frame::event("agent.beat", serde_json::json!({"uptime_ms": 5})).to_text(),
            r#"{"type":"event","event":"agent.beat","payload":{"uptime_ms":5}}"#
        );
    }

    #[test]
    fn the_longest_frame_passes_and_one_byte_more_does_not() {
        let frame = |fill: usize| format!(r#"{{"type":"event","event":"x","payload":"{}"}}"#, "a".repeat(fill));
        let room = MAX_FRAME - frame(0).len();
        assert!(Frame::parse(&frame(room)).is_ok());
        assert_eq!(Frame::parse(&frame(room + 1)), Err(FrameError::TooLong));
    }

    #[test]
    fn a_long_id_is_refused() {
        let frame = |length: usize| Frame::request(&"i".repeat(length), "m", Value::Null).to_text();
        assert!(Frame::parse(&frame(MAX_ID)).is_ok());
        assert!(Frame::parse(&frame(MAX_ID + 1)).is_err());
    }

    #[test]
    fn nesting_without_end_is_an_error_not_a_crash() {
        assert!(Frame::parse(&"[".repeat(100_000)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,400}") {
            let _ = Frame::parse(&text);
        }

        #[test]
        fn a_frame_reads_back(id in "[a-z0-9]{1,64}", method in "[a-z.]{1,20}", number: i64) {
            let frame = Frame::request(&id, &method, serde_json::json!({"n": number}));
            prop_assert_eq!(Frame::parse(&frame.to_text()).unwrap(), frame);
        }
    }
}
