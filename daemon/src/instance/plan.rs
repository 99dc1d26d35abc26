//! What is the next step for one agent? Pure: what is wanted, what is there, and the time give one step.
//!
//! Every step is idempotent and the plan is made anew after each, so a step that was cut short by a crash is simply
//! found undone, or done. That is also how a stop wins: the next plan sees another wish.

use std::time::Duration;

use agentbot_wire::OperationKind;
use jiff::Timestamp;

use super::exit::{Verdict, fingerprint};
use crate::engine::drift::Drift;
use crate::engine::{Observed, RunState};
use crate::store::Desired;
use crate::store::instances::Instance;

/// The container that stands where the agent's should stand.
#[derive(Clone, Debug, PartialEq)]
pub enum Container {
    /// None.
    Absent,
    /// Ours, with what differs from how it should be.
    Ours {
        /// As inspected.
        observed: Box<Observed>,
        /// Fields that are not as [`crate::engine::harden::harden`] says.
        drift: Vec<Drift>,
    },
    /// Somebody else's, under our name.
    Foreign {
        /// The engine's id.
        id: String,
    },
}

impl Container {
    pub(super) fn ours(&self) -> Option<&Observed> {
        match self {
            Self::Ours { observed, .. } => Some(observed),
            _ => None,
        }
    }

    /// Whether a process of ours lives.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.ours().is_some_and(|observed| matches!(observed.state, RunState::Running | RunState::Paused))
    }
}

/// What the agent itself has shown of life, by the monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    /// How long its container has been seen running.
    pub running_for: Duration,
    /// Whether it said hello and beat at least once since its container was started.
    pub greeted: bool,
    /// Whether it is connected, said hello and beat at least once.
    pub alive: bool,
    /// How long it has been connected like that without a missed beat.
    pub healthy_for: Duration,
    /// Time since its last sign of life.
    pub silent_for: Duration,
    /// Whether it was pinged and left the ping unanswered, or cannot be pinged for want of a connection.
    pub ping_unanswered: bool,
}

/// The deadlines that the plan follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// Hello and first beat after the start.
    pub hello: Duration,
    /// Silence after which the owner is told.
    pub unhealthy: Duration,
    /// Silence after which it is restarted, if a ping is left unanswered too.
    pub restart: Duration,
    /// Health after which earlier crashes are forgotten.
    pub forgive: Duration,
    /// Crashes that make a loop.
    pub loop_after: u32,
    /// The longest pause before a start: a clock that was set back must not make it longer.
    pub longest_pause: Duration,
}

/// Everything a plan is made from.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    /// The row.
    pub instance: &'a Instance,
    /// The kind of the open operation.
    pub open: Option<OperationKind>,
    /// Whether a repair under way has written down what it found.
    pub diagnosed: bool,
    /// What stands on the engine.
    pub container: &'a Container,
    /// Whether the workspace directory is there.
    pub workspace: bool,
    /// Whether the agent's socket is open.
    pub door: bool,
    /// Whether the image was seen on the engine in this pass.
    pub image: bool,
    /// Signs of life.
    pub vitals: Vitals,
    /// Crashes within the loop's window.
    pub recent_crashes: u32,
    /// Whether the last exit is the engine's or the host's doing.
    pub exit_excused: bool,
    /// Now.
    pub now: Timestamp,
    /// Deadlines.
    pub deadlines: Deadlines,
}

/// One idempotent step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing before the given time, or until something wakes us.
    Rest(Option<Duration>),
    /// Write down what is wrong, for a repair's report.
    Diagnose,
    /// Have the image on the engine.
    Image,
    /// Have the workspace directory.
    Workspace,
    /// Have the agent's socket open.
    Door,
    /// Create the container.
    Create,
    /// Record a container that was created before its id could be written down.
    Adopt,
    /// Give the container its name back.
    Rename,
    /// Let a frozen container run.
    Unpause,
    /// Start the container.
    Start,
    /// SIGTERM, then SIGKILL after the grace.
    Stop,
    /// Kill it: it does not do its part.
    Kill(Verdict),
    /// Account for an exit; `asked` when it is no crash.
    NoteExit {
        /// Whether somebody wanted it.
        asked: bool,
    },
    /// The container is gone though nobody asked: turn to the next generation.
    Forget,
    /// Remove the container and turn to the next generation.
    Discard(Why),
    /// Somebody else has our name: turn to the next generation.
    Evade,
    /// The agent has been down for the restart that was asked for.
    ServeRestart,
    /// The way is free for the new container that was asked for.
    ServeRebuild,
    /// Healthy for long: forget earlier crashes.
    Forgive,
    /// Close the agent's socket.
    CloseDoor,
    /// Remove every file and row.
    Erase,
}

