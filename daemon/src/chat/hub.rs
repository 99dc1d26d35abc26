//! Who listens to which agent, and the fan-out to them. A listener that does not keep up is dropped, not waited for.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agentbot_wire::{ConversationId, InstanceId};
use tokio::sync::mpsc;

use super::event::Event;

/// Events that may wait for one listener.
pub const QUEUE: usize = 256;
/// Bytes of frames that may wait for one listener.
pub const QUEUE_BYTES: usize = 1024 * 1024;

/// One who listens, by its queue.
#[derive(Debug)]
struct Listener {
    number: u64,
    /// Gone once it did not keep up: the receiver then ends behind what it still holds.
    queue: Mutex<Option<mpsc::Sender<Arc<Event>>>>,
    waiting: Arc<AtomicUsize>,
}

/// What a listener wants to hear of one agent.
#[derive(Debug)]
struct Seat {
    listener: Arc<Listener>,
    everything: bool,
    conversations: HashSet<ConversationId>,
}

/// The listeners of every agent.
#[derive(Debug, Default)]
pub struct Hub {
    rooms: Mutex<HashMap<InstanceId, Vec<Seat>>>,
    next: AtomicU64,
    slow: AtomicU64,
}

/// The receiving end. It leaves the hub when it is dropped.
#[derive(Debug)]
pub struct Ear {
    hub: Arc<Hub>,
    listener: Arc<Listener>,
    queue: mpsc::Receiver<Arc<Event>>,
    /// Whom it hears.
    agents: HashSet<InstanceId>,
}

/// The listener did not keep up; what came after its last event has to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagged;

impl Hub {
    fn rooms(&self) -> MutexGuard<'_, HashMap<InstanceId, Vec<Seat>>> {
        // Every statement leaves the map whole, so a panic elsewhere cannot have broken it.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new listener, who hears nothing yet.
    pub fn listen(self: &Arc<Self>) -> Ear {
        let (sender, queue) = mpsc::channel(QUEUE);
        let listener = Arc::new(Listener {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            queue: Mutex::new(Some(sender)),
            waiting: Arc::default(),
        });
        Ear { hub: Arc::clone(self), listener, queue, agents: HashSet::new() }
    }

    /// Whether anybody listens to an agent.
    #[must_use]
    pub fn is_heard(&self, agent: &InstanceId) -> bool {
        self.rooms().contains_key(agent)
    }

    /// Gives an event to everybody who wants to hear it.
    pub fn publish(&self, event: &Arc<Event>) {
        let mut rooms = self.rooms();
        let Some(seats) = rooms.get_mut(event.agent()) else { return };
        seats.retain(|seat| !seat.wants(event) || self.hand_over(&seat.listener, event));
        if seats.is_empty() {
            rooms.remove(event.agent());
        }
    }

    /// Says whether the listener keeps up.
    fn hand_over(&self, listener: &Listener, event: &Arc<Event>) -> bool {
        let mut queue = listener.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = queue.as_ref() else { return false };
        let size = event.frame().len();
        let waiting = listener.waiting.fetch_add(size, Ordering::Relaxed) + size;
        if waiting <= QUEUE_BYTES && sender.try_send(Arc::clone(event)).is_ok() {
            return true;
        }
        *queue = None;
        self.slow.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// Listeners that were dropped because they did not keep up, since the start.
    #[must_use]
    pub fn slow(&self) -> u64 {
        self.slow.load(Ordering::Relaxed)
    }

    fn leave(&self, number: u64, agents: &HashSet<InstanceId>) {
        let mut rooms = self.rooms();
        for agent in agents {
            let Some(seats) = rooms.get_mut(agent) else { continue };
            seats.retain(|seat| seat.listener.number != number);
            if seats.is_empty() {
                rooms.remove(agent);
            }
        }
    }
}

impl Seat {
    fn wants(&self, event: &Event) -> bool {
        self.everything || event.conversation().is_none_or(|conversation| self.conversations.contains(conversation))
    }
}

impl Ear {
    /// Hears an agent from now on: one conversation and the agent's phases, or everything.
    pub fn hear(&mut self, agent: &InstanceId, conversation: Option<&ConversationId>) {
        self.seat(agent, |seat| match conversation {
            Some(conversation) => {
                seat.conversations.insert(conversation.clone());
            }
            None => seat.everything = true,
        });
    }

