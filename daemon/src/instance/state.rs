//! May this request be accepted? The whole policy is one pure function.

use agentbot_wire::{OperationKind, Phase};

use crate::store::{Desired, Wish};

/// What a request meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What is wanted so far.
    pub desired: Desired,
    /// What was wanted before it was deleted.
    pub desired_before: Desired,
    /// What the owner is told.
    pub phase: Phase,
    /// The kind of the open operation.
    pub open: Option<OperationKind>,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Do it; an open operation is cancelled in its favour.
    Accept(Wish),
    /// It is so already: nothing to do.
    Ignore,
    /// An open operation does just that: the caller gets it.
    Join,
    /// Not now, and why.
    Deny(Denied),
}

/// Why a request is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Another operation is under way that this one must not disturb.
    Busy(OperationKind),
    /// The agent is deleted.
    Deleted,
    /// The agent is not deleted.
    NotDeleted,
}

/// Decides on a request. Stop, delete and purge win over everything but one another's betters: purge over delete over
/// stop; repair wins over whatever tries to make the agent run.
#[must_use]
pub fn admit(request: OperationKind, standing: Standing) -> Verdict {
    use OperationKind::{Delete, Provision, Purge, Repair, Restart, Start, Stop, Undelete};
    let Standing { desired, desired_before, phase, open } = standing;
    let accept = |desired, phase| Verdict::Accept(Wish { desired, restart: false, rebuild: false, phase });
    if open == Some(request) {
        return Verdict::Join;
    }
    if desired.is_gone() {
        return match (request, open) {
            (Purge, _) => accept(Desired::Purged, Phase::Deleting),
            (Delete, Some(Purge)) => Verdict::Join,
            (Delete, _) => Verdict::Ignore,
            (Undelete, None) if desired == Desired::Deleted => accept(desired_before, waking_phase(desired_before)),
            (Undelete, Some(kind)) => Verdict::Deny(Denied::Busy(kind)),
            _ => Verdict::Deny(Denied::Deleted),
        };
    }
    match (request, open) {
        (Provision, _) => Verdict::Deny(Denied::Busy(Provision)),
        (Undelete, _) => Verdict::Deny(Denied::NotDeleted),
        (Delete, _) => accept(Desired::Deleted, Phase::Deleting),
        (Purge, _) => accept(Desired::Purged, Phase::Deleting),
        (Stop, None) if desired == Desired::Stopped && phase == Phase::Stopped => Verdict::Ignore,
        (Stop, _) => accept(Desired::Stopped, Phase::Stopping),
        (_, Some(Stop)) => Verdict::Deny(Denied::Busy(Stop)),
        (Repair, _) => {
            Verdict::Accept(Wish { desired: Desired::Running, restart: false, rebuild: true, phase: Phase::Repairing })
        }
        (Start, None) if desired == Desired::Running && phase == Phase::Running => Verdict::Ignore,
        (Start, Some(Provision | Restart | Repair | Undelete)) => Verdict::Join,
        (Start, _) => accept(Desired::Running, Phase::Starting),
        (Restart, Some(kind @ (Provision | Repair | Undelete))) => Verdict::Deny(Denied::Busy(kind)),
        (Restart, _) => {
            Verdict::Accept(Wish { desired: Desired::Running, restart: true, rebuild: false, phase: Phase::Starting })
        }
    }
}

fn waking_phase(desired: Desired) -> Phase {
    if desired == Desired::Running { Phase::Starting } else { Phase::Stopping }
}

