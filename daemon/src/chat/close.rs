//! What the end of a turn leaves in its conversation, in one transaction.

use agentbot_wire::{ChatDone, InstanceId, Message, Platform, Sender, TurnStatus};
use jiff::Timestamp;

use super::lanes::End;
use crate::error::Result;
use crate::identity::Actor;
use crate::store::messages::NewMessage;
use crate::store::{Connection, messages, turns};

/// What is told of a turn that was ended.
#[derive(Clone, Debug)]
pub(super) struct Closed {
    /// The agent.
    pub agent: InstanceId,
    /// What it left, in order. Empty when it had ended before, or went with its agent.
    pub messages: Vec<Message>,
    /// The event that ends it.
    pub done: Option<ChatDone>,
}

/// Ends a turn: the answer is stored, or what there is of it and a word of the daemon's why it is not whole.
pub(super) fn write(conn: &Connection, agent: &InstanceId, end: &End, now: Timestamp) -> Result<Closed> {
    let mut closed = Closed { agent: agent.clone(), messages: Vec::new(), done: None };
    if !turns::end(conn, &end.turn, end.status, end.error.as_ref(), now)? {
        return Ok(closed);
    }
    let mut say = |sender, content: &str, actor: &str| {
        let new = NewMessage {
            agent,
            conversation: &end.conversation,
            turn: &end.turn,
            sender,
            content,
            platform: Platform::Agent,
            actor,
            key: None,
        };
        messages::append(conn, &new, now).map(|message| closed.messages.push(message))
    };
    if end.status == TurnStatus::Done || !end.answer.is_empty() {
        say(Sender::Agent, &end.answer, &format!("agent:{agent}"))?;
    }
    if end.status != TurnStatus::Done {
        say(Sender::System, &why(end), &Actor::System.to_string())?;
    }
    closed.done = closed.messages.last().map(|last| ChatDone {
        agent: agent.clone(),
        conversation: end.conversation.clone(),
        turn: end.turn.clone(),
        status: end.status,
        message: last.id.clone(),
        last_seq: last.seq,
        error: end.error.clone(),
    });
    Ok(closed)
}

/// The daemon's word on a turn without an answer, for people.
fn why(end: &End) -> String {
    match &end.error {
        Some(error) => match &error.hint {
            Some(hint) => format!("{}\n{hint}", error.message),
            None => error.message.clone(),
        },
        None => format!("the turn is {}", end.status),
    }
}
