//! What the owner is told of an agent, and when an operation has reached its aim.

use agentbot_wire::{OperationKind, Phase};

use super::plan::{Situation, is_data_lost};
use crate::store::Desired;

/// What the owner is told, and why where there is more to say.
#[must_use]
pub fn phase(s: &Situation<'_>) -> (Phase, Option<String>) {
    let alive = s.container.is_alive();
    match s.instance.desired {
        Desired::Deleted | Desired::Purged => {
            let gone = s.container.ours().is_none() && !s.door && s.instance.desired == Desired::Deleted;
            (if gone { Phase::Deleted } else { Phase::Deleting }, None)
        }
        Desired::Stopped => (if alive { Phase::Stopping } else { Phase::Stopped }, None),
        Desired::Running => running_phase(s, alive),
    }
}

fn running_phase(s: &Situation<'_>, alive: bool) -> (Phase, Option<String>) {
    let v = s.vitals;
    let healthy = alive && v.greeted && v.silent_for < s.deadlines.unhealthy;
    if s.instance.rebuild.is_due() {
        return (Phase::Repairing, None);
    }
    if is_data_lost(s) {
        let why = "the workspace directory is gone; `repair` starts with an empty one";
        return (Phase::DataLost, Some(why.to_owned()));
    }
    if is_looping(s) {
        let cause = s.instance.last_crash.as_deref().unwrap_or("unknown cause");
        return (Phase::CrashLoop, Some(format!("ended {} times, last: {cause}", s.instance.crash_streak)));
    }
    if healthy && !s.instance.restart.is_due() {
        return (Phase::Running, None);
    }
    if alive && v.greeted && !s.instance.restart.is_due() {
        return (Phase::Unhealthy, Some(format!("no sign of life for {} s", v.silent_for.as_secs())));
    }
    match s.open {
        Some(OperationKind::Provision) => (Phase::Provisioning, None),
        Some(OperationKind::Repair) => (Phase::Repairing, None),
        _ if s.instance.crash_streak > 0 => (Phase::Starting, s.instance.last_crash.clone()),
        _ => (Phase::Starting, None),
    }
}

/// A loop is entered by crashes in a short time and left by long health or by a request alone.
fn is_looping(s: &Situation<'_>) -> bool {
    let streak = s.instance.crash_streak;
    streak > 0 && (s.instance.phase == Phase::CrashLoop || streak.min(s.recent_crashes) >= s.deadlines.loop_after)
}

/// Whether an open operation has reached its aim.
#[must_use]
pub fn is_reached(kind: OperationKind, desired: Desired, phase: Phase) -> bool {
    match kind {
        OperationKind::Stop => phase == Phase::Stopped,
        OperationKind::Delete => phase == Phase::Deleted,
        // A purge ends with the row itself.
        OperationKind::Purge => false,
        _ if desired == Desired::Stopped => phase == Phase::Stopped,
        _ => phase == Phase::Running,
    }
}
