//! The one task that acts on the engine. It owns the workers, one per slot at a time, and everything that wakes them.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agentbot_wire::SlotId;
use futures_util::future::FutureExt;
use futures_util::stream::{BoxStream, StreamExt};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::agenda::Agenda;
use super::audit::{self, Audit, Findings};
use super::context::Context;
use super::failure::{Next, Trouble, broken};
use super::memory::Memory;
use super::worker::pass;
use crate::engine::{EngineEvent, Listed};
use crate::error::Error;
use crate::store::{crashes, slots};

/// Slots worked on at once. The engine has a limiter of its own for what costs it; this bounds memory and patience.
const WORKERS: usize = 64;
/// Workers beyond that for slots of which somebody asked something: a crowd of stuck ones must not keep a stop waiting.
const RESERVED: usize = 16;
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

/// What a worker or a job of the desk came back with.
enum Done {
    /// A slot was brought as far as it could be.
    Worked { slot: SlotId, next: Next, trouble: Trouble },
    /// The engine's list was compared with what is known.
    Looked { audit: Audit, findings: Findings },
    /// Left-over containers were removed.
    Swept,
    /// The engine was asked who it is.
    Asked,
}

/// What the reconciler knows between two turns of its loop. It never waits for the engine itself.
struct Desk {
    context: Arc<Context>,
    memory: Arc<Memory>,
    agenda: Agenda,
    trouble: HashMap<SlotId, Trouble>,
    jobs: JoinSet<Done>,
    workers: usize,
    /// Absent while a look around is under way.
    audit: Option<Audit>,
    asking: bool,
    sweeping: bool,
}

