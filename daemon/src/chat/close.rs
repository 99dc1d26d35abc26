//! What the end of a turn leaves in its conversation, in one transaction.

use agentbot_wire::{ChatDone, InstanceId, Message, MessageId, Platform, Sender, TurnStatus};
use jiff::Timestamp;

use super::lanes::End;
use super::text::{clean, cut};
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
        if turns::get(conn, &end.turn)?.is_none() {
            // It went with its agent: whoever listens is told, and nothing is left to be read.
            closed.done = Some(done(agent, end, end.message.clone(), 0));
        }
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
        let why = clean(why(end));
        say(Sender::System, cut(&why), &Actor::System.to_string())?;
    }
    closed.done = closed.messages.last().map(|last| done(agent, end, last.id.clone(), last.seq));
    Ok(closed)
}

fn done(agent: &InstanceId, end: &End, message: MessageId, last_seq: u64) -> ChatDone {
    ChatDone {
        agent: agent.clone(),
        conversation: end.conversation.clone(),
        turn: end.turn.clone(),
        status: end.status,
        message,
        last_seq,
        error: end.error.clone(),
    }
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
