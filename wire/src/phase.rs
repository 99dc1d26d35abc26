//! What the owner is told about an agent.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An agent's phase, derived by the daemon from what is wanted and what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Being made for the first time.
    Provisioning,
    /// Its container starts; the agent has not said hello.
    Starting,
    /// The agent said hello and beats.
    Running,
    /// The container runs, the agent misses its beats.
    Unhealthy,
    /// On its way to `stopped`.
    Stopping,
    /// Not running, as wanted.
    Stopped,
    /// Not running until somebody talks to it.
    Hibernated,
    /// Moving to another image.
    Updating,
    /// Being rebuilt around its workspace.
    Repairing,
    /// Ended too often in a short time; restarts go on with growing pauses.
    CrashLoop,
    /// Its workspace is gone; nothing is started on an empty one in silence.
    DataLost,
    /// A step fails in a way that time alone does not heal.
    Failed,
    /// On its way to `deleted`.
    Deleting,
    /// Gone, but it can be brought back while its workspace is kept.
    Deleted,
}

impl Phase {
    /// Every phase, in the order of the documentation.
    pub const ALL: [Self; 14] = [
        Self::Provisioning,
        Self::Starting,
        Self::Running,
        Self::Unhealthy,
        Self::Stopping,
        Self::Stopped,
        Self::Hibernated,
        Self::Updating,
        Self::Repairing,
        Self::CrashLoop,
        Self::DataLost,
        Self::Failed,
        Self::Deleting,
        Self::Deleted,
    ];

    /// The word used on the wire and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Unhealthy => "unhealthy",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Hibernated => "hibernated",
            Self::Updating => "updating",
            Self::Repairing => "repairing",
            Self::CrashLoop => "crash_loop",
            Self::DataLost => "data_lost",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
        }
    }

    /// The phase of a word, `None` for any other.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == word)
    }

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

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_phase_reads_back_from_its_word_and_from_json() {
        for phase in Phase::ALL {
            assert_eq!(Phase::from_word(phase.as_str()), Some(phase));
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.as_str());
        }
        assert_eq!(Phase::from_word("active"), None);
    }
}
