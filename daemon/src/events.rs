//! The event log: written with the change it tells of, published after the commit.

use agentbot_wire::{InstanceId, OperationId, TenantId};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::error::Result;
use crate::store::events::{NewEvent, append};
use crate::store::{Store, instances::Instance};

/// Kinds of events.
pub mod kind {
    /// An agent's phase changed.
    pub const PHASE: &str = "agent.phase";
    /// An agent ended unasked.
    pub const CRASHED: &str = "agent.crashed";
    /// Something was put right that nobody asked for.
    pub const HEALED: &str = "agent.healed";
    /// An agent is no more.
    pub const PURGED: &str = "agent.purged";
    /// An operation was accepted.
    pub const ACCEPTED: &str = "operation.accepted";
    /// An operation ended.
    pub const ENDED: &str = "operation.ended";
    /// An agent's gateway token was replaced.
    pub const TOKEN_ROTATED: &str = "security.token_rotated";
    /// A container stands in our way or carries our labels without being ours.
    pub const FOREIGN: &str = "security.foreign_container";
}

/// The log and its news.
#[derive(Clone)]
pub struct Events {
    latest: std::sync::Arc<watch::Sender<u64>>,
}

impl Default for Events {
    fn default() -> Self {
        Self { latest: std::sync::Arc::new(watch::Sender::new(0)) }
    }
}

/// An event about an instance, to be appended with the change it tells of.
#[must_use]
pub fn about(instance: &Instance, kind: &str, payload: Value) -> NewEvent {
    NewEvent {
        kind: kind.to_owned(),
        tenant: instance.tenant.clone(),
        instance: Some(instance.id.clone()),
        operation: None,
        actor: None,
        payload,
    }
}

/// An event about an operation.
#[must_use]
pub fn of_operation(
    tenant: &TenantId,
    instance: &InstanceId,
    id: &OperationId,
    actor: &str,
    kind: &str,
    payload: Value,
) -> NewEvent {
    NewEvent {
        kind: kind.to_owned(),
        tenant: tenant.clone(),
        instance: Some(instance.clone()),
        operation: Some(id.clone()),
        actor: Some(actor.to_owned()),
        payload,
    }
}

impl Events {
    /// Appends one event in a write of its own and publishes it.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn write(&self, store: &Store, event: NewEvent) -> Result<()> {
        store.write(move |conn| append(conn, &event).map(|_| ())).await?;
        self.publish();
        Ok(())
    }

    /// Says that something was committed. Called after each write that may have appended events or moved operations.
    pub fn publish(&self) {
        self.latest.send_modify(|count| *count += 1);
    }

    /// Sees every publication from now on; several that come at once are seen as one.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }
}

/// The payload of a phase event.
#[must_use]
pub fn phase_payload(instance: &Instance, phase: agentbot_wire::Phase, reason: Option<&str>) -> Value {
    json!({"agent": instance.name, "from": instance.phase, "to": phase, "reason": reason})
}
