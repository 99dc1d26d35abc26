//! Chat as clients see it: messages, conversations, turns, and the bodies of its HTTP routes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::words::words;
use crate::{ConversationId, InstanceId, MessageId, TurnId};

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
