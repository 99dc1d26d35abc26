//! Brings one agent as far as it can be brought now: look, plan, act, and look again.

use std::sync::Arc;

use agentbot_wire::{Code, Operation, Phase, SlotId};
use jiff::Timestamp;

use super::act::{Outcome, Scene, act};
use super::context::Context;
use super::failure::{Failure, Next, Trouble, after_failure};
use super::memory::Memory;
use super::observe::{self, Record};
use super::phase::{is_reached, phase};
use super::plan::{Step, plan};
use super::tell::{end, write_phase};
use super::{diagnose, fault, operation};
use crate::engine::Facts;
use crate::error::{Error, Result};
use crate::store::instances::{self, Instance};
use crate::store::operations::{self, Ending};

/// More steps in one go than any way from one state to another has: past it something goes in circles.
const MAX_STEPS: usize = 64;
/// Brings the agent of a slot as far as it can be brought now.
pub async fn pass(context: &Arc<Context>, memory: &Memory, slot: &SlotId, trouble: &mut Trouble) -> Next {
    match steps(context, memory, slot, trouble).await {
        Ok(next) => {
            if next == Next::Gone || trouble.message.is_none() {
                *trouble = Trouble::default();
            }
            next
        }
        Err(failure) => after_failure(context, slot, trouble, failure).await,
    }
}

async fn steps(
    context: &Arc<Context>,
    memory: &Memory,
    slot: &SlotId,
    trouble: &mut Trouble,
) -> std::result::Result<Next, Failure> {
    let mut image = false;
    let mut container = None;
    for _ in 0..MAX_STEPS {
        let Some(mut record) = observe::record(context, slot).await? else { return Ok(Next::Gone) };
        if trouble.revision != record.instance.revision {
            *trouble = Trouble { revision: record.instance.revision, ..Trouble::default() };
        }
        let facts = match context.presence.facts() {
            Ok(facts) => facts,
            Err(error) => return Err(Failure { untried: true, ..Failure::of(record, error) }),
        };
        let seen = match container.take() {
            Some(seen) => Ok(seen),
            None => observe::container(context, &record.instance, &facts).await,
        };
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) => return Err(Failure::of(record, error)),
        };
        let situation = observe::situation(context, memory, &record, &seen, image).await;
        let step = plan(&situation);
        let (phase, reason) = phase(&situation);
        let findings = if step == Step::Diagnose { diagnose::findings(&situation) } else { Vec::new() };
        if let Step::Rest(pause) = step {
            let silent = situation.vitals.alive && situation.vitals.silent_for >= situation.deadlines.unhealthy;
            if silent {
                context.links.ping(slot);
            }
            let hears = situation.container.is_alive() && !situation.vitals.alive;
            if rest(context, &mut record, phase, reason, hears, trouble).await? {
                return Ok(pause.map_or(Next::Wake, Next::After));
            }
            continue;
        }
        let mut open = record.operation.take();
        if !announce(context, &mut open, &record.instance, &step, phase).await? {
            continue;
        }
        record.operation = open;
        let outcome = carry_out(context, memory, &mut record, &seen, &facts, &step, findings).await;
        match outcome {
            Ok(Outcome { erased: true, .. }) => return Ok(Next::Gone),
            Ok(_) => {
                image |= step == Step::Image;
                container = (!step.touches_container()).then_some(seen);
            }
            Err(error) => {
                return Err(Failure { step: Some(step), phase: Some(phase), ..Failure::of(record, error) });
            }
        }
    }
    Err(Error::internal("the plan goes in circles").into())
}

async fn carry_out(
    context: &Arc<Context>,
    memory: &Memory,
    record: &mut Record,
    container: &super::plan::Container,
    facts: &Arc<Facts>,
    step: &Step,
    findings: Vec<String>,
) -> Result<Outcome> {
    let kind = record.operation.as_ref().map_or("heal", |operation| operation.kind.as_str());
    let name = step.name();
    if let Some(name) = name {
        fault::point(kind, name, "before");
    }
    let scene = Scene { context, memory, record, container, facts, findings };
    let outcome = act(&scene, step).await?;
    if let Some(name) = name {
        fault::point(kind, name, "after");
    }
    if let (Some(name), Some(note), Some(open)) = (name, &outcome.note, record.operation.as_mut()) {
        operation::note(open, name, note.clone());
        let open = open.clone();
        context.store.write(move |conn| operations::save_progress(conn, &open, Timestamp::now())).await?;
    }
    Ok(outcome)
}

