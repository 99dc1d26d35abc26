//! Chat: durable conversations with agents, and the turns that answer them.
//!
//! A message is stored before it is acknowledged, and everything stored is published in the order of its commits. The turn
//! that answers it is decided by `lanes`, which is pure; `live` does what the lanes decide. Clients hear through a [`Feed`],
//! which reads what they have missed from the store, or through an [`Exchange`] for one message and its answer.

mod access;
mod close;
mod ears;
mod event;
mod exchange;
mod feed;
mod hub;
mod lanes;
mod live;
mod reason;
mod requests;
mod text;
mod watch;

#[cfg(test)]
mod test_support;
#[cfg(test)]
mod tests;

use agentbot_wire::InstanceId;

pub use event::{Body, Event};
pub use exchange::Exchange;
pub use feed::{Feed, MAX_SUBSCRIPTIONS};
pub use hub::{Lagged, QUEUE, QUEUE_BYTES};
pub use lanes::{MAX_ACTIVE, MAX_ATTEMPTS};
pub use live::Parts;
pub use requests::{MAX_OPEN, MAX_WAITING, PAGE_BYTES};
pub use watch::{Clock, Phases};

use crate::error::Result;
use crate::identity::Actor;
use crate::ration::Pace;
use crate::store::turns;
use live::Live;

/// Requests that an agent may make in a second, over time.
pub const REQUESTS_PER_SECOND: u32 = 100;
/// Requests that it may make at once.
pub const REQUESTS_AT_ONCE: u32 = 400;

/// The points at which a test build can end the daemon in the middle of a turn.
pub const FAULT_POINTS: [&str; 8] = [
    "chat.send.before",
    "chat.send.after",
    "chat.offer.before",
    "chat.offer.after",
    "chat.take.after",
    "chat.show.after",
    "chat.end.before",
    "chat.end.after",
];

/// The conversations of all agents.
#[derive(Clone)]
pub struct Chat {
    live: Live,
    /// How often each agent may ask for something.
    pace: Pace<InstanceId>,
}

impl Chat {
    /// Without any turn yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self { live: Live::new(parts), pace: Pace::new(REQUESTS_PER_SECOND, REQUESTS_AT_ONCE) }
    }

    /// Takes up the turns that an earlier run of the daemon left open. Before agents are let in.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn resume(&self) -> Result<usize> {
        let open = self.live.store().scan(turns::open).await?;
        let count = open.len();
        for turn in &open {
            self.live.queue(turn);
        }
        for agent in self.live.store().read(turns::orphaned).await? {
            self.live.clear(&agent);
        }
        Ok(count)
    }

    /// What one client hears. Nothing until it subscribes.
    #[must_use]
    pub fn feed(&self, actor: &Actor) -> Feed {
        Feed::new(self.live.clone(), actor.clone())
    }

    /// Clients that were dropped for not keeping up, and events of agents about turns that were not open for them, since
    /// the start.
    #[must_use]
    pub fn dropped(&self) -> (u64, u64) {
        (self.live.hub().slow(), self.live.stray())
    }
}
