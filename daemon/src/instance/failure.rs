//! What follows a pass that failed: wait for the engine, try again soon, or give the operation up and go on trying
//! slowly.

use std::time::Duration;

use agentbot_wire::{Code, Phase, SlotId};
use jiff::Timestamp;

use super::context::Context;
use super::observe::{self, Record};
use super::plan::Step;
use super::tell::{end, write_phase};
use super::{exit, operation};
use crate::error::{Error, Result};
use crate::store::operations::{self, Ending};

/// Attempts at a step before its operation fails. The agent goes on being tried after that.
const ATTEMPTS: u32 = 3;

/// What is to be done about a slot after a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Look again when something wakes it.
    Wake,
    /// Look again after so long.
    After(Duration),
    /// Something failed: nothing but a new wish or the engine's return may have it looked at earlier.
    Retry(Duration),
    /// Nothing is left of it.
    Gone,
}

/// Failures of a slot in a row, and what was wanted when they began.
#[derive(Clone, Debug, Default)]
pub struct Trouble {
    /// How many.
    pub count: u32,
    /// The wish under which they happened.
    pub revision: u32,
    /// What the last one said.
    pub message: Option<String>,
}

/// What went wrong in a pass, with what is known of where.
pub(super) struct Failure {
    /// What it was.
    pub error: Error,
    /// What had been read.
    pub record: Option<Box<Record>>,
    /// The step it was.
    pub step: Option<Step>,
    /// The phase as it was just told.
    pub phase: Option<Phase>,
    /// The engine was known to be away: nothing was tried.
    pub untried: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, record: None, step: None, phase: None, untried: false }
    }
}

impl Failure {
    pub(super) fn of(record: Record, error: Error) -> Self {
        Self { record: Some(Box::new(record)), ..Self::from(error) }
    }
}

/// Accounts for a pass that panicked or took too long.
pub async fn broken(context: &Context, slot: &SlotId, trouble: &mut Trouble, why: &'static str) -> Next {
    let record = observe::record(context, slot).await.ok().flatten();
    let error = Error::internal(why);
    let failure = record.map_or_else(|| Failure::from(Error::internal(why)), |record| Failure::of(record, error));
    after_failure(context, slot, trouble, failure).await
}

/// What to do when a step failed: wait for the engine, try again, or give the operation up and go on trying slowly.
pub(super) async fn after_failure(context: &Context, slot: &SlotId, trouble: &mut Trouble, failure: Failure) -> Next {
    let Failure { error, record, step, phase, untried } = failure;
    // One late call does not make an engine that is away: it is asked.
    let away = error.code() == Code::EngineUnavailable && !context.presence.ask().await;
    if untried && is_back(error.code(), away) {
        return Next::After(Duration::ZERO);
    }
    // A store or an engine without room says nothing about the step.
    if !away && error.code() != Code::Busy {
        trouble.count += 1;
        tracing::warn!(slot.id = %slot, %error, attempt = trouble.count, "a step failed");
    }
    trouble.message = Some(error.message().to_owned());
    // A container that is missing is found missing at the next look; an image that is missing stays so.
    let no_image = error.code() == Code::NotFound && step == Some(Step::Image);
    let permanent = no_image || matches!(error.code(), Code::Invalid | Code::NotHardened | Code::Unsupported);
    let give_up = !away && (permanent || trouble.count >= ATTEMPTS);
    if let Some(record) = record
        && let Err(error) = write_failure(context, *record, &error, phase, give_up).await
    {
        tracing::error!(slot.id = %slot, %error, "a failure could not be written down");
    }
    // Its return wakes every slot.
    if away { Next::Wake } else { Next::Retry(pause(context, trouble.count)) }
}

/// Whether an engine that was known to be away is found to answer. One that is refused for what it is (`unsupported`)
/// stays refused: to look again at once would never end.
fn is_back(known: Code, away: bool) -> bool {
    known == Code::EngineUnavailable && !away
}

fn pause(context: &Context, failures: u32) -> Duration {
    let restart = &context.config.load().restart;
    let quick = Duration::from_millis(200).saturating_mul(failures.max(1));
    if failures < ATTEMPTS { quick } else { exit::backoff(failures - ATTEMPTS + 1, restart.base, restart.max) }
}

async fn write_failure(
    context: &Context,
    record: Record,
    error: &Error,
    phase: Option<Phase>,
    give_up: bool,
) -> Result<()> {
    let (api, now) = (error.to_api(), Timestamp::now());
    let reason = api.message.clone();
    // What is given up by its owner is taken away however long it takes: its operation waits.
    let fails = give_up && !record.instance.desired.is_gone();
    context
        .store
        .write(move |conn| {
            let seen = &record.instance;
            // Where nothing could be seen the last phase is the best that can be said; the reason says the rest.
            let phase = if fails { Phase::Failed } else { phase.unwrap_or(seen.phase) };
            write_phase(conn, seen, phase, Some(&reason), now)?;
            let Some(mut open) = record.operation else { return Ok(()) };
            if fails {
                end(conn, seen, &open, &Ending::Failed(api), now)
            } else {
                operation::put_off(&mut open, &reason);
                operations::save_progress(conn, &open, now).map(|_| ())
            }
        })
        .await?;
    context.events.publish();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_engine_that_came_back_is_looked_at_again_at_once() {
        assert!(is_back(Code::EngineUnavailable, false));
        assert!(!is_back(Code::EngineUnavailable, true));
        assert!(!is_back(Code::Unsupported, false), "an engine that is too old would be looked at for ever");
    }
}