    /// Hears no more of an agent than one conversation.
    pub fn narrow(&mut self, agent: &InstanceId, conversation: &ConversationId) {
        self.seat(agent, |seat| {
            seat.everything = false;
            seat.conversations = HashSet::from([conversation.clone()]);
        });
    }

    fn seat(&mut self, agent: &InstanceId, change: impl FnOnce(&mut Seat)) {
        self.agents.insert(agent.clone());
        let mut rooms = self.hub.rooms();
        let seats = rooms.entry(agent.clone()).or_default();
        let own = seats.iter().position(|seat| seat.listener.number == self.listener.number);
        let own = own.unwrap_or_else(|| {
            let listener = Arc::clone(&self.listener);
            seats.push(Seat { listener, everything: false, conversations: HashSet::new() });
            seats.len() - 1
        });
        change(&mut seats[own]);
    }

    /// The next event.
    ///
    /// # Errors
    /// [`Lagged`] once everything that was taken before the listener fell behind is heard.
    pub async fn next(&mut self) -> Result<Arc<Event>, Lagged> {
        let event = self.queue.recv().await.ok_or(Lagged)?;
        self.listener.waiting.fetch_sub(event.frame().len(), Ordering::Relaxed);
        Ok(event)
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.hub.leave(self.listener.number, &self.agents);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::test_support::{a_conversation, a_message, an_agent};
    use agentbot_wire::Message;

    fn said(seq: u64, content: &str) -> Arc<Event> {
        Arc::new(Event::message(a_message(seq, content)))
    }

    fn elsewhere(seq: u64) -> Arc<Event> {
        let conversation = "cnv_01kak2m5v5e7qrf9v3n6m8t0zz".parse().unwrap();
        Arc::new(Event::message(Message { conversation, ..a_message(seq, "elsewhere") }))
    }

    #[tokio::test]
    async fn everybody_hears_the_same_event_and_only_what_they_asked_for() {
        let hub = Arc::new(Hub::default());
        let (mut all, mut one, deaf) = (hub.listen(), hub.listen(), hub.listen());
        all.hear(&an_agent(), None);
        one.hear(&an_agent(), Some(&a_conversation()));
        let aside = elsewhere(1);
        for event in [&said(1, "a"), &aside, &said(2, "b")] {
            hub.publish(event);
        }
        let first = all.next().await.unwrap();
        assert!(Arc::ptr_eq(&first, &one.next().await.unwrap()));
        assert_eq!(all.next().await.unwrap(), aside);
        assert_eq!(all.next().await.unwrap(), one.next().await.unwrap());
        drop((all, one, deaf));
        assert!(!hub.is_heard(&an_agent()));
    }

    #[tokio::test]
    async fn a_listener_holds_so_many_events_and_one_more_ends_it_behind_them() {
        let hub = Arc::new(Hub::default());
        let (mut slow, mut quick) = (hub.listen(), hub.listen());
        slow.hear(&an_agent(), None);
        quick.hear(&an_agent(), None);
        for seq in 1..=QUEUE as u64 {
            hub.publish(&said(seq, "x"));
            assert_eq!(quick.next().await.unwrap().seq(), Some(seq));
        }
        assert_eq!(hub.slow(), 0);
        hub.publish(&said(0, "one too many"));
        assert_eq!(hub.slow(), 1);
        for seq in 1..=QUEUE as u64 {
            assert_eq!(slow.next().await.unwrap().seq(), Some(seq));
        }
        assert_eq!(slow.next().await, Err(Lagged));
        assert!(quick.next().await.is_ok(), "others are not touched");
    }

    #[tokio::test]
    async fn a_listener_holds_so_many_bytes() {
        let hub = Arc::new(Hub::default());
        let mut slow = hub.listen();
        slow.hear(&an_agent(), None);
        let event = said(1, &"x".repeat(60_000));
        let fit = QUEUE_BYTES / event.frame().len();
        for _ in 0..fit {
            hub.publish(&event);
        }
        assert_eq!(hub.slow(), 0);
        slow.next().await.unwrap();
        hub.publish(&event);
        assert_eq!(hub.slow(), 0, "what was heard makes room");
        hub.publish(&event);
        assert_eq!(hub.slow(), 1);
    }
}
