//! What the owner is told about an agent.

use serde::{Deserialize, Serialize};

use crate::words::words;

words! {
    /// An agent's phase, derived by the daemon from what is wanted and what is there.
    Phase {
        /// Being made for the first time.
        Provisioning = "provisioning",
        /// Its container starts; the agent has not said hello.
        Starting = "starting",
        /// The agent said hello and beats.
        Running = "running",
        /// The container runs, the agent misses its beats.
        Unhealthy = "unhealthy",
        /// On its way to `stopped`.
        Stopping = "stopping",
        /// Not running, as wanted.
        Stopped = "stopped",
        /// Not running until somebody talks to it.
        Hibernated = "hibernated",
        /// Moving to another image.
        Updating = "updating",
        /// Being rebuilt around its workspace.
        Repairing = "repairing",
        /// Ended too often in a short time; restarts go on with growing pauses.
        CrashLoop = "crash_loop",
        /// Its workspace is gone; nothing is started on an empty one in silence.
        DataLost = "data_lost",
        /// A step fails in a way that time alone does not heal.
        Failed = "failed",
        /// On its way to `deleted`.
        Deleting = "deleting",
        /// Gone, but it can be brought back while its workspace is kept.
        Deleted = "deleted",
    }
}

impl Phase {
    /// The command that leads out of this phase, where a person may want one.
    #[must_use]
    pub fn way_out(self) -> Option<&'static str> {
        match self {
            Self::Provisioning | Self::Starting | Self::Updating | Self::Repairing => Some("stop"),
            Self::Unhealthy | Self::DataLost | Self::Failed => Some("repair"),
            Self::Stopped | Self::Hibernated | Self::CrashLoop => Some("start"),
            Self::Deleted => Some("undelete"),
            Self::Running | Self::Stopping | Self::Deleting => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_phase_reads_back_from_its_word_and_from_json() {
        for phase in Phase::ALL.iter().copied() {
            assert_eq!(Phase::from_word(phase.as_str()), Some(phase));
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.as_str());
        }
        assert_eq!(Phase::from_word("active"), None);
    }
}
