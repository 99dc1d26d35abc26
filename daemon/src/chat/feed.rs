//! What one client hears: what it has missed from the store first, then what happens, each stored message once and in
//! its order.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use agentbot_wire::{
    ChatSubscribe, ChatSubscribed, Code, ConversationId, ConversationView, InstanceId, Message, Sender, TurnId,
};

use super::access;
use super::event::{Body, Event};
use super::hub::{Ear, Lagged};
use super::lanes::Partial;
use super::live::Live;
use super::requests::PAGE_BYTES;
use crate::error::{Error, Result};
use crate::identity::Actor;
use crate::instance::meant;
use crate::store::messages::Span;
use crate::store::{conversations, messages, turns};

/// Subscriptions of one client.
pub const MAX_SUBSCRIPTIONS: usize = 64;
/// Messages that are read at once for one that comes back.
const PAGE: usize = 50;
/// Turns that are remembered as over.
const REMEMBERED: usize = 64;

/// One client's ear and how far it has heard.
pub struct Feed {
    live: Live,
    actor: Actor,
    ear: Ear,
    subscriptions: usize,
    /// The last place given of each conversation.
    cursors: BTreeMap<ConversationId, u64>,
    /// Conversations to be read on from the store.
    behind: VecDeque<ConversationId>,
    page: VecDeque<Message>,
    /// What is to be shown of turns under way, once their conversations are read.
    partials: VecDeque<(InstanceId, Partial)>,
    /// The newest piece given of each turn under way.
    pieces: HashMap<TurnId, u64>,
    /// Turns whose last message was given: pieces of theirs are old.
    over: VecDeque<TurnId>,
}

impl Feed {
    pub(super) fn new(live: Live, actor: Actor) -> Self {
        let ear = live.hub().listen();
        Self {
            live,
            actor,
            ear,
            subscriptions: 0,
            cursors: BTreeMap::new(),
            behind: VecDeque::new(),
            page: VecDeque::new(),
            partials: VecDeque::new(),
            pieces: HashMap::new(),
            over: VecDeque::new(),
        }
    }

    /// Hears a conversation, or all of an agent. What the cursors miss comes first from [`Feed::next`].
    ///
    /// # Errors
    /// `not_found`; `invalid` for cursors beyond what there is, or when it is not clear what is meant; `limit_reached`.
    pub async fn subscribe(&mut self, params: &ChatSubscribe) -> Result<ChatSubscribed> {
        if self.subscriptions >= MAX_SUBSCRIPTIONS {
            return Err(Error::new(Code::LimitReached, format!("{MAX_SUBSCRIPTIONS} subscriptions are held already"))
                .hint("subscribe to the agent as a whole"));
        }
        if params.conversation.is_some() && (params.agent.is_some() || params.cursors.is_some()) {
            return Err(Error::invalid("conversation", "stands beside `agent` or `cursors`")
                .hint("{conversation, after_seq} or {agent, cursors}"));
        }
        if params.conversation.is_none() && params.after_seq.is_some() {
            return Err(Error::invalid("after_seq", "stands without `conversation`").hint("an agent takes `cursors`"));
        }
        let agent = self.find(params).await?;
        // What is refused changes nothing; places only grow, so what holds now holds below.
        for conversation in &self.known(&agent, params.conversation.as_ref()).await?.0 {
            check_cursor(conversation, from(params, conversation))?;
        }
        // First to hear, then to read: what comes in between is known twice and given once.
        self.ear.hear(&agent, params.conversation.as_ref());
        let (known, open) = self.known(&agent, params.conversation.as_ref()).await?;
        for conversation in &known {
            self.start(conversation, from(params, conversation));
        }
        let partials = self.live.partials(&agent, params.conversation.as_ref());
        self.partials.extend(partials.into_iter().map(|partial| (agent.clone(), partial)));
        self.subscriptions += 1;
        let cursors = known.iter().map(|conversation| (conversation.id.clone(), conversation.seq)).collect();
        Ok(ChatSubscribed { cursors, turns: open.iter().map(turns::Turn::view).collect() })
    }

    async fn find(&self, params: &ChatSubscribe) -> Result<InstanceId> {
        let (actor, conversation, named) = (self.actor.clone(), params.conversation.clone(), params.agent.clone());
        let read = self.live.store().read(move |conn| {
            access::check_token(conn, &actor)?;
            match conversation {
                Some(id) => access::conversation(conn, &actor, &id).map(|found| found.agent),
                None => meant(conn, &actor, named.as_deref()).map(|found| found.id),
            }
        });
        read.await
    }

    async fn known(
        &self,
        agent: &InstanceId,
        of: Option<&ConversationId>,
    ) -> Result<(Vec<ConversationView>, Vec<turns::Turn>)> {
        let (agent, of) = (agent.clone(), of.cloned());
        let read = self.live.store().read(move |conn| {
            let mut open = turns::open_of(conn, &agent)?;
            let known = match &of {
                Some(id) => conversations::get(conn, id)?.into_iter().collect(),
                None => conversations::of_instance(conn, &agent)?,
            };
            open.retain(|turn| of.as_ref().is_none_or(|of| turn.conversation == *of));
            Ok((known, open))
        });
        read.await
    }