/// Writes down which step an open operation takes next; false when the operation ended meanwhile.
async fn announce(
    context: &Context,
    open: &mut Option<Operation>,
    instance: &Instance,
    step: &Step,
    phase: Phase,
) -> Result<bool> {
    let now = Timestamp::now();
    let changed = phase != instance.phase;
    let next = open.as_mut().zip(step.name()).filter(|(open, name)| operation::current(open) != Some(*name));
    let Some((open, name)) = next else {
        if changed {
            let seen = instance.clone();
            context.store.write(move |conn| write_phase(conn, &seen, phase, None, now)).await?;
            context.events.publish();
        }
        return Ok(true);
    };
    // A container that passed the comparison of all its fields is about to be started: that was the step `verify`.
    let verified = name == "start" && operation::has_done(open, "create") && !operation::has_done(open, "verify");
    if verified || (name == "start" && operation::current(open) == Some("create")) {
        let kind = open.kind.as_str();
        fault::point(kind, "verify", "before");
        operation::begin(open, "verify", now);
        fault::point(kind, "verify", "after");
    }
    operation::begin(open, name, now);
    let (saved, seen) = (open.clone(), instance.clone());
    context
        .store
        .write(move |conn| {
            if changed {
                write_phase(conn, &seen, phase, None, now)?;
            }
            operations::save_progress(conn, &saved, now)
        })
        .await
        .inspect(|_| context.events.publish())
}

/// Nothing to do now: tell the owner, and end the operation whose aim is reached. False when what is wanted changed
/// meanwhile.
async fn rest(
    context: &Context,
    record: &mut Record,
    phase: Phase,
    reason: Option<String>,
    awaits_hello: bool,
    trouble: &mut Trouble,
) -> Result<bool> {
    let seen = record.instance.clone();
    let link = context.links.state(&seen.slot.id);
    let runtime = link.map(|link| link.version).filter(|version| seen.runtime_version.as_ref() != Some(version));
    let now = Timestamp::now();
    let mut open = record.operation.clone();
    let mut ending = None;
    let mut progressed = false;
    if let Some(open) = &mut open {
        if is_reached(open.kind, seen.desired, phase) {
            if phase == Phase::Running {
                await_hello(open, now);
                fault::point(open.kind.as_str(), "hello", "after");
            }
            operation::finish(open, now);
            ending = Some(operation::success(open, phase));
        } else if let Some(error) = hopeless(&seen, phase) {
            ending = Some(Ending::Failed(error.to_api()));
        } else if awaits_hello && operation::current(open) != Some("hello") {
            await_hello(open, now);
            progressed = true;
        }
    }
    let told = phase != seen.phase || reason != seen.reason;
    if !told && ending.is_none() && !progressed && runtime.is_none() {
        trouble.message = None;
        return Ok(true);
    }
    let operation = open.clone();
    if let (Some(open), Some(_)) = (&open, &ending) {
        fault::point(open.kind.as_str(), "end", "before");
    }
    let ended = ending.clone();
    let written = context
        .store
        .write(move |conn| {
            if !write_phase(conn, &seen, phase, reason.as_deref(), now)? {
                return Ok(false);
            }
            if let Some(version) = &runtime {
                instances::set_runtime(conn, &seen.id, Some(version), None)?;
            }
            match (&operation, &ending) {
                (Some(operation), Some(ending)) => end(conn, &seen, operation, ending, now)?,
                (Some(operation), None) if progressed => {
                    operations::save_progress(conn, operation, now)?;
                }
                _ => {}
            }
            Ok(true)
        })
        .await?;
    if let (Some(open), Some(_)) = (&open, &ended) {
        fault::point(open.kind.as_str(), "end", "after");
    }
    context.events.publish();
    trouble.message = None;
    Ok(written)
}

/// Marks the wait for the agent's hello as begun, unless it is already.
fn await_hello(open: &mut Operation, now: Timestamp) {
    if operation::current(open) != Some("hello") {
        fault::point(open.kind.as_str(), "hello", "before");
        operation::begin(open, "hello", now);
    }
}

/// Why an operation that wants the agent to run ends without it: the agent had its chance and one more.
fn hopeless(seen: &Instance, phase: Phase) -> Option<Error> {
    let cause = seen.last_crash.as_deref().unwrap_or("it ended unasked");
    match phase {
        Phase::DataLost => Some(
            Error::new(Code::DataLost, "the agent's workspace directory is gone")
                .hint("put it back, or `repair` to start with an empty one"),
        ),
        Phase::CrashLoop | Phase::Starting | Phase::Provisioning | Phase::Repairing if seen.crash_streak >= 2 => Some(
            Error::new(Code::AgentUnresponsive, format!("the agent does not stay up: {cause}"))
                .hint("starting it goes on by itself with growing pauses; `show` has the cause"),
        ),
        Phase::Starting | Phase::Provisioning | Phase::Repairing
            if seen.crash_streak == 1 && cause.contains("did not say hello") =>
        {
            Some(
                Error::new(Code::AgentUnresponsive, "the agent did not say hello in time")
                    .hint("is its image an Agentbot agent? `show` has the cause; starting it goes on by itself"),
            )
        }
        _ => None,
    }
}
