//! What is written down for the owner, each with its event: phases and the ends of operations.

use agentbot_wire::{Operation, OperationStatus, Phase};
use jiff::Timestamp;
use serde_json::json;

use crate::error::Result;
use crate::events::{about, kind, of_operation, phase_payload};
use crate::store::Connection;
use crate::store::events::append;
use crate::store::instances::{self, Instance};
use crate::store::operations::{self, Ending};

/// Writes a phase, unless what is wanted has changed since the reader looked. Says whether it was written.
pub(super) fn write_phase(
    conn: &Connection,
    seen: &Instance,
    phase: Phase,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<bool> {
    let written = instances::set_phase(conn, seen, phase, reason, now)?;
    if written && phase != seen.phase {
        append(conn, &about(seen, kind::PHASE, phase_payload(seen, phase, reason)))?;
    }
    Ok(written)
}

/// Ends an open operation.
pub(super) fn end(
    conn: &Connection,
    seen: &Instance,
    operation: &Operation,
    ending: &Ending,
    now: Timestamp,
) -> Result<()> {
    if operations::end(conn, operation, ending, now)? {
        let (status, error) = match ending {
            Ending::Succeeded(_) => (OperationStatus::Succeeded, None),
            Ending::Failed(error) => (OperationStatus::Failed, Some(error)),
            Ending::Cancelled(error) => (OperationStatus::Cancelled, Some(error)),
        };
        tracing::info!(operation.id = %operation.id, operation.kind = %operation.kind, instance.id = %seen.id, %status, "operation ended");
        let payload = json!({"kind": operation.kind, "status": status, "error": error});
        append(conn, &of_operation(&seen.tenant, &seen.id, &operation.id, &operation.actor, kind::ENDED, payload))?;
    }
    Ok(())
}
