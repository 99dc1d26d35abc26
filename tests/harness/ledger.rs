//! What a chat client has seen: stored messages without gap or repeat, pieces of answers in their order.

use std::collections::{BTreeMap, BTreeSet};

use agentbot_wire::{ChatDelta, ConversationId, Message, MessageId, Sender, TurnId};

/// Everything that was shown to one client, over all its connections, and every rule that was broken in showing it.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    conversations: BTreeMap<ConversationId, Seen>,
    ids: BTreeSet<MessageId>,
    pieces: BTreeMap<TurnId, Pieces>,
    deltas: u64,
    connection: u32,
    broken: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    last: u64,
    messages: Vec<Message>,
}

#[derive(Clone, Debug, Default)]
struct Pieces {
    /// The index that must come next; `None` after a new connection, when only a beginning or a snapshot may come.
    next: Option<u64>,
    text: String,
    /// Connection and index of each piece, with a star for a snapshot: for whoever reads of a broken rule.
    trace: Vec<String>,
}

impl Ledger {
    /// Takes the places from which a subscription begins; those that are known already stay.
    pub fn begin(&mut self, cursors: &BTreeMap<ConversationId, u64>) {
        for (conversation, seq) in cursors {
            let begin = || Seen { last: *seq, messages: Vec::new() };
            self.conversations.entry(conversation.clone()).or_insert_with(begin);
        }
    }

    /// The connection is another one: pieces that were missed come again as a snapshot.
    pub fn reconnected(&mut self) {
        self.connection += 1;
        for pieces in self.pieces.values_mut() {
            pieces.next = None;
        }
    }

    /// A stored message was shown, with this `seq` on its frame.
    pub fn message(&mut self, seq: Option<u64>, message: &Message) {
        let seen = self.conversations.entry(message.conversation.clone()).or_default();
        if seq != Some(message.seq) {
            self.broken.push(format!("frame seq {seq:?} around message seq {}", message.seq));
        }
        if message.seq != seen.last + 1 {
            self.broken.push(format!("{} after {} in {}", message.seq, seen.last, message.conversation));
        }
        seen.last = message.seq;
        seen.messages.push(message.clone());
        if !self.ids.insert(message.id.clone()) {
            self.broken.push(format!("message {} came twice", message.id));
        }
    }

    /// A piece of an answer was shown.
    pub fn delta(&mut self, delta: &ChatDelta) {
        self.deltas += 1;
        let pieces = self.pieces.entry(delta.turn.clone()).or_default();
        let expected = pieces.next.unwrap_or(0);
        let star = if delta.snapshot { "*" } else { "" };
        pieces.trace.push(format!("{}:{}{star}", self.connection, delta.index));
        if delta.snapshot {
            if delta.index < expected {
                self.broken.push(format!("snapshot {} of {} after {expected}", delta.index, delta.turn));
            }
            pieces.text.clear();
        } else if delta.index != expected {
            let (index, turn, trace) = (delta.index, &delta.turn, pieces.trace.join(" "));
            self.broken.push(format!("piece {index} of {turn}, wanted {expected}: {trace}"));
        }
        pieces.text.push_str(&delta.text);
        pieces.next = Some(delta.index + 1);
    }

    /// The last place seen of each conversation: what a client comes back with.
    #[must_use]
    pub fn cursors(&self) -> BTreeMap<ConversationId, u64> {
        self.conversations.iter().map(|(id, seen)| (id.clone(), seen.last)).collect()
    }

    /// The messages of one conversation in the order in which they were shown.
    #[must_use]
    pub fn messages(&self, conversation: &ConversationId) -> Vec<Message> {
        self.conversations.get(conversation).map(|seen| seen.messages.clone()).unwrap_or_default()
    }

    /// How many turns of a conversation have ended.
    #[must_use]
    pub fn ended(&self, conversation: &ConversationId) -> usize {
        let Some(seen) = self.conversations.get(conversation) else { return 0 };
        let ends = seen.messages.iter().filter(|message| message.sender != Sender::User);
        ends.filter_map(|message| message.turn.as_ref()).collect::<BTreeSet<_>>().len()
    }

    /// The messages of all conversations.
    #[must_use]
    pub fn all_messages(&self) -> Vec<Message> {
        self.conversations.values().flat_map(|seen| seen.messages.clone()).collect()
    }

    /// What the pieces of a turn make together.
    #[must_use]
    pub fn text(&self, turn: &TurnId) -> String {
        self.pieces.get(turn).map(|pieces| pieces.text.clone()).unwrap_or_default()
    }

    /// How many pieces came in all.
    #[must_use]
    pub fn deltas(&self) -> u64 {
        self.deltas
    }

    /// Checks that nothing was missed or shown twice.
    ///
    /// # Panics
    /// When something was.
    pub fn check(&self) {
        assert!(self.broken.is_empty(), "{} rules broken: {:#?}", self.broken.len(), self.broken);
    }
}
