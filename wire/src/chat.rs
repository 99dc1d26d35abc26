//! Chat as clients see it: messages, conversations, turns, and the payloads of the client's protocol.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::words::words;
use crate::{AgentName, ApiError, ConversationId, InstanceId, MessageId, Phase, ToolCall, TurnId};

/// The longest message in bytes of UTF-8.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// The longest topic in characters.
pub const MAX_TOPIC: usize = 128;
/// The topic of the conversation that is meant when none is named.
pub const MAIN_TOPIC: &str = "main";
/// The longest idempotency key of a message, in visible ASCII characters.
pub const MAX_CHAT_KEY: usize = 255;
/// Messages of one page of a history when nobody says how many.
pub const HISTORY_PAGE: u32 = 50;
/// The most messages of one page of a history.
pub const MAX_HISTORY_PAGE: u32 = 100;

words! {
    /// Who wrote a message.
    Sender {
        /// Whoever talks to the agent.
        User = "user",
        /// The agent.
        Agent = "agent",
        /// The daemon: why a turn has no answer.
        System = "system",
    }
}

words! {
    /// The way by which a message came.
    Platform {
        /// `POST /api/chat`, or an OpenAI-shaped call.
        Http = "http",
        /// A WebSocket.
        Ws = "ws",
        /// `agentbotctl`.
        Ctl = "ctl",
        /// The agent's link.
        Agent = "agent",
        /// A scheduled turn.
        Heartbeat = "heartbeat",
    }
}

words! {
    /// How far a turn is.
    TurnStatus {
        /// Waits for its conversation's earlier turns, or for the agent.
        Queued = "queued",
        /// The agent has it.
        Running = "running",
        /// Answered.
        Done = "done",
        /// The agent gave up, did not answer in time, or broke a rule.
        Failed = "failed",
        /// The agent stopped after it had shown output or used a tool; `chat.retry` asks again.
        Interrupted = "interrupted",
        /// Ended by `chat.abort`, or with its agent.
        Cancelled = "cancelled",
    }
}

impl TurnStatus {
    /// Whether nothing more comes.
    #[must_use]
    pub fn is_ended(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// One stored message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// The agent whose conversation it is.
    #[serde(rename = "agentId")]
    pub agent: InstanceId,
    /// The conversation.
    pub conversation: ConversationId,
    /// Who wrote it.
    pub sender: Sender,
    /// Its text: at most [`MAX_MESSAGE`] bytes, without control characters other than newline and tab.
    pub content: String,
    /// When it was stored.
    pub timestamp: Timestamp,
    /// The way by which it came.
    pub platform: Platform,
    /// Its place in the conversation: 1, 2, 3 … without gaps.
    pub seq: u64,
    /// The turn that it began or ended.
    pub turn: Option<TurnId>,
}

/// A conversation as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationView {
    /// Its id.
    pub id: ConversationId,
    /// The agent it is held with.
    #[serde(rename = "agentId")]
    pub agent: InstanceId,
    /// Its name, unique for the agent.
    pub topic: String,
    /// The place of its newest message; 0 while there is none.
    pub seq: u64,
    /// When it began.
    #[serde(rename = "createdAt")]
    pub created_at: Timestamp,
    /// When its newest message was stored.
    #[serde(rename = "updatedAt")]
    pub updated_at: Timestamp,
}

/// `GET /api/conversations?agentId=`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationList {
    /// The conversations, most recently used first.
    pub conversations: Vec<ConversationView>,
    /// How many are listed.
    pub count: usize,
}

/// `GET /api/agents/:id/messages`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageList {
    /// One page, newest first.
    pub messages: Vec<Message>,
    /// How many messages the agent has in all its conversations.
    pub total: u64,
    /// The size of the page that was asked for.
    pub limit: u32,
    /// How many newer messages were passed over.
    pub offset: u64,
    /// Always `ok`.
    pub status: String,
}

/// `GET /api/chat`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatLog {
    /// The newest messages of one conversation, oldest first.
    pub messages: Vec<Message>,
    /// How many are listed.
    pub count: usize,
}

/// Body of `POST /api/chat`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatRequest {
    /// The message.
    pub message: String,
    /// The conversation by name, made on first use; [`MAIN_TOPIC`] when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The agent, by id or name; the caller's only one when absent.
    #[serde(default, rename = "agentId", skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
}

/// Answer of `POST /api/chat` once the agent has answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatReply {
    /// The id of the message that was sent.
    pub id: MessageId,
    /// The message that was sent.
    pub message: String,
    /// The conversation's name.
    pub topic: String,
    /// Always `sent`.
    pub status: String,
    /// When the message was stored.
    pub timestamp: Timestamp,
    /// The agent's answer.
    pub reply: String,
    /// The conversation.
    pub conversation: ConversationId,
    /// The turn.
    pub turn: TurnId,
    /// The place of the answer in the conversation.
    pub seq: u64,
}

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
    /// The conversation by name, made on first use; [`MAIN_TOPIC`] when neither is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The message.
    pub text: String,
    /// The same key sends the message once, however often it is asked; at most [`MAX_CHAT_KEY`] characters.
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
    /// At most so many, from 1 to [`MAX_HISTORY_PAGE`]; [`HISTORY_PAGE`] when absent.
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
