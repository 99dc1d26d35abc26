//! Looks at everything a plan needs to know about one agent.

use std::collections::HashMap;
use std::sync::Mutex;

use agentbot_wire::{Operation, SlotId};
use jiff::Timestamp;
use tokio::time::Instant;

use super::context::Context;
use super::plan::{Container, Situation, Verdict, Vitals};
use crate::engine::{Facts, Observed, RunState, drift, harden};
use crate::error::Result;
use crate::store::instances::{self, Instance};
use crate::store::{crashes, operations};

/// What stands in the store about one agent.
pub struct Record {
    /// Its row.
    pub instance: Instance,
    /// Its open operation.
    pub operation: Option<Operation>,
    /// Crashes within the loop's window.
    pub recent_crashes: u32,
}

/// Reads an agent's record; `None` when the slot has none.
///
/// # Errors
/// Storage errors.
pub async fn record(context: &Context, slot: &SlotId) -> Result<Option<Record>> {
    let config = context.config.load();
    let (slot, window, loop_after) = (slot.clone(), config.restart.crash_loop_window, config.restart.crash_loop_after);
    context
        .store
        .read(move |conn| {
            let Some(instance) = instances::in_slot(conn, &slot)? else { return Ok(None) };
            let operation = operations::open(conn, &instance.id)?;
            let recent_crashes = if instance.crash_streak >= loop_after {
                let since = Timestamp::now().checked_sub(window).unwrap_or(Timestamp::UNIX_EPOCH);
                crashes::count_since(conn, &instance.id, since)?
            } else {
                0
            };
            Ok(Some(Record { instance, operation, recent_crashes }))
        })
        .await
}

/// What a daemon remembers of a slot between two looks, by the monotonic clock. A daemon that starts again gives every
/// agent its full time anew.
#[derive(Default)]
pub struct Memory {
    running: Mutex<HashMap<SlotId, (String, Instant)>>,
    verdicts: Mutex<HashMap<SlotId, Verdict>>,
}

impl Memory {
    fn running_for(&self, slot: &SlotId, run: Option<String>) -> std::time::Duration {
        let mut seen = self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(run) = run else {
            seen.remove(slot);
            return std::time::Duration::ZERO;
        };
        let now = Instant::now();
        let entry = seen.entry(slot.clone()).or_insert_with(|| (run.clone(), now));
        if entry.0 != run {
            *entry = (run, now);
        }
        now.duration_since(entry.1)
    }

    /// Remembers why an agent was killed, for when its exit is accounted for.
    pub fn condemn(&self, slot: &SlotId, verdict: Verdict) {
        self.verdicts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(slot.clone(), verdict);
    }

    /// Why an agent was killed, once.
    pub fn take_verdict(&self, slot: &SlotId) -> Option<Verdict> {
        self.verdicts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(slot)
    }

    /// Forgets a slot that is no more.
    pub fn forget(&self, slot: &SlotId) {
        self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(slot);
        self.take_verdict(slot);
    }
}

/// The container where the agent's should stand.
///
/// # Errors
/// When the engine does not answer.
pub async fn container(context: &Context, instance: &Instance, facts: &Facts) -> Result<Container> {
    let engine = context.presence.engine();
    let name = instance.slot.container_name();
    if let Some(id) = &instance.slot.container_id
        && let Some(observed) = engine.inspect(id).await?
    {
        return Ok(ours(context, instance, facts, observed));
    }
    Ok(match engine.inspect(&name).await? {
        None => Container::Absent,
        Some(observed) if is_ours(context, &observed, &name) => ours(context, instance, facts, observed),
        Some(observed) => Container::Foreign { id: observed.id },
    })
}

fn is_ours(context: &Context, observed: &Observed, name: &str) -> bool {
    observed.labels.as_ref().is_some_and(|labels| context.is_ours(labels, name))
}

fn ours(context: &Context, instance: &Instance, facts: &Facts, observed: Observed) -> Container {
    let image = instance.slot.image_id.as_deref().unwrap_or_default();
    let wanted = harden::harden(&context.spec(instance, image), facts);
    let drift = drift::drift(&wanted, &observed.hardening, facts);
    Container::Ours { observed: Box::new(observed), drift }
}

/// What the agent has shown of life.
#[must_use]
pub fn vitals(context: &Context, memory: &Memory, slot: &SlotId, container: &Container) -> Vitals {
    let run = match container {
        Container::Ours { observed, .. } if observed.state == RunState::Running => {
            let started = observed.started_at.map_or_else(String::new, |at| at.to_string());
            Some(format!("{}@{started}", observed.id))
        }
        _ => None,
    };
    let running_for = memory.running_for(slot, run);
    let link = context.links.state(slot);
    let ping = context.config.load().beat.ping_timeout;
    Vitals {
        running_for,
        alive: link.as_ref().is_some_and(|link| link.beats > 0),
        healthy_for: link.as_ref().map(|link| link.healthy_for).unwrap_or_default(),
        silent_for: link.as_ref().map(|link| link.silent_for).unwrap_or_default(),
        ping_unanswered: link.and_then(|link| link.ping_open_for).is_some_and(|open| open >= ping),
    }
}

/// Puts everything a plan is made from together.
pub async fn situation<'a>(
    context: &Context,
    memory: &Memory,
    record: &'a Record,
    container: &'a Container,
    image: bool,
) -> Situation<'a> {
    let slot = &record.instance.slot;
    let excused = match container {
        Container::Ours { observed, .. } => observed.exit.as_ref().is_some_and(|exit| context.presence.excuses(exit)),
        _ => false,
    };
    Situation {
        instance: &record.instance,
        open: record.operation.as_ref().map(|operation| operation.kind),
        diagnosed: record.operation.as_ref().is_some_and(|operation| {
            operation.steps.iter().any(|step| step.name == "diagnose" && step.detail.is_some())
        }),
        container,
        workspace: context.dirs.has_workspace(slot).await,
        door: context.doors.is_open(&slot.id).await,
        image,
        vitals: vitals(context, memory, &slot.id, container),
        recent_crashes: record.recent_crashes,
        exit_excused: excused,
        now: Timestamp::now(),
        deadlines: context.deadlines(),
    }
}
