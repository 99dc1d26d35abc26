//! What goes into the lanes and what comes out of them.

use std::time::Duration;

use agentbot_wire::{ApiError, ConversationId, MessageId, SlotId, ToolCall, TurnId, TurnStatus};

/// An agent's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Where it runs.
    pub slot: SlotId,
    /// Which of its connections.
    pub connection: u64,
    /// Which of its processes, if it says so.
    pub boot: Option<String>,
}

/// How long a turn may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Without any sign of it.
    pub idle: Duration,
    /// Altogether, from when the agent was given it.
    pub total: Duration,
}

/// How a turn ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The turn.
    pub turn: TurnId,
    /// What it was to answer.
    pub message: MessageId,
    /// Its conversation.
    pub conversation: ConversationId,
    /// How.
    pub status: TurnStatus,
    /// The answer, or what there is of it.
    pub answer: String,
    /// Why there is none.
    pub error: Option<ApiError>,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Give the turn to the agent, and tell how it answered.
    Offer { turn: TurnId, attempt: u32, to: Presence },
    /// Tell the agent that nobody waits for the turn.
    Cancel { turn: TurnId, to: Presence },
    /// Write down that this process of the agent has the turn.
    Taken { turn: TurnId, attempt: u32, boot: Option<String> },
    /// Write down that the turn showed something.
    Shown { turn: TurnId },
    /// Publish a piece of the answer.
    Delta { turn: TurnId, conversation: ConversationId, index: u64, text: String, snapshot: bool },
    /// Publish the use of a tool.
    Tool { turn: TurnId, conversation: ConversationId, call: ToolCall },
    /// Write the end down, publish it, and say so with [`Lanes::ended`].
    End(End),
}
