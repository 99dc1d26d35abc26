//! What was heard already: each stored message once, each turn's end once, whatever happens to the connection.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use agentbot_wire::{
    AgentPhase, ApiError, ChatDelta, ChatDone, ChatSent, ChatSubscribed, ChatTool, Code, ConversationId, InstanceId,
    Message, Sender, TurnId, TurnStatus, event,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// So many turns are remembered after their end; later ones push out the oldest.
const REMEMBERED: usize = 256;

/// An event that is new.
#[derive(Clone, Debug, PartialEq)]
pub enum Spoken {
    /// A stored message.
    Message(Box<Message>),
    /// A piece of an answer: it follows all pieces before it, or is a snapshot.
    Delta(ChatDelta),
    /// The use of a tool.
    Tool(ChatTool),
    /// The end of a turn.
    Done(ChatDone),
    /// A change of the agent's phase.
    Phase(AgentPhase),
}

/// What to do with an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// It is new.
    Show(Spoken),
    /// It was heard before, is of no use, or of a later version.
    Nothing,
    /// Something before it is missing: subscribe again with the cursors.
    Resync,
}

#[derive(Debug)]
struct Pieces {
    next: u64,
    /// A piece is missing: only a snapshot or the stored answer helps.
    holed: bool,
}

#[derive(Debug)]
struct Followed {
    sent: ChatSent,
    /// It had ended when the daemon was last asked.
    gone: bool,
}

/// The memory of a client.
#[derive(Debug)]
pub struct Resume {
    agent: InstanceId,
    cursors: BTreeMap<ConversationId, u64>,
    newest: BTreeMap<ConversationId, u64>,
    /// Where listening began.
    began: BTreeMap<ConversationId, u64>,
    running: BTreeSet<TurnId>,
    pieces: BTreeMap<TurnId, Pieces>,
    followed: BTreeMap<TurnId, Followed>,
    /// The end of each turn as its last message tells it.
    ends: BTreeMap<TurnId, ChatDone>,
    ended: BTreeSet<TurnId>,
    due: VecDeque<ChatDone>,
    resyncing: bool,
    subscribed: bool,
}

impl Resume {
    /// A client of one agent that has heard nothing yet.
    #[must_use]
    pub fn new(agent: InstanceId) -> Self {
        Self {
            agent,
            cursors: BTreeMap::new(),
            newest: BTreeMap::new(),
            began: BTreeMap::new(),
            running: BTreeSet::new(),
            pieces: BTreeMap::new(),
            followed: BTreeMap::new(),
            ends: BTreeMap::new(),
            ended: BTreeSet::new(),
            due: VecDeque::new(),
            resyncing: false,
            subscribed: false,
        }
    }

    /// The last place heard of each conversation; none before the first subscription.
    #[must_use]
    pub fn cursors(&self) -> Option<&BTreeMap<ConversationId, u64>> {
        self.subscribed.then_some(&self.cursors)
    }

    /// Forgets the cursors: the daemon does not keep what comes after them.
    pub fn start_over(&mut self) {
        self.cursors.clear();
        self.subscribed = false;
    }

    /// The daemon has accepted a subscription.
    pub fn subscribed(&mut self, answer: &ChatSubscribed) {
        if !std::mem::replace(&mut self.subscribed, true) {
            self.cursors.extend(answer.cursors.clone());
            self.began.clone_from(&answer.cursors);
        }
        self.newest.clone_from(&answer.cursors);
        self.running = answer.turns.iter().map(|turn| turn.turn.clone()).collect();
        for (turn, followed) in &mut self.followed {
            followed.gone = !self.running.contains(turn);
        }
        self.settle();
    }

    /// Whether a turn had begun and ended before listening began, as one does whose key was used before. Its end then
    /// comes with [`Self::make_up`], and in no other way.
    #[must_use]
    pub fn missed(&mut self, sent: &ChatSent) -> bool {
        let before = self.began.get(&sent.conversation).is_some_and(|began| (1..=*began).contains(&sent.seq));
        let missed = before && !self.running.contains(&sent.turn) && !self.ends.contains_key(&sent.turn);
        if missed {
            self.followed.remove(&sent.turn);
        }
        missed
    }

    /// The messages that came after that of a missed turn: those of the turn, and its end.
    #[must_use]
    pub fn make_up(&mut self, sent: &ChatSent, after: Vec<Message>) -> Vec<Message> {
        let ours = |message: &Message| message.turn.as_ref() == Some(&sent.turn) && message.sender != Sender::User;
        let messages: Vec<_> = after.into_iter().filter(ours).collect();
        let done = messages.last().map_or_else(|| self.unknown_end(sent.clone()), |last| end_of(last, &sent.turn));
        if self.end(&sent.turn) {
            self.due.push_back(done);
        }
        messages
    }

    /// From now on the end of this turn is wanted.
    pub fn follow(&mut self, sent: &ChatSent) {
        if self.ended.contains(&sent.turn) {
            return;
        }
        // Its end was among what was sent again, and nobody will tell it a second time.
        let told = self.ends.get(&sent.turn).is_some_and(|done| self.was_stored(&done.conversation, done.last_seq));
        let gone = told && !self.running.contains(&sent.turn);
        self.followed.insert(sent.turn.clone(), Followed { sent: sent.clone(), gone });
        self.settle();
    }