/// Why a container is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A new one was asked for.
    Rebuild,
    /// It is not as it should be, and never was.
    Unsafe,
    /// It has been changed since it was made.
    Changed,
    /// The agent is being deleted.
    Deleted,
}

impl Step {
    /// Whether another look at the engine is needed after it: the container changed, or the row says another one now.
    #[must_use]
    pub fn touches_container(&self) -> bool {
        !matches!(
            self,
            Self::Diagnose
                | Self::Workspace
                | Self::Door
                | Self::NoteExit { .. }
                | Self::ServeRestart
                | Self::Forgive
                | Self::CloseDoor
        )
    }

    /// The word for it among an operation's steps; `None` for bookkeeping.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        match self {
            Self::Diagnose => Some("diagnose"),
            Self::Image => Some("image"),
            Self::Workspace => Some("workspace"),
            Self::Door => Some("socket"),
            Self::Create => Some("create"),
            Self::Start => Some("start"),
            Self::Stop | Self::Kill(_) => Some("stop"),
            Self::Discard(_) => Some("remove"),
            Self::Erase => Some("files"),
            _ => None,
        }
    }
}

/// Plans the next step.
#[must_use]
pub fn plan(situation: &Situation<'_>) -> Step {
    match situation.instance.desired {
        Desired::Running => toward_running(situation),
        Desired::Stopped => toward_stopped(situation),
        Desired::Deleted | Desired::Purged => toward_nothing(situation),
    }
}

fn toward_running(s: &Situation<'_>) -> Step {
    if s.instance.rebuild.is_due() {
        return rebuild(s);
    }
    if is_data_lost(s) {
        return if s.container.is_alive() { leave_or_stop(s) } else { Step::Rest(None) };
    }
    match s.container {
        Container::Foreign { .. } => Step::Evade,
        Container::Absent if s.instance.slot.container_id.is_some() => Step::Forget,
        Container::Absent => prepare(s).unwrap_or(Step::Create),
        Container::Ours { observed, drift } => existing(s, observed, drift),
    }
}

fn existing(s: &Situation<'_>, observed: &Observed, drift: &[Drift]) -> Step {
    if s.instance.slot.container_id.as_deref() != Some(observed.id.as_str()) {
        return Step::Adopt;
    }
    if observed.name != s.instance.slot.container_name() {
        return Step::Rename;
    }
    if observed.state == RunState::Paused {
        return Step::Unpause;
    }
    let alive = observed.state == RunState::Running;
    if !drift.is_empty() || !observed.risky.is_empty() {
        return match observed.state {
            RunState::Running => Step::Stop,
            RunState::Created => Step::Discard(Why::Unsafe),
            _ => Step::Discard(Why::Changed),
        };
    }
    if alive {
        return if s.instance.restart.is_due() { Step::Stop } else { living(s) };
    }
    match observed.state {
        RunState::Other => return Step::Rest(Some(Duration::from_secs(1))),
        RunState::Dead => return Step::Discard(Why::Changed),
        _ => {}
    }
    match unseen_exit(s, observed) {
        Some(asked) => Step::NoteExit { asked },
        None if s.instance.restart.is_due() => Step::ServeRestart,
        None => match s.instance.next_start_at.and_then(|at| until(s.now, at)) {
            Some(pause) => Step::Rest(Some(pause.min(s.deadlines.longest_pause))),
            None => prepare_again(s).unwrap_or(Step::Start),
        },
    }
}

/// Whether an exit waits to be accounted for, and then whether it was asked for.
fn unseen_exit(s: &Situation<'_>, observed: &Observed) -> Option<bool> {
    let exit = observed.exit.as_ref().filter(|_| observed.state == RunState::Exited)?;
    let seen = s.instance.exit_seen.as_deref() == Some(fingerprint(observed, exit).as_str());
    (!seen).then(|| s.instance.desired != Desired::Running || s.instance.restart.is_due() || s.exit_excused)
}

