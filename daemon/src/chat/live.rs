//! The turns of all agents as they run: what the lanes decide is done here, and what comes of it goes back to them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agentbot_wire::{
    ApiError, ChatDelta, ChatTool, Code, ConversationId, InstanceId, TurnCancel, TurnId, TurnRun, TurnStatus, method,
};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::close::{self, Closed};
use super::event::Event;
use super::hub::Hub;
use super::lanes::{Effect, End, Lanes, Limits, Partial, Presence};
use super::reason::reason;
use crate::config;
use crate::error::Result;
use crate::instance::fault;
use crate::link::{Links, NoReply};
use crate::memory::Memory;
use crate::store::turns::Turn;
use crate::store::{Connection, Store, messages, turns};
use crate::task::Activator;

/// Pause before an end that the disk refused is written again.
const AGAIN: Duration = Duration::from_secs(1);

/// The lanes of all agents, and what acts for them. Clones are the same one.
#[derive(Clone)]
pub(super) struct Live(Arc<Inner>);

struct Inner {
    store: Store,
    memory: Memory,
    links: Links,
    config: config::Live,
    hub: Arc<Hub>,
    agents: Mutex<HashMap<InstanceId, Lanes>>,
    tasks: TaskTracker,
    /// Effects also come up on the store's thread, which has no runtime of its own.
    runtime: Handle,
    stop: CancellationToken,
    clock: Activator,
    stray: AtomicU64,
}

/// What the turns need of the rest of the daemon.
pub struct Parts {
    /// State.
    pub store: Store,
    /// What agents remember.
    pub memory: Memory,
    /// Connected agents.
    pub links: Links,
    /// Configuration.
    pub config: config::Live,
    /// Where what goes on by itself is tracked.
    pub tasks: TaskTracker,
    /// What runs it.
    pub runtime: Handle,
    /// Cancelled when the daemon ends.
    pub stop: CancellationToken,
}

