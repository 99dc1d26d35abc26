//! The one task that acts on the engine. It owns the workers, one per slot at a time, and everything that wakes them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agentbot_wire::SlotId;
use futures_util::StreamExt;
use futures_util::future::FutureExt;
use futures_util::stream::BoxStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::audit::{self, Audit};
use super::context::Context;
use super::memory::Memory;
use super::worker::{Next, Trouble, pass};
use crate::engine::EngineEvent;
use crate::error::Error;
use crate::store::{crashes, instances};

/// Slots worked on at once. The engine has a limiter of its own for what costs it; this bounds memory and patience.
const WORKERS: usize = 64;
/// The longest time a pass may take: past it the worker is dropped and the slot is looked at anew. Every engine call has
/// a shorter deadline of its own.
const PASS_LIMIT: Duration = Duration::from_secs(600);

/// Shows that the reconciler lives: its loop turned so long ago.
#[derive(Clone, Debug)]
pub struct Pulse {
    begun: Instant,
    last_ms: Arc<AtomicU64>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { begun: Instant::now(), last_ms: Arc::default() }
    }
}

impl Pulse {
    fn beat(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now, Ordering::Relaxed);
    }

    /// Time since the reconciler's loop last turned.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.begun.elapsed().saturating_sub(Duration::from_millis(self.last_ms.load(Ordering::Relaxed)))
    }
}

struct Done {
    slot: SlotId,
    next: Next,
    trouble: Trouble,
}

/// What the reconciler knows between two turns of its loop.
struct Desk {
    context: Arc<Context>,
    memory: Arc<Memory>,
    audit: Audit,
    workers: JoinSet<Done>,
    busy: HashMap<SlotId, bool>,
    due: HashMap<SlotId, Instant>,
    trouble: HashMap<SlotId, Trouble>,
}

/// Runs until `stop`, then gives the workers `drain` to end the step they are at. What they leave undone is resumed at
/// the next start.
pub async fn run(context: Arc<Context>, audit: Audit, pulse: Pulse, stop: CancellationToken, drain: Duration) {
    let mut events = Arc::clone(context.presence.engine()).events(&context.daemon_id);
    let mut desk = Desk {
        context: Arc::clone(&context),
        memory: Arc::default(),
        audit,
        workers: JoinSet::new(),
        busy: HashMap::new(),
        due: HashMap::new(),
        trouble: HashMap::new(),
    };
    let mut list = tokio::time::interval(context.config.load().engine.list_period);
    list.set_missed_tick_behavior(MissedTickBehavior::Delay);
    context.presence.ask().await;
    desk.mark_all().await;
    loop {
        pulse.beat();
        desk.dispatch();
        let next_due = desk.next_due();
        tokio::select! {
            () = stop.cancelled() => break,
            () = context.wakes.wait() => desk.take_wakes(),
            event = next_event(&mut events) => desk.hear(event).await,
            Some(done) = desk.workers.join_next() => desk.settle(done),
            _ = list.tick() => desk.look_around().await,
            () = tokio::time::sleep_until(next_due) => {}
        }
    }
    let finish = async { while desk.workers.join_next().await.is_some() {} };
    if tokio::time::timeout(drain, finish).await.is_err() {
        tracing::info!("a step goes on at the next start");
    }
}

async fn next_event(events: &mut BoxStream<'static, EngineEvent>) -> EngineEvent {
    match events.next().await {
        Some(event) => event,
        // The stream has no end; were it to have one, the list every few seconds is the truth anyway.
        None => std::future::pending().await,
    }
}

impl Desk {
    fn mark(&mut self, slot: SlotId) {
        self.due.insert(slot, Instant::now());
    }

    fn take_wakes(&mut self) {
        for slot in self.context.wakes.take() {
            self.mark(slot);
        }
    }

    async fn mark_all(&mut self) {
        match self.context.store.read(instances::all).await {
            Ok(all) => all.into_iter().for_each(|instance| self.mark(instance.slot.id)),
            Err(error) => tracing::error!(%error, "the agents could not be read"),
        }
    }

    fn next_due(&self) -> Instant {
        let idle = Instant::now() + Duration::from_secs(3600);
        let ready = self.due.iter().filter(|(slot, _)| !self.busy.contains_key(*slot)).map(|(_, at)| *at);
        if self.workers.len() >= WORKERS { idle } else { ready.min().unwrap_or(idle) }
    }

