//! Values that the tests of chat share.

use agentbot_wire::{ChatDelta, ConversationId, InstanceId, Message, MessageId, Platform, Sender, TurnId};

pub fn an_agent() -> InstanceId {
    "ins_01kak2m5v5e7qrf9v3n6m8t0zx".parse().unwrap()
}

pub fn a_conversation() -> ConversationId {
    "cnv_01kak2m5v5e7qrf9v3n6m8t0zx".parse().unwrap()
}

pub fn a_turn() -> TurnId {
    "trn_01kak2m5v5e7qrf9v3n6m8t0zx".parse().unwrap()
}

pub fn a_message(seq: u64, content: &str) -> Message {
    Message {
        id: MessageId::mint(),
        agent: an_agent(),
        conversation: a_conversation(),
        sender: Sender::User,
        content: content.to_owned(),
        timestamp: jiff::Timestamp::UNIX_EPOCH,
        platform: Platform::Ws,
        seq,
        turn: Some(a_turn()),
    }
}

pub fn a_delta(index: u64, text: &str) -> ChatDelta {
    ChatDelta {
        agent: an_agent(),
        conversation: a_conversation(),
        turn: a_turn(),
        index,
        text: text.to_owned(),
        snapshot: false,
    }
}