fn until(now: Timestamp, at: Timestamp) -> Option<Duration> {
    Duration::try_from(at.duration_since(now)).ok().filter(|pause| !pause.is_zero())
}

fn living(s: &Situation<'_>) -> Step {
    if !s.door {
        return Step::Door;
    }
    let Deadlines { hello, unhealthy, restart, forgive, .. } = s.deadlines;
    let v = s.vitals;
    if !v.greeted {
        let left = hello.saturating_sub(v.running_for);
        return if left.is_zero() { Step::Kill(Verdict::NoHello) } else { Step::Rest(Some(left)) };
    }
    if v.silent_for >= restart && v.ping_unanswered {
        return Step::Kill(Verdict::Silent);
    }
    if s.instance.crash_streak > 0 && v.healthy_for >= forgive {
        return Step::Forgive;
    }
    let next = [unhealthy, restart].into_iter().find(|limit| *limit > v.silent_for);
    let check = next.map_or(Duration::from_millis(250), |limit| limit.saturating_sub(v.silent_for));
    Step::Rest(Some(check))
}

/// What is missing before a container can be created.
fn prepare(s: &Situation<'_>) -> Option<Step> {
    if !s.image { Some(Step::Image) } else { prepare_again(s) }
}

/// What is missing before a container can be started.
fn prepare_again(s: &Situation<'_>) -> Option<Step> {
    if !s.workspace || !s.instance.slot.workspace_made {
        return Some(Step::Workspace);
    }
    (!s.door).then_some(Step::Door)
}

fn rebuild(s: &Situation<'_>) -> Step {
    if s.open == Some(OperationKind::Repair) && !s.diagnosed {
        return Step::Diagnose;
    }
    match s.container {
        Container::Ours { observed, .. } => match observed.state {
            RunState::Running => Step::Stop,
            RunState::Paused => Step::Unpause,
            _ => Step::Discard(Why::Rebuild),
        },
        Container::Absent | Container::Foreign { .. } => Step::ServeRebuild,
    }
}

/// A running agent whose workspace is gone writes into nothing: nobody is served by letting it go on.
fn leave_or_stop(s: &Situation<'_>) -> Step {
    match s.container.ours().map(|observed| observed.state) {
        Some(RunState::Running) => Step::Stop,
        Some(RunState::Paused) => Step::Unpause,
        _ => Step::Rest(None),
    }
}

fn toward_stopped(s: &Situation<'_>) -> Step {
    match s.container {
        Container::Ours { observed, .. } => {
            if s.instance.slot.container_id.as_deref() != Some(observed.id.as_str()) {
                return Step::Adopt;
            }
            match observed.state {
                RunState::Running => return Step::Stop,
                RunState::Paused => return Step::Unpause,
                RunState::Other => return Step::Rest(Some(Duration::from_secs(1))),
                RunState::Dead => return Step::Discard(Why::Changed),
                RunState::Created | RunState::Exited => {}
            }
            if unseen_exit(s, observed).is_some() {
                return Step::NoteExit { asked: true };
            }
        }
        Container::Absent if s.instance.slot.container_id.is_some() => return Step::Forget,
        Container::Absent | Container::Foreign { .. } => {}
    }
    if s.door { Step::CloseDoor } else { Step::Rest(None) }
}

fn toward_nothing(s: &Situation<'_>) -> Step {
    match s.container {
        Container::Ours { observed, .. } => match observed.state {
            RunState::Running => return Step::Stop,
            RunState::Paused => return Step::Unpause,
            _ => return Step::Discard(Why::Deleted),
        },
        Container::Absent if s.instance.slot.container_id.is_some() => return Step::Forget,
        Container::Absent | Container::Foreign { .. } => {}
    }
    if s.door {
        return Step::CloseDoor;
    }
    if s.instance.desired == Desired::Purged { Step::Erase } else { Step::Rest(None) }
}

pub(super) fn is_data_lost(s: &Situation<'_>) -> bool {
    s.instance.slot.workspace_made && !s.workspace
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