/// What the end of an open operation by its caller changes of what is wanted; `None` when it cannot be ended.
#[must_use]
pub fn cancel(kind: OperationKind) -> Option<Wish> {
    match kind {
        OperationKind::Provision | OperationKind::Start | OperationKind::Undelete => {
            Some(Wish { desired: Desired::Stopped, restart: false, rebuild: false, phase: Phase::Stopping })
        }
        OperationKind::Restart | OperationKind::Repair => {
            Some(Wish { desired: Desired::Running, restart: false, rebuild: false, phase: Phase::Starting })
        }
        OperationKind::Stop | OperationKind::Delete | OperationKind::Purge => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OperationKind::{Delete, Provision, Purge, Repair, Restart, Start, Stop, Undelete};

    fn standing(desired: Desired, phase: Phase, open: Option<OperationKind>) -> Standing {
        Standing { desired, desired_before: Desired::Running, phase, open }
    }

    fn running() -> Standing {
        standing(Desired::Running, Phase::Running, None)
    }

    fn accepted(verdict: Verdict) -> Wish {
        match verdict {
            Verdict::Accept(wish) => wish,
            other => panic!("not accepted: {other:?}"),
        }
    }

    #[test]
    fn what_is_so_already_is_ignored() {
        assert_eq!(admit(Start, running()), Verdict::Ignore);
        assert_eq!(admit(Stop, standing(Desired::Stopped, Phase::Stopped, None)), Verdict::Ignore);
        assert_eq!(admit(Delete, standing(Desired::Deleted, Phase::Deleted, None)), Verdict::Ignore);
    }

    #[test]
    fn the_same_request_twice_joins_the_first() {
        for kind in [Provision, Start, Stop, Restart, Repair] {
            assert_eq!(admit(kind, standing(Desired::Running, Phase::Starting, Some(kind))), Verdict::Join);
        }
        assert_eq!(admit(Purge, standing(Desired::Purged, Phase::Deleting, Some(Purge))), Verdict::Join);
    }

    #[test]
    fn stop_and_delete_win_over_whatever_is_under_way() {
        for open in [Provision, Start, Restart, Repair, Undelete] {
            let met = standing(Desired::Running, Phase::Starting, Some(open));
            assert_eq!(accepted(admit(Stop, met)).desired, Desired::Stopped);
            assert_eq!(accepted(admit(Delete, met)).desired, Desired::Deleted);
            assert_eq!(accepted(admit(Purge, met)).desired, Desired::Purged);
        }
        let stopping = standing(Desired::Stopped, Phase::Stopping, Some(Stop));
        assert_eq!(accepted(admit(Delete, stopping)).desired, Desired::Deleted);
        let deleting = standing(Desired::Deleted, Phase::Deleting, Some(Delete));
        assert_eq!(accepted(admit(Purge, deleting)).desired, Desired::Purged);
    }

    #[test]
    fn nothing_that_makes_it_run_wins_over_a_stop_under_way() {
        for kind in [Start, Restart, Repair] {
            let met = standing(Desired::Stopped, Phase::Stopping, Some(Stop));
            assert_eq!(admit(kind, met), Verdict::Deny(Denied::Busy(Stop)));
        }
    }

    #[test]
    fn a_deleted_agent_takes_undelete_and_purge_alone() {
        let deleted = standing(Desired::Deleted, Phase::Deleted, None);
        for kind in [Start, Stop, Restart, Repair] {
            assert_eq!(admit(kind, deleted), Verdict::Deny(Denied::Deleted));
        }
        assert_eq!(accepted(admit(Undelete, deleted)).desired, Desired::Running);
        assert_eq!(accepted(admit(Purge, deleted)).desired, Desired::Purged);
        let purging = standing(Desired::Purged, Phase::Deleting, Some(Purge));
        assert_eq!(admit(Undelete, purging), Verdict::Deny(Denied::Busy(Purge)));
        assert_eq!(admit(Delete, purging), Verdict::Join);
    }

    #[test]
    fn undelete_goes_back_to_what_was_wanted_before() {
        let met = Standing { desired_before: Desired::Stopped, ..standing(Desired::Deleted, Phase::Deleted, None) };
        assert_eq!(accepted(admit(Undelete, met)).desired, Desired::Stopped);
        assert_eq!(admit(Undelete, running()), Verdict::Deny(Denied::NotDeleted));
    }

    #[test]
    fn a_restart_of_a_stopped_agent_starts_it() {
        let wish = accepted(admit(Restart, standing(Desired::Stopped, Phase::Stopped, None)));
        assert_eq!((wish.desired, wish.restart), (Desired::Running, true));
    }

    #[test]
    fn an_unhealthy_agent_can_be_started_anew_without_being_called_running() {
        for phase in [Phase::Unhealthy, Phase::CrashLoop, Phase::Failed, Phase::DataLost] {
            assert!(matches!(admit(Start, standing(Desired::Running, phase, None)), Verdict::Accept(_)));
        }
    }

    #[test]
    fn every_pair_of_request_and_open_operation_has_an_answer() {
        for request in OperationKind::ALL {
            for open in std::iter::once(None).chain(OperationKind::ALL.iter().copied().map(Some)) {
                for desired in [Desired::Running, Desired::Stopped, Desired::Deleted, Desired::Purged] {
                    for phase in Phase::ALL.iter().copied() {
                        let verdict = admit(*request, standing(desired, phase, open));
                        if matches!(request, Delete | Purge) {
                            assert!(!matches!(verdict, Verdict::Deny(_)), "{request} met {desired} {open:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn stop_and_delete_cannot_be_cancelled() {
        for kind in OperationKind::ALL {
            assert_eq!(cancel(*kind).is_none(), matches!(kind, Stop | Delete | Purge));
        }
    }
}