impl Live {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { store, memory, links, config, tasks, runtime, stop } = parts;
        let (hub, agents, clock, stray) = (Arc::default(), Mutex::default(), Activator::new(), AtomicU64::default());
        Self(Arc::new(Inner { store, memory, links, config, hub, agents, tasks, runtime, stop, clock, stray }))
    }

    pub(super) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.0.memory
    }

    /// Wakes whoever looks at the clock.
    pub(super) fn clock(&self) -> &Activator {
        &self.0.clock
    }

    pub(super) fn hub(&self) -> &Arc<Hub> {
        &self.0.hub
    }

    /// Events of agents about turns that were not open for them, since the start.
    pub(super) fn stray(&self) -> u64 {
        self.0.stray.load(Ordering::Relaxed)
    }

    fn agents(&self) -> MutexGuard<'_, HashMap<InstanceId, Lanes>> {
        // Lanes are whole after every call of theirs, so a panic elsewhere cannot have broken them.
        self.0.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes an agent's lanes and does what follows from it.
    pub(super) fn apply(&self, agent: &InstanceId, change: impl FnOnce(&mut Lanes, Instant) -> Vec<Effect>) {
        self.try_apply(agent, |lanes, now| Some(change(lanes, now)));
    }

    /// As [`Live::apply`]; says whether there was something to change.
    pub(super) fn try_apply(
        &self,
        agent: &InstanceId,
        change: impl FnOnce(&mut Lanes, Instant) -> Option<Vec<Effect>>,
    ) -> bool {
        let effects = {
            let mut agents = self.agents();
            let lanes = agents.entry(agent.clone()).or_default();
            let effects = change(lanes, Instant::now());
            if lanes.is_idle() {
                agents.remove(agent);
            }
            effects
        };
        let Some(effects) = effects else { return false };
        for effect in effects {
            self.carry_out(agent, effect);
        }
        true
    }

    /// As [`Live::try_apply`] for what an agent said; what it said in vain is counted.
    pub(super) fn heard(&self, agent: &InstanceId, change: impl FnOnce(&mut Lanes, Instant) -> Option<Vec<Effect>>) {
        if !self.try_apply(agent, change) {
            self.count_stray();
        }
    }

    pub(super) fn count_stray(&self) {
        self.0.stray.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a stored turn in.
    pub(super) fn queue(&self, turn: &Turn) {
        self.apply(&turn.instance, |lanes, now| lanes.queue(turn, now));
    }

    /// What has been shown of an agent's turns under way.
    pub(super) fn partials(&self, agent: &InstanceId, conversation: Option<&ConversationId>) -> Vec<Partial> {
        self.agents().get(agent).map(|lanes| lanes.partials(conversation)).unwrap_or_default()
    }

    /// Looks at the clock for every turn under way.
    pub(super) fn tick(&self) {
        let chat = &self.0.config.load().chat;
        let limits = Limits { idle: chat.turn_idle, total: chat.turn_timeout };
        let due: Vec<InstanceId> = {
            let agents = self.agents();
            agents.iter().filter(|(_, lanes)| lanes.needs_clock()).map(|(agent, _)| agent.clone()).collect()
        };
        for agent in due {
            self.apply(&agent, |lanes, now| lanes.tick(limits, now));
        }
    }

    /// Whether any turn is under way with its agent.
    pub(super) fn is_busy(&self) -> bool {
        self.agents().values().any(Lanes::needs_clock)
    }

    /// Ends every open turn of an agent that is no more.
    pub(super) fn clear(&self, agent: &InstanceId) {
        let open = self.agents().get(agent).map(Lanes::open).unwrap_or_default();
        for turn in open {
            self.clear_one(agent, &turn);
        }
    }

    fn clear_one(&self, agent: &InstanceId, turn: &TurnId) {
        self.try_apply(agent, |lanes, _| lanes.abort(turn, deleted()));
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.tasks.spawn_on(work, &self.0.runtime);
    }

    fn carry_out(&self, agent: &InstanceId, effect: Effect) {
        let (live, agent) = (self.clone(), agent.clone());
        match effect {
            Effect::Offer { turn, attempt, to } => {
                self.0.clock.activate();
                self.spawn(async move { live.offer(&agent, turn, attempt, to).await });
            }
            Effect::Cancel { turn, to } => self.carry_out_cancel(turn, &to),
            Effect::Taken { turn, attempt, boot } => self.spawn(async move {
                live.note(turn, move |conn, turn| turns::take(conn, turn, attempt, boot.as_deref())).await;
                fault::point("chat", "take", "after");
            }),
            Effect::Shown { turn } => self.spawn(async move {
                live.note(turn, turns::show).await;
                fault::point("chat", "show", "after");
            }),
            Effect::Delta { turn, conversation, index, text, snapshot } => {
                if self.0.hub.is_heard(&agent) {
                    let delta = ChatDelta { agent, conversation, turn, index, text, snapshot };
                    self.0.hub.publish(&Arc::new(Event::delta(delta)));
                }
            }
            Effect::Tool { turn, conversation, call } => {
                if self.0.hub.is_heard(&agent) {
                    self.0.hub.publish(&Arc::new(Event::tool(ChatTool { agent, conversation, turn, call })));
                }
            }
            Effect::End(end) => self.spawn(async move { live.close(&agent, end).await }),
        }
    }

    /// Gives a turn to its agent.
    async fn offer(&self, agent: &InstanceId, turn: TurnId, attempt: u32, to: Presence) {
        let wanted = turn.clone();
        let loaded = self.0.store.read(move |conn| {
            let Some(turn) = turns::get(conn, &wanted)? else { return Ok(None) };
            messages::get(conn, &turn.message)
        });
        let message = match loaded.await {
            Ok(Some(message)) => message,
            // It went with its agent.
            Ok(None) => return self.clear_one(agent, &turn),
            Err(error) => {
                tracing::warn!(turn.id = %turn, %error, "a turn could not be read; it is tried again");
                let busy = ApiError { code: Code::Busy, message: String::new(), hint: None };
                return self.apply(agent, |lanes, now| lanes.refused(&turn, to.connection, busy, now));
            }
        };
        let limit = self.0.config.load().chat.ack_timeout;
        let run = TurnRun { turn: turn.clone(), message, attempt };
        let params = serde_json::to_value(run).unwrap_or_default();
        fault::point("chat", "offer", "before");
        let asked = self.0.links.ask(&to.slot, to.connection, method::TURN_RUN, params, limit);
        // A daemon that ends waits for nobody: the turn stays open, and its next start asks again.
        let reply = tokio::select! {
            reply = asked => reply,
            () = self.0.stop.cancelled() => return,
        };
        fault::point("chat", "offer", "after");
        match reply {
            Ok(Ok(_)) => {
                if !self.try_apply(agent, |lanes, now| lanes.acked(&turn, to.connection, now)) {
                    self.call_off(turn, &to).await;
                }
            }
            Ok(Err(error)) => {
                let error = reason(Some(error.code), &error.message, error.hint.as_deref());
                self.apply(agent, |lanes, now| lanes.refused(&turn, to.connection, error, now));
            }
            Err(NoReply::Late) => {
                self.apply(agent, |lanes, _| lanes.unanswered(&turn, to.connection, unresponsive(limit)));
            }
            // Its next hello brings the turn up again.
            Err(NoReply::Gone) => {}
        }
    }

    /// An agent took a turn that is open no more. One that was stopped meanwhile is stopped there too: the word of it may
    /// have come before the turn.
    async fn call_off(&self, turn: TurnId, to: &Presence) {
        let wanted = turn.clone();
        let found = self.0.store.read(move |conn| turns::get(conn, &wanted)).await;
        if found.is_ok_and(|found| found.is_none_or(|found| found.status != TurnStatus::Done)) {
            self.carry_out_cancel(turn, to);
        }
    }

    fn carry_out_cancel(&self, turn: TurnId, to: &Presence) {
        let params = serde_json::to_value(TurnCancel { turn }).unwrap_or_default();
        self.0.links.tell(&to.slot, to.connection, method::TURN_CANCEL, params);
    }

    /// Writes down how far a turn is, again until the disk takes it. An end that was written before stays.
    async fn note(&self, turn: TurnId, write: impl Fn(&Connection, &TurnId) -> Result<()> + Clone + Send + 'static) {
        loop {
            let (noted, write) = (turn.clone(), write.clone());
            let Err(error) = self.0.store.write(move |conn| write(conn, &noted)).await else { return };
            tracing::debug!(turn.id = %turn, %error, "how far a turn is was not written down; it is tried again");
            if !self.patience().await {
                return;
            }
        }
    }

    /// Waits a little; says whether the daemon goes on.
    async fn patience(&self) -> bool {
        tokio::select! {
            () = self.0.stop.cancelled() => false,
            () = tokio::time::sleep(AGAIN) => true,
        }
    }

    /// Writes the end of a turn down, again until the disk takes it, and tells everybody. A daemon that ends before has
    /// the turn open at its next start.
    async fn close(&self, agent: &InstanceId, end: End) {
        let mut warned = false;
        loop {
            let (wanted, published, instance, live) = (end.clone(), end.clone(), agent.clone(), self.clone());
            fault::point("chat", "end", "before");
            let written = self.0.store.write_then(
                move |conn| close::write(conn, &instance, &wanted, crate::store::now()),
                move |closed| live.closed(&published, closed),
            );
            let Err(error) = written.await else { return fault::point("chat", "end", "after") };
            if !std::mem::replace(&mut warned, true) {
                tracing::warn!(turn.id = %end.turn, %error, "the end of a turn is not on the disk yet; it is tried again");
            }
            if !self.patience().await {
                return;
            }
        }
    }

    /// Tells of an end, on the store's thread and in the order of the commits.
    fn closed(&self, end: &End, closed: &Closed) {
        if self.0.hub.is_heard(&closed.agent) {
            for message in &closed.messages {
                self.0.hub.publish(&Arc::new(Event::message(message.clone())));
            }
            if let Some(done) = &closed.done {
                self.0.hub.publish(&Arc::new(Event::done(done.clone())));
            }
        }
        self.apply(&closed.agent, |lanes, now| lanes.ended(&end.turn, now));
    }
}

fn unresponsive(limit: Duration) -> ApiError {
    ApiError {
        code: Code::AgentUnresponsive,
        message: format!("the agent did not take the message within {limit:?}"),
        hint: Some("ask again with chat.retry; `agentbotctl restart` helps with an agent that hangs".to_owned()),
    }
}

fn deleted() -> ApiError {
    ApiError {
        code: Code::Cancelled,
        message: "the agent was deleted before it answered".to_owned(),
        hint: Some("`agentbotctl undelete` brings it back; then ask again".to_owned()),
    }
}
