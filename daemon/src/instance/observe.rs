//! Looks at everything a plan needs to know about one agent.

use agentbot_wire::{Operation, SlotId};
use jiff::Timestamp;

use super::context::Context;
use super::memory::Memory;
use super::plan::{Container, Situation};
use crate::engine::{Facts, Observed, drift, harden};
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
        vitals: memory.vitals(context, &slot.id, container),
        recent_crashes: record.recent_crashes,
        exit_excused: excused,
        now: Timestamp::now(),
        deadlines: context.deadlines(),
    }
}
