//! An operation: one durable mutation with its steps.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::words::words;
use crate::{ApiError, InstanceId, OperationId};

words! {
    /// What an operation does.
    OperationKind {
        /// Make an agent and bring it to `running`.
        Provision = "provision",
        /// Bring it to `running`.
        Start = "start",
        /// Bring it to `stopped`.
        Stop = "stop",
        /// Stop it once, then bring it to `running`.
        Restart = "restart",
        /// Rebuild its container around its workspace.
        Repair = "repair",
        /// Remove its container; keep workspace and uid for the undo time.
        Delete = "delete",
        /// Remove everything.
        Purge = "purge",
        /// Bring a deleted agent back.
        Undelete = "undelete",
    }
}

words! {
    /// How far an operation is.
    OperationStatus {
        /// Committed, not begun.
        Pending = "pending",
        /// A step is under way.
        Running = "running",
        /// Nothing can be done right now: the engine is away, or a retry is due later.
        Waiting = "waiting",
        /// Ended as wanted.
        Succeeded = "succeeded",
        /// Ended otherwise; `error` says why.
        Failed = "failed",
        /// Ended by its caller, or by a stop or delete that won.
        Cancelled = "cancelled",
    }
}

impl OperationStatus {
    /// Whether the operation has ended.
    #[must_use]
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

words! {
    /// How far a step is.
    StepStatus {
        /// Not begun.
        Pending = "pending",
        /// Under way.
        Running = "running",
        /// Done.
        Succeeded = "succeeded",
        /// Ended with an error, given in `detail`.
        Failed = "failed",
        /// Not needed: what it would do was already so.
        Skipped = "skipped",
    }
}

/// One step of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// A short word: `image`, `workspace`, `socket`, `create`, `verify`, `start`, `hello`, `stop`, `remove`, `files`.
    pub name: String,
    /// How far it is.
    pub status: StepStatus,
    /// When it was begun.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// What a person wants to know about it, mostly why it failed.
    pub detail: Option<String>,
}

impl Step {
    /// A step that has not begun.
    #[must_use]
    pub fn pending(name: &str) -> Self {
        Self { name: name.to_owned(), status: StepStatus::Pending, started_at: None, ended_at: None, detail: None }
    }
}

/// One durable mutation, as `GET /api/operations/:id` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// What it does.
    pub kind: OperationKind,
    /// The agent it is about.
    pub agent: InstanceId,
    /// The agent's name when the operation was accepted.
    pub agent_name: String,
    /// How far it is.
    pub status: OperationStatus,
    /// Its steps in order.
    pub steps: Vec<Step>,
    /// Share of the steps that have ended, from 0 to 1.
    pub progress: f64,
    /// Who asked, for example `operator:0`.
    pub actor: String,
    /// What it gave, shaped by its kind; absent until it succeeded.
    pub result: Option<serde_json::Value>,
    /// Why it failed or was cancelled.
    pub error: Option<ApiError>,
    /// When it was committed.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// `GET /api/operations`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperationList {
    /// Newest first.
    pub operations: Vec<Operation>,
    /// How many are listed.
    pub count: usize,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn words_read_back() {
        for kind in OperationKind::ALL {
            assert_eq!(OperationKind::from_word(kind.as_str()), Some(*kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert!(OperationStatus::Cancelled.is_ended());
        assert!(!OperationStatus::Waiting.is_ended());
    }
}
