//! What chat clients are shown, and how that ends.

use agentbot_wire::{AgentPhase, Bye, ChatDelta, ChatDone, ChatTool, Message, event};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Why nothing more comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The upgrade was answered with this status.
    Status(u16),
    /// The daemon closed with this code and reason.
    Closed(u16, String),
    /// The connection broke, or was never made.
    Broken(String),
    /// Nothing came in time.
    Silent,
}

/// What a client is shown.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    /// A stored message.
    Message(Message),
    /// A piece of an answer.
    Delta(ChatDelta),
    /// A use of a tool.
    Tool(ChatTool),
    /// The end of a turn.
    Done(ChatDone),
    /// The phase of an agent.
    Phase(AgentPhase),
    /// The daemon's last word.
    Bye(Bye),
}

impl Shown {
    /// An event of the client's protocol.
    ///
    /// # Panics
    /// When the protocol has no such event, or the payload is not of its shape.
    #[must_use]
    pub fn of(name: &str, payload: Value) -> Self {
        match name {
            event::CHAT_MESSAGE => Self::Message(shape(name, payload)),
            event::CHAT_DELTA => Self::Delta(shape(name, payload)),
            event::CHAT_TOOL => Self::Tool(shape(name, payload)),
            event::CHAT_DONE => Self::Done(shape(name, payload)),
            event::AGENT_PHASE => Self::Phase(shape(name, payload)),
            event::BYE => Self::Bye(shape(name, payload)),
            other => panic!("no such event: {other}"),
        }
    }
}

pub(crate) fn shape<T: DeserializeOwned>(name: &str, payload: Value) -> T {
    serde_json::from_value(payload).unwrap_or_else(|error| panic!("{name}: {error}"))
}
