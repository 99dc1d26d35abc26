//! The client's protocol: payloads of the frames between a client and the daemon.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{AgentName, ApiError, ConversationId, InstanceId, Message, MessageId, Phase, ToolCall, TurnId, TurnStatus};

/// Params of `connect`, the first frame of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connect {
    /// The newest version of the protocol that the client speaks, from 1 on.
    #[serde(default = "newest")]
    pub version: u32,
    /// The client's name and version, for the log; at most 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

fn newest() -> u32 {
    crate::PROTOCOL_VERSION
}

/// Payload of the answer to `connect`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connected {
    /// The version that both will speak: the newest that both know.
    pub version: u32,
    /// What the daemon expects and does.
    pub policy: ClientPolicy,
    /// Who the daemon takes the client for: `operator:<uid>` or `gateway:<agent>`.
    pub actor: String,
    /// The one agent that a gateway token's holder may talk to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<InstanceId>,
}

/// Bounds of a client's connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientPolicy {
    /// The longest frame in bytes.
    pub max_frame: usize,
    /// How often the daemon pings, in milliseconds; three unanswered close the connection.
    pub beat_ms: u64,
}

/// Params of `chat.send`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatSend {
    /// The agent, by id or name; may be absent where there is only one that is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The conversation by id; it decides the agent too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<ConversationId>,
    /// The conversation by name, made on first use; [`crate::MAIN_TOPIC`] when neither is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The message.
    pub text: String,
    /// The same key sends the message once, however often it is asked; at most [`crate::MAX_CHAT_KEY`] characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// Payload of the answer to `chat.send`: the message is on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatSent {
    /// The message's id.
    pub message: MessageId,
    /// Its conversation.
    pub conversation: ConversationId,
    /// Its place there.
    pub seq: u64,
    /// The turn that will answer it.
    pub turn: TurnId,
}

/// Params of `chat.subscribe`: one conversation, or all of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatSubscribe {
    /// One conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<ConversationId>,
    /// With `conversation`: what came after this place is sent first. Absent: only what comes from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_seq: Option<u64>,
    /// All conversations of an agent, by id or name, also those that begin later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// With `agent`: the last place seen of each conversation; one that is not named is sent from its beginning.
    /// Absent: only what comes from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursors: Option<BTreeMap<ConversationId, u64>>,
}

/// Payload of the answer to `chat.subscribe`; events follow it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatSubscribed {
    /// The newest place of each conversation at this moment.
    pub cursors: BTreeMap<ConversationId, u64>,
    /// Turns that have not ended.
    pub turns: Vec<TurnView>,
}

/// Params of `chat.abort` and `chat.retry`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatTurn {
    /// The turn.
    pub turn: TurnId,
}

/// A turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnView {
    /// Its id.
    pub turn: TurnId,
    /// Its conversation.
    pub conversation: ConversationId,
    /// The message that it answers.
    pub message: MessageId,
    /// How far it is.
    pub status: TurnStatus,
    /// Why it has no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
}

/// Params of `chat.history`: the messages before or after a place, or the newest ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryParams {
    /// The conversation.
    pub conversation: ConversationId,
    /// Messages before this place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_seq: Option<u64>,
    /// Messages after this place; not together with `before_seq`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_seq: Option<u64>,
    /// At most so many, from 1 to [`crate::MAX_HISTORY_PAGE`]; [`crate::HISTORY_PAGE`] when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Payload of the answer to `chat.history`. A page that would not fit a frame is shorter than was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// Whether there are more in the direction that was asked for.
    pub more: bool,
}

/// Payload of the event `chat.delta`: a piece of an answer under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatDelta {
    /// The agent.
    pub agent: InstanceId,
    /// The conversation.
    pub conversation: ConversationId,
    /// The turn.
    pub turn: TurnId,
    /// Counts the turn's pieces from 0 on.
    pub index: u64,
    /// The piece.
    pub text: String,
    /// Whether `text` is the whole answer up to and with this piece, in place of all earlier ones.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub snapshot: bool,
}

/// Payload of the event `chat.tool`: the agent uses a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatTool {
    /// The agent.
    pub agent: InstanceId,
    /// The conversation.
    pub conversation: ConversationId,
    /// The turn.
    pub turn: TurnId,
    /// The call.
    pub call: ToolCall,
}

/// Payload of the event `chat.done`: the turn has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatDone {
    /// The agent.
    pub agent: InstanceId,
    /// The conversation.
    pub conversation: ConversationId,
    /// The turn.
    pub turn: TurnId,
    /// How it ended.
    pub status: TurnStatus,
    /// The last message that it left: the answer, or why there is none.
    pub message: MessageId,
    /// The place of that message.
    pub last_seq: u64,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
}

/// Payload of the event `agent.phase`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentPhase {
    /// The agent.
    pub agent: InstanceId,
    /// Its name.
    pub name: AgentName,
    /// Its phase.
    pub phase: Phase,
    /// Why, where there is more to say.
    pub reason: Option<String>,
}

/// Payload of the event `bye`: the connection ends; come back with these cursors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bye {
    /// Why, for a person.
    pub reason: String,
    /// The last place sent of each conversation that was subscribed to.
    pub cursors: BTreeMap<ConversationId, u64>,
}
