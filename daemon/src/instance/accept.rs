//! Accepting a request: what it changes, inside one transaction.

use agentbot_wire::{Code, InstanceId, Operation, OperationKind, OperationStatus, Phase, TenantId};
use jiff::Timestamp;
use serde_json::json;

use super::admission::{Admitted, nano_cpus};
use super::operation;
use super::requests::{Accepted, Ask, Idempotency};
use super::state::{self, Denied, Standing, Verdict};
use crate::error::{Error, Result};
use crate::events::{kind, of_operation};
use crate::identity::Actor;
use crate::store::instances::{self, Desired, Instance, Owed, Wish};
use crate::store::{Connection, Slot, events, idempotency, operations};

pub(super) fn new_instance(
    admitted: &Admitted,
    slot: Slot,
    tenant: TenantId,
    token_salt: [u8; 16],
    now: Timestamp,
) -> Instance {
    Instance {
        id: InstanceId::mint(),
        tenant,
        name: admitted.name.clone(),
        slot,
        plan: admitted.plan.clone(),
        memory: admitted.limits.memory,
        nano_cpus: nano_cpus(admitted.limits.cpus),
        pids: admitted.limits.pids,
        disk: admitted.limits.disk,
        model: admitted.model.clone(),
        image: admitted.image.clone(),
        config: admitted.config.clone(),
        token_salt,
        desired: Desired::Running,
        desired_before: Desired::Running,
        restart: Owed::default(),
        rebuild: Owed::default(),
        phase: Phase::Provisioning,
        phase_since: now,
        reason: None,
        runtime_version: None,
        started_at: None,
        crashes: 0,
        crash_streak: 0,
        last_crash: None,
        exit_seen: None,
        next_start_at: None,
        revision: 0,
        created_at: now,
        updated_at: now,
        deleted_at: None,
    }
}

/// Writes an accepted operation, its event and its idempotency key.
pub(super) fn record(
    conn: &Connection,
    actor: &Actor,
    instance: &Instance,
    operation: &Operation,
    idempotency: Option<&Idempotency>,
) -> Result<()> {
    operations::insert(conn, &instance.tenant, operation)?;
    let said = actor.to_string();
    let payload = json!({"kind": operation.kind, "agent": instance.name});
    let event = of_operation(&instance.tenant, &instance.id, &operation.id, &said, kind::ACCEPTED, payload);
    events::append(conn, &event)?;
    remember(conn, actor, operation, idempotency)
}

pub(super) fn remember(
    conn: &Connection,
    actor: &Actor,
    operation: &Operation,
    idempotency: Option<&Idempotency>,
) -> Result<()> {
    let Some(Idempotency { key, request }) = idempotency else { return Ok(()) };
    idempotency::insert(conn, &actor.tenant(), &actor.to_string(), key, request, &operation.id)
}

/// The outcome of the same request sent before.
pub(super) fn find_repeat(
    conn: &Connection,
    actor: &Actor,
    idempotency: Option<&Idempotency>,
) -> Result<Option<Accepted>> {
    let Some(Idempotency { key, request }) = idempotency else { return Ok(None) };
    let Some(seen) = idempotency::find(conn, &actor.tenant(), &actor.to_string(), key)? else { return Ok(None) };
    if seen.request_hash != request {
        return Err(Error::new(Code::IdempotencyMismatch, "this Idempotency-Key was used with another request")
            .hint("use a new key for a new request"));
    }
    let operation = operations::find(conn, &actor.tenant(), &seen.operation)?;
    let instance = instances::get(conn, &operation.agent)?.ok_or_else(|| {
        Error::not_found("agent", &operation.agent_name)
            .hint(format!("the request was carried out as {}, and the agent was purged since", operation.id))
    })?;
    Ok(Some(Accepted { operation, instance }))
}

pub(super) fn accept(conn: &Connection, actor: &Actor, ask: &Ask) -> Result<Accepted> {
    if let Some(repeat) = find_repeat(conn, actor, ask.idempotency.as_ref())? {
        return Ok(repeat);
    }
    let instance = instances::find(conn, &actor.tenant(), &ask.agent)?;
    let open = operations::open(conn, &instance.id)?;
    let standing = Standing {
        desired: instance.desired,
        desired_before: instance.desired_before,
        phase: instance.phase,
        open: open.as_ref().map(|open| open.kind),
    };
    let now = crate::store::now();
    let operation = match (state::admit(ask.kind, standing), open) {
        (Verdict::Deny(why), _) => return Err(denied(why, &instance)),
        (Verdict::Join, Some(open)) => {
            remember(conn, actor, &open, ask.idempotency.as_ref())?;
            return Ok(Accepted { operation: open, instance });
        }
        (Verdict::Ignore | Verdict::Join, _) => operation::already(ask.kind, &instance, actor, now),
        (Verdict::Accept(wish), open) => {
            let operation = operation::new(ask.kind, &instance.id, instance.name.as_str(), actor, now);
            if let Some(open) = open {
                operations::end(conn, &open, &operation::superseded(&operation), now)?;
                ended_event(conn, &instance, &open, OperationStatus::Cancelled)?;
            }
            grant(conn, ask, &instance, &wish, now)?;
            operation
        }
    };
    record(conn, actor, &instance, &operation, ask.idempotency.as_ref())?;
    let instance = instances::get(conn, &instance.id)?.unwrap_or(instance);
    Ok(Accepted { operation, instance })
}

pub(super) fn grant(conn: &Connection, ask: &Ask, instance: &Instance, wish: &Wish, now: Timestamp) -> Result<()> {
    if ask.kind == OperationKind::Undelete {
        let name = ask.new_name.as_ref().unwrap_or(&instance.name);
        instances::revive(conn, &instance.id, name)?;
    }
    instances::wish(conn, instance, wish, now)
}

pub(super) fn ended_event(
    conn: &Connection,
    instance: &Instance,
    open: &Operation,
    status: OperationStatus,
) -> Result<()> {
    let payload = json!({"kind": open.kind, "status": status});
    let event = of_operation(&instance.tenant, &instance.id, &open.id, &open.actor, kind::ENDED, payload);
    events::append(conn, &event).map(|_| ())
}

pub(super) fn denied(why: Denied, instance: &Instance) -> Error {
    let name = &instance.name;
    match why {
        Denied::Busy(kind) => Error::conflict(format!("`{kind}` of `{name}` is under way"))
            .hint("wait for it, or `stop` or `delete`, which always win"),
        Denied::Deleted => {
            Error::not_found("agent", name).hint(format!("it is deleted; `agentbotctl undelete {name}` brings it back"))
        }
        Denied::NotDeleted => {
            Error::conflict(format!("`{name}` is not deleted")).hint("`agentbotctl list --deleted` shows what is")
        }
    }
}
