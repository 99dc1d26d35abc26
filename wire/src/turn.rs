//! Turns as agents see them: the payloads of the agent's protocol about turns and memory.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::words::words;
use crate::{InstanceId, Message, TurnId};

/// The longest key of a memory in characters.
pub const MAX_MEMORY_KEY: usize = 128;
/// The longest value of a memory in bytes of JSON.
pub const MAX_MEMORY_VALUE: usize = 100 * 1024;
/// Keys that one call may write.
pub const MAX_MEMORY_BULK: usize = 50;
/// Keys that one agent may have.
pub const MAX_MEMORY_KEYS: usize = 1_000;
/// The longest detail of a tool's call in characters; what is longer is cut.
pub const MAX_TOOL_DETAIL: usize = 500;

/// Params of `turn.run`: answer this message. It may come more than once: the agent drops repeats of a turn that it
/// works on, and says `turn.done` or `turn.failed` again for one that it has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnRun {
    /// The turn.
    pub turn: TurnId,
    /// The message to answer. Earlier ones of its conversation are had with `chat.history`.
    pub message: Message,
    /// 1 at first, 2 when an earlier process of the agent died with it before it had shown anything.
    pub attempt: u32,
}

/// Params of `turn.cancel`: nobody waits for that answer any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnCancel {
    /// The turn.
    pub turn: TurnId,
}

/// Payload of the event `turn.delta`: a piece of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnDelta {
    /// The turn.
    pub turn: TurnId,
    /// The piece.
    pub text: String,
    /// Whether `text` is the whole answer so far, in place of all earlier pieces: said after a new connection.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub snapshot: bool,
}

words! {
    /// How far the use of a tool is.
    ToolStatus {
        /// It works.
        Started = "started",
        /// It is done.
        Succeeded = "succeeded",
        /// It did not do what it was asked.
        Failed = "failed",
    }
}

/// One use of a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Names the call within its turn; at most 64 characters.
    pub id: String,
    /// The tool; at most 64 characters.
    pub name: String,
    /// How far it is.
    pub status: ToolStatus,
    /// A line for people; at most [`MAX_TOOL_DETAIL`] characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Payload of the event `turn.tool`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnTool {
    /// The turn.
    pub turn: TurnId,
    /// The call.
    pub call: ToolCall,
}

/// Payload of the event `turn.done`: the answer. It counts, whatever the pieces said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnDone {
    /// The turn.
    pub turn: TurnId,
    /// The whole answer.
    pub text: String,
}

/// Payload of the event `turn.failed`: there will be no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnFailed {
    /// The turn.
    pub turn: TurnId,
    /// Why.
    pub error: TurnFault,
}

/// Why an agent gave a turn up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnFault {
    /// A stable word, such as those of the daemon: `model_failed`, `interrupted`, `cancelled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// One sentence for the user.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Params of `memory.get`: one key, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryGet {
    /// The key; all of them when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// Params of `memory.put`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryPut {
    /// The key: at most [`MAX_MEMORY_KEY`] characters, none of them a control character.
    pub key: String,
    /// Any JSON of at most [`MAX_MEMORY_VALUE`] bytes; null forgets the key.
    pub value: Value,
}

/// Params of `memory.search`: keys and values that contain a text, whatever its case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemorySearch {
    /// The text.
    pub query: String,
    /// At most so many; 20 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Payload of the answers to `memory.get` and `memory.search`. What does not fit a frame is left out, and `more` says
/// so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryFound {
    /// What was found.
    pub memory: BTreeMap<String, Value>,
    /// Whether something was left out.
    pub more: bool,
}

/// Payload of the answer to `memory.put`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemorySaved {
    /// The key.
    pub key: String,
    /// Whether it has a value now; false after it was forgotten.
    pub saved: bool,
}

/// `GET /api/memory?agentId=`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryView {
    /// Everything the agent remembers.
    pub memory: BTreeMap<String, Value>,
    /// The agent.
    #[serde(rename = "agentId")]
    pub agent: InstanceId,
    /// How many keys there are.
    pub count: usize,
    /// When one was last written.
    #[serde(rename = "lastUpdated")]
    pub last_updated: Option<Timestamp>,
}

/// Body of `POST /api/memory`: one key with any JSON, or without `key` an object of at most [`MAX_MEMORY_BULK`] keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryWrite {
    /// The agent, by id or name; the caller's only one when absent.
    #[serde(default, rename = "agentId", skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The one key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The value, or the object of several.
    #[serde(default)]
    pub memory: Value,
}