/// Runs until `stop`, then gives the workers `drain` to end the step they are at. What they leave undone is resumed at
/// the next start.
pub async fn run(context: Arc<Context>, audit: Audit, pulse: Pulse, stop: CancellationToken, drain: Duration) {
    let mut events = Arc::clone(context.presence.engine()).events(&context.daemon_id);
    let mut presences = context.presence.follow();
    let mut desk = Desk {
        context: Arc::clone(&context),
        memory: Arc::default(),
        agenda: Agenda::default(),
        trouble: HashMap::new(),
        jobs: JoinSet::new(),
        workers: 0,
        audit: Some(audit),
        asking: false,
        sweeping: false,
    };
    let mut list = tokio::time::interval(context.config.load().engine.list_period);
    list.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pulse.beat();
        desk.dispatch();
        let next_due = desk.next_due();
        tokio::select! {
            () = stop.cancelled() => break,
            () = context.asks.wait() => context.asks.take().into_iter().for_each(|slot| desk.agenda.ask(slot)),
            () = context.wakes.wait() => context.wakes.take().into_iter().for_each(|slot| desk.agenda.news(slot)),
            event = next_event(&mut events) => desk.hear(event),
            Some(done) = desk.jobs.join_next() => desk.settle(done),
            available = presences.changed() => desk.face(available).await,
            _ = list.tick() => {
                desk.look_around();
                let period = context.config.load().engine.list_period;
                if list.period() != period {
                    list = tokio::time::interval_at(Instant::now() + period, period);
                }
            }
            () = tokio::time::sleep_until(next_due) => {}
        }
    }
    let finish = async { while desk.jobs.join_next().await.is_some() {} };
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
    fn next_due(&self) -> Instant {
        let idle = Instant::now() + Duration::from_secs(3600);
        if self.has_room() { self.agenda.next().unwrap_or(idle) } else { idle }
    }

    fn has_room(&self) -> bool {
        self.workers < WORKERS || (self.workers < WORKERS + RESERVED && self.agenda.is_asked())
    }

    /// Starts a worker for every slot that is due and not being worked on.
    fn dispatch(&mut self) {
        while self.has_room()
            && let Some(slot) = self.agenda.take()
        {
            self.workers += 1;
            let (context, memory) = (Arc::clone(&self.context), Arc::clone(&self.memory));
            let mut trouble = self.trouble.remove(&slot).unwrap_or_default();
            self.jobs.spawn(async move {
                let work = AssertUnwindSafe(pass(&context, &memory, &slot, &mut trouble)).catch_unwind();
                let next = match tokio::time::timeout(PASS_LIMIT, work).await {
                    Ok(Ok(next)) => next,
                    Ok(Err(_)) => broken(&context, &slot, &mut trouble, "a worker panicked").await,
                    Err(_) => broken(&context, &slot, &mut trouble, "a pass took too long").await,
                };
                Done::Worked { slot, next, trouble }
            });
        }
    }

    fn settle(&mut self, done: std::result::Result<Done, JoinError>) {
        match done {
            Ok(Done::Worked { slot, next, trouble }) => self.settle_worker(slot, next, trouble),
            Ok(Done::Looked { audit, findings: Findings { slots, left_over } }) => {
                self.audit = Some(audit);
                slots.into_iter().for_each(|slot| self.agenda.news(slot));
                self.sweep(left_over);
            }
            Ok(Done::Swept) => self.sweeping = false,
            Ok(Done::Asked) => self.asking = false,
            // Workers and jobs catch their own panics, so what cannot be joined was cut off by the end of the runtime.
            Err(error) => tracing::error!(%error, "a job was cut off"),
        }
    }

    fn settle_worker(&mut self, slot: SlotId, next: Next, trouble: Trouble) {
        self.workers -= 1;
        self.agenda.done(&slot);
        if trouble.count > 0 {
            self.trouble.insert(slot.clone(), trouble);
        }
        match next {
            Next::Wake => {}
            Next::After(pause) => self.agenda.after(slot, pause),
            Next::Retry(pause) => self.agenda.retry(slot, pause),
            Next::Gone => {
                self.trouble.remove(&slot);
                self.agenda.forget(&slot);
                self.memory.forget(&slot);
            }
        }
    }

    fn hear(&mut self, event: EngineEvent) {
        match event {
            EngineEvent::Connected => {
                self.ask();
                self.look_around();
            }
            EngineEvent::Lost => {
                let error = Error::new(agentbot_wire::Code::EngineUnavailable, "the engine's event stream broke")
                    .hint("is Docker running?");
                self.context.presence.lost(&error);
            }
            EngineEvent::Container { slot, id, action } => {
                tracing::debug!(container.id = id, action, "engine event");
                if let Some(slot) = slot {
                    self.agenda.news(slot);
                }
            }
        }
    }

    /// The engine came or went: every slot is looked at. What ended with the engine was not the agents' fault, and whoever
    /// waits for it learns that it does.
    async fn face(&mut self, available: bool) {
        if available {
            let facts = self.context.presence.last_facts();
            tracing::info!(engine.version = facts.map(|facts| facts.version.clone()), "the engine answers");
            self.agenda.forgive();
            if let Some(since) = self.context.presence.excused_since()
                && let Err(error) = self.context.store.write(move |conn| crashes::excuse_since(conn, since)).await
            {
                tracing::warn!(%error, "crashes could not be excused");
            }
        } else {
            let status = self.context.presence.status();
            tracing::warn!(error = status.error, "the engine does not answer");
        }
        match self.context.store.read(slots::all).await {
            // As if somebody had asked: a slot that is being worked on now is looked at again afterwards.
            Ok(all) => all.into_iter().for_each(|slot| self.agenda.ask(slot)),
            Err(error) => tracing::error!(%error, "the agents could not be read"),
        }
    }

    fn ask(&mut self) {
        if !std::mem::replace(&mut self.asking, true) {
            let context = Arc::clone(&self.context);
            self.jobs.spawn(async move {
                guarded("asking the engine", context.presence.ask()).await;
                Done::Asked
            });
        }
    }

    /// The list is the truth: whatever differs from what is known is looked at. One look at a time.
    fn look_around(&mut self) {
        let Some(mut audit) = self.audit.take() else { return };
        let context = Arc::clone(&self.context);
        self.jobs.spawn(async move {
            let findings = guarded("a look around", look_around(&context, &mut audit)).await.unwrap_or_default();
            Done::Looked { audit, findings }
        });
    }

    fn sweep(&mut self, left_over: Vec<Listed>) {
        if left_over.is_empty() || std::mem::replace(&mut self.sweeping, true) {
            return;
        }
        let context = Arc::clone(&self.context);
        self.jobs.spawn(async move {
            guarded("a sweep", audit::sweep(&context, left_over)).await;
            Done::Swept
        });
    }
}

/// Carries a job out; one that panics is said to have, and its turn comes again.
async fn guarded<T>(what: &str, job: impl Future<Output = T>) -> Option<T> {
    let done = AssertUnwindSafe(job).catch_unwind().await;
    if done.is_err() {
        tracing::error!("{what} panicked; its turn comes again");
    }
    done.ok()
}

async fn look_around(context: &Context, audit: &mut Audit) -> Findings {
    if context.presence.facts().is_err() && !context.presence.ask().await {
        return Findings::default();
    }
    match audit::look_around(context, audit).await {
        Ok(findings) => findings,
        Err(error) => {
            tracing::warn!(%error, "the containers could not be listed");
            // One late list does not make an engine that is away: it is asked.
            if error.code() == agentbot_wire::Code::EngineUnavailable {
                context.presence.ask().await;
            }
            Findings::default()
        }
    }
}