    /// The next end of a followed turn that no event told.
    pub fn due(&mut self) -> Option<ChatDone> {
        self.due.pop_front()
    }

    /// Takes an event.
    pub fn event(&mut self, name: &str, payload: &Value) -> Step {
        match name {
            event::CHAT_MESSAGE => read(payload).map_or(Step::Nothing, |message| self.message(message)),
            event::CHAT_DELTA => read(payload).map_or(Step::Nothing, |delta| self.delta(delta)),
            event::CHAT_TOOL => read(payload)
                .filter(|tool: &ChatTool| !self.ended.contains(&tool.turn))
                .map_or(Step::Nothing, |tool| Step::Show(Spoken::Tool(tool))),
            event::CHAT_DONE => read(payload).map_or(Step::Nothing, |done| self.done(done)),
            event::AGENT_PHASE => read(payload).map_or(Step::Nothing, |phase| Step::Show(Spoken::Phase(phase))),
            _ => Step::Nothing,
        }
    }

    fn message(&mut self, message: Message) -> Step {
        let known = self.cursors.get(&message.conversation).copied();
        if let Some(known) = known {
            if message.seq <= known {
                return Step::Nothing;
            }
            if message.seq > known + 1 && !std::mem::replace(&mut self.resyncing, true) {
                return Step::Resync;
            }
        }
        self.resyncing = false;
        self.cursors.insert(message.conversation.clone(), message.seq);
        if let (Some(turn), false) = (&message.turn, message.sender == Sender::User) {
            let done = end_of(&message, turn);
            remember(&mut self.ends, turn.clone(), done);
        }
        self.settle();
        Step::Show(Spoken::Message(Box::new(message)))
    }

    fn delta(&mut self, delta: ChatDelta) -> Step {
        if self.ended.contains(&delta.turn) {
            return Step::Nothing;
        }
        let pieces = self.pieces.entry(delta.turn.clone()).or_insert(Pieces { next: 0, holed: false });
        if !delta.snapshot {
            pieces.holed |= delta.index > pieces.next;
            if pieces.holed || delta.index < pieces.next {
                return Step::Nothing;
            }
        }
        *pieces = Pieces { next: delta.index + 1, holed: false };
        Step::Show(Spoken::Delta(delta))
    }

    fn done(&mut self, done: ChatDone) -> Step {
        self.pieces.remove(&done.turn);
        self.followed.remove(&done.turn);
        remember(&mut self.ends, done.turn.clone(), done.clone());
        if !self.end(&done.turn) {
            return Step::Nothing;
        }
        Step::Show(Spoken::Done(done))
    }

    /// Says whether this is the first end of the turn.
    fn end(&mut self, turn: &TurnId) -> bool {
        let first = self.ended.insert(turn.clone());
        if self.ended.len() > REMEMBERED {
            self.ended.pop_first();
        }
        first
    }

    fn was_stored(&self, conversation: &ConversationId, seq: u64) -> bool {
        self.newest.get(conversation).is_some_and(|newest| seq <= *newest)
    }

    /// Ends followed turns that were gone when the daemon was last asked, once all that it had stored was heard.
    fn settle(&mut self) {
        let heard = |conversation: &ConversationId| {
            self.cursors.get(conversation).copied().unwrap_or_default()
                >= self.newest.get(conversation).copied().unwrap_or_default()
        };
        let gone: Vec<_> = self
            .followed
            .iter()
            .filter(|(_, followed)| followed.gone && heard(&followed.sent.conversation))
            .map(|(turn, _)| turn.clone())
            .collect();
        for turn in gone {
            let Some(followed) = self.followed.remove(&turn) else { continue };
            self.pieces.remove(&turn);
            let done = self.ends.get(&turn).cloned().unwrap_or_else(|| self.unknown_end(followed.sent));
            if self.end(&turn) {
                self.due.push_back(done);
            }
        }
    }

    /// The end of a turn that left no message.
    fn unknown_end(&self, sent: ChatSent) -> ChatDone {
        ChatDone {
            agent: self.agent.clone(),
            conversation: sent.conversation,
            turn: sent.turn,
            status: TurnStatus::Interrupted,
            message: sent.message,
            last_seq: sent.seq,
            error: Some(ApiError {
                code: Code::Interrupted,
                message: "the turn has ended while agentbotd was away, and left no answer".to_owned(),
                hint: Some("ask again".to_owned()),
            }),
        }
    }
}

/// The end of a turn as the last message that it left tells it.
fn end_of(message: &Message, turn: &TurnId) -> ChatDone {
    ChatDone {
        agent: message.agent.clone(),
        conversation: message.conversation.clone(),
        turn: turn.clone(),
        status: if message.sender == Sender::Agent { TurnStatus::Done } else { TurnStatus::Failed },
        message: message.id.clone(),
        last_seq: message.seq,
        error: None,
    }
}

fn remember(ends: &mut BTreeMap<TurnId, ChatDone>, turn: TurnId, done: ChatDone) {
    ends.insert(turn, done);
    if ends.len() > REMEMBERED {
        ends.pop_first();
    }
}

fn read<T: DeserializeOwned>(payload: &Value) -> Option<T> {
    T::deserialize(payload).ok()
}

#[cfg(test)]
#[path = "resume_tests.rs"]
mod tests;