    /// Sets where a conversation is heard from. One that is heard already is not heard twice.
    fn start(&mut self, conversation: &ConversationView, from: Option<u64>) {
        let from = from.unwrap_or(conversation.seq);
        if !self.cursors.contains_key(&conversation.id) {
            self.cursors.insert(conversation.id.clone(), from);
            if from < conversation.seq {
                self.behind.push_back(conversation.id.clone());
            }
        }
    }

    /// The last place given of each conversation.
    #[must_use]
    pub fn cursors(&self) -> &BTreeMap<ConversationId, u64> {
        &self.cursors
    }

    /// The next event. Waits for ever when nothing happens; nothing is lost when the wait is given up.
    ///
    /// # Errors
    /// [`Lagged`] when this client did not keep up, or the store could not be read: it may come back with its cursors.
    pub async fn next(&mut self) -> Result<Arc<Event>, Lagged> {
        loop {
            if let Some(message) = self.page.pop_front() {
                if message.seq > self.cursor(&message.conversation) {
                    return Ok(self.give(message));
                }
                continue;
            }
            if let Some(conversation) = self.behind.front().cloned() {
                self.read_on(&conversation).await?;
                continue;
            }
            if let Some((agent, partial)) = self.partials.pop_front() {
                if let Some(event) = self.show(agent, partial) {
                    return Ok(event);
                }
                continue;
            }
            let event = self.ear.next().await?;
            if self.take(&event) {
                return Ok(event);
            }
        }
    }

    fn cursor(&self, conversation: &ConversationId) -> u64 {
        self.cursors.get(conversation).copied().unwrap_or(0)
    }

    async fn read_on(&mut self, conversation: &ConversationId) -> Result<(), Lagged> {
        let (id, after) = (conversation.clone(), Span::After(self.cursor(conversation)));
        let read = self.live.store().read(move |conn| messages::page(conn, &id, after, PAGE, PAGE_BYTES));
        let (messages, more) = read.await.map_err(|error| {
            tracing::warn!(%error, "a client's messages could not be read");
            Lagged
        })?;
        if !more {
            self.behind.pop_front();
        }
        self.page.extend(messages);
        Ok(())
    }

    fn give(&mut self, message: Message) -> Arc<Event> {
        self.note(&message);
        Arc::new(Event::message(message))
    }

    fn note(&mut self, message: &Message) {
        self.cursors.insert(message.conversation.clone(), message.seq);
        if message.sender != Sender::User
            && let Some(turn) = &message.turn
        {
            self.end(turn);
        }
    }

    fn end(&mut self, turn: &TurnId) {
        self.pieces.remove(turn);
        if !self.over.contains(turn) {
            self.over.push_back(turn.clone());
            if self.over.len() > REMEMBERED {
                self.over.pop_front();
            }
        }
    }

    /// A turn under way as it was when the subscription began, unless it is over by now.
    fn show(&mut self, agent: InstanceId, partial: Partial) -> Option<Arc<Event>> {
        let given = self.pieces.get(&partial.turn).is_some_and(|given| *given >= partial.index);
        if given || self.over.contains(&partial.turn) {
            return None;
        }
        self.pieces.insert(partial.turn.clone(), partial.index);
        Some(Arc::new(partial.into_event(agent)))
    }

    /// Whether an event is news.
    fn take(&mut self, event: &Event) -> bool {
        match event.body() {
            Body::Message(message) => {
                let cursor = self.cursor(&message.conversation);
                if message.seq == cursor + 1 {
                    self.note(message);
                    return true;
                }
                // A gap is filled from the store, this message included.
                if message.seq > cursor + 1 && !self.behind.contains(&message.conversation) {
                    self.behind.push_back(message.conversation.clone());
                }
                false
            }
            Body::Delta(delta) => {
                let next = self.pieces.get(&delta.turn).map_or(0, |given| given + 1);
                // One whose forerunners were not given is of a turn that ended while the subscription was made: its
                // answer follows.
                let fits = delta.index == next || (delta.snapshot && delta.index > next);
                if !fits || self.over.contains(&delta.turn) {
                    return false;
                }
                self.pieces.insert(delta.turn.clone(), delta.index);
                true
            }
            Body::Done(done) => {
                self.end(&done.turn);
                true
            }
            Body::Tool(tool) => !self.over.contains(&tool.turn),
            Body::Phase(_) => true,
        }
    }
}

/// Where a conversation is to be heard from; `None` means from now on.
fn from(params: &ChatSubscribe, conversation: &ConversationView) -> Option<u64> {
    match (&params.conversation, &params.cursors) {
        (Some(_), _) => params.after_seq,
        (None, Some(cursors)) => Some(cursors.get(&conversation.id).copied().unwrap_or(0)),
        (None, None) => None,
    }
}

fn check_cursor(conversation: &ConversationView, from: Option<u64>) -> Result<()> {
    let newest = conversation.seq;
    match from.filter(|from| *from > newest) {
        None => Ok(()),
        Some(from) => {
            let rule = format!("is {from} for {}, whose newest message is {newest}", conversation.id);
            Err(Error::invalid("cursor", rule).hint("subscribe from 0, and forget what you had"))
        }
    }
}