    /// Starts a worker for every slot that is due and not being worked on.
    fn dispatch(&mut self) {
        let now = Instant::now();
        let mut ready: Vec<(Instant, SlotId)> = self
            .due
            .iter()
            .filter(|(slot, at)| **at <= now && !self.busy.contains_key(*slot))
            .map(|(slot, at)| (*at, slot.clone()))
            .collect();
        ready.sort();
        for (_, slot) in ready.into_iter().take(WORKERS.saturating_sub(self.workers.len())) {
            self.due.remove(&slot);
            self.busy.insert(slot.clone(), true);
            let (context, memory) = (Arc::clone(&self.context), Arc::clone(&self.memory));
            let mut trouble = self.trouble.remove(&slot).unwrap_or_default();
            self.workers.spawn(async move {
                let work = std::panic::AssertUnwindSafe(pass(&context, &memory, &slot, &mut trouble)).catch_unwind();
                let next = match tokio::time::timeout(PASS_LIMIT, work).await {
                    Ok(Ok(next)) => next,
                    Ok(Err(_)) => {
                        tracing::error!(slot.id = %slot, "a worker panicked; the slot is looked at again");
                        Next::After(Duration::from_secs(5))
                    }
                    Err(_) => {
                        tracing::error!(slot.id = %slot, "a pass took too long; the slot is looked at again");
                        Next::After(Duration::from_secs(1))
                    }
                };
                Done { slot, next, trouble }
            });
        }
    }

    fn settle(&mut self, done: std::result::Result<Done, tokio::task::JoinError>) {
        // A worker catches its own panics, so what cannot be joined was cut off by the end of the runtime.
        let Ok(Done { slot, next, trouble }) = done else { return };
        self.busy.remove(&slot);
        if trouble.count > 0 {
            self.trouble.insert(slot.clone(), trouble);
        }
        match next {
            Next::Wake => {}
            Next::Gone => {
                self.trouble.remove(&slot);
                self.due.remove(&slot);
                self.memory.forget(&slot);
            }
            Next::After(pause) => {
                let at = Instant::now() + pause;
                let due = self.due.entry(slot).or_insert(at);
                *due = (*due).min(at);
            }
        }
    }

    async fn hear(&mut self, event: EngineEvent) {
        match event {
            EngineEvent::Connected => {
                let was_away = self.context.presence.facts().is_err();
                if self.context.presence.ask().await && was_away {
                    self.welcome_back().await;
                }
                self.mark_all().await;
            }
            EngineEvent::Lost => {
                let error = Error::new(agentbot_wire::Code::EngineUnavailable, "the engine's event stream broke")
                    .hint("is Docker running?");
                if self.context.presence.lost(&error) {
                    tracing::warn!("the engine went away");
                }
                // Whoever waits for it learns at once that it waits for the engine.
                self.mark_all().await;
            }
            EngineEvent::Container { slot, id, action } => {
                tracing::debug!(container.id = id, action, "engine event");
                if let Some(slot) = slot {
                    self.mark(slot);
                }
            }
        }
    }

    /// What ended with the engine was not the agents' fault.
    async fn welcome_back(&mut self) {
        let facts = self.context.presence.last_facts();
        tracing::info!(engine.version = facts.map(|facts| facts.version.clone()), "the engine answers");
        if let Some(since) = self.context.presence.excused_since() {
            let excused = self.context.store.write(move |conn| crashes::excuse_since(conn, since)).await;
            if let Err(error) = excused {
                tracing::warn!(%error, "crashes could not be excused");
            }
        }
    }

    /// The list is the truth: whatever differs from what is known is looked at.
    async fn look_around(&mut self) {
        if self.context.presence.facts().is_err() && self.context.presence.ask().await {
            self.welcome_back().await;
            self.mark_all().await;
        }
        match audit::look_around(&self.context, &mut self.audit).await {
            Ok(slots) => slots.into_iter().for_each(|slot| self.mark(slot)),
            Err(error) => note_away(&self.context, &error),
        }
    }
}

fn note_away(context: &Context, error: &Error) {
    if error.code() == agentbot_wire::Code::EngineUnavailable {
        if context.presence.lost(error) {
            tracing::warn!(%error, "the engine does not answer");
        }
    } else {
        tracing::warn!(%error, "the containers could not be listed");
    }
}
