//! What chat does by itself: it looks at the clock for turns under way, tells clients of their agents' phases, and ends the
//! turns of agents that are no more.

use std::sync::Arc;
use std::time::Duration;

use agentbot_wire::{AgentPhase, OperationKind, Phase};

use super::Chat;
use super::event::Event;
use crate::error::Result;
use crate::events::kind;
use crate::store::events::{self, StoredEvent};
use crate::store::instances;
use crate::task::{Driver, Task};

/// How often the clock is looked at while a turn is under way: one that hangs ends so much later than it might.
const CLOCK: Duration = Duration::from_millis(250);
/// How often while there is none: the first one wakes the task.
const REST: Duration = Duration::from_secs(3_600);
/// Events that are read at once.
const PAGE: usize = 256;

/// The task that looks at the clock.
pub struct Clock(Chat);

impl Clock {
    /// Has a driver look at the clock for as long as it lives.
    pub fn start(driver: &Driver, chat: &Chat) {
        let (asked, wakes) = (chat.clone(), chat.live.clock().clone());
        driver.spawn(Self(chat.clone()), move || if asked.live.is_busy() { CLOCK } else { REST }, wakes);
    }
}

impl Task for Clock {
    fn name(&self) -> &'static str {
        "chat clock"
    }

    async fn activate(&mut self) -> Result<String> {
        self.0.live.tick();
        Ok("looked".to_owned())
    }
}

/// The task that follows the event log.
pub struct Phases {
    chat: Chat,
    seen: i64,
}

impl Phases {
    /// From what has happened by now on.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn from_now(chat: Chat) -> Result<Self> {
        let seen = chat.live.store().read(events::newest).await?;
        Ok(Self { chat, seen })
    }

    async fn tell(&self, event: StoredEvent) -> Result<()> {
        let farewell = event.kind == kind::PURGED || is_farewell(&event);
        let Some(agent) = event.instance else { return Ok(()) };
        let of = agent.clone();
        // The wish to delete stands in the log before anything of it is done. It may have been taken back since.
        if farewell {
            let gone = self.chat.live.store().read(move |conn| instances::get(conn, &of)).await?;
            if gone.is_none_or(|instance| instance.desired.is_gone()) {
                self.chat.live.clear(&agent);
            }
            return Ok(());
        }
        if event.kind != kind::PHASE {
            return Ok(());
        }
        let Some(phase) = event.payload["to"].as_str().and_then(Phase::from_word) else { return Ok(()) };
        if self.chat.live.hub().is_heard(&agent) {
            let found = self.chat.live.store().read(move |conn| instances::get(conn, &of)).await?;
            let Some(instance) = found else { return Ok(()) };
            let reason = event.payload["reason"].as_str().map(str::to_owned);
            let told = AgentPhase { agent, name: instance.name, phase, reason };
            let seq = u64::try_from(event.seq).unwrap_or_default();
            self.chat.live.hub().publish(&Arc::new(Event::phase(told, seq)));
        }
        Ok(())
    }
}

impl Task for Phases {
    fn name(&self) -> &'static str {
        "chat phases"
    }

    async fn activate(&mut self) -> Result<String> {
        let mut told = 0;
        loop {
            let from = self.seen;
            let page = self.chat.live.store().read(move |conn| events::since(conn, from, PAGE)).await?;
            let whole = page.len() == PAGE;
            for event in page {
                let seq = event.seq;
                self.tell(event).await?;
                self.seen = seq;
                told += 1;
            }
            if !whole {
                return Ok(format!("{told} events"));
            }
        }
    }
}

/// Whether somebody asked for an agent to go.
fn is_farewell(event: &StoredEvent) -> bool {
    let asked = event.payload["kind"].as_str().and_then(OperationKind::from_word);
    event.kind == kind::ACCEPTED && matches!(asked, Some(OperationKind::Delete | OperationKind::Purge))
}
