//! Accepting a request: what it changes, inside one transaction.

use agentbot_wire::{AgentName, Code, Operation, OperationId, OperationKind, OperationStatus, Phase, TenantId};
use jiff::Timestamp;
use serde_json::json;

use super::admission::{Admitted, Host, check_room, cores, nano_cpus};
use super::operation;
use super::state::{self, Denied, Standing, Verdict};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::events::{kind, of_operation};
use crate::identity::Actor;
use crate::store::idempotency::Began;
use crate::store::instances::{self, Instance, NewInstance};
use crate::store::operations::Ending;
use crate::store::{Connection, Desired, Wish, events, idempotency, operations};

/// A caller's key for a request that may be sent twice, and what the request was.
#[derive(Clone, Debug)]
pub struct Idempotency {
    /// The key, at most 255 visible ASCII characters.
    pub key: String,
    /// SHA-256 of method, path and body.
    pub request: [u8; 32],
}

/// A request about one agent.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What is asked.
    pub kind: OperationKind,
    /// Id or name.
    pub agent: String,
    /// The new name of an undelete.
    pub new_name: Option<AgentName>,
    /// What the host has to give, should the agent have to be started.
    pub host: Host,
    /// The caller's key.
    pub idempotency: Option<Idempotency>,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The operation, new or the one that does the same already.
    pub operation: Operation,
    /// The agent as it stands; `None` when a repeated request finds it purged.
    pub instance: Option<Instance>,
}

/// What became of a request for a new agent.
#[derive(Clone, Debug)]
pub struct Provisioned {
    /// The operation, new or that of the first such request.
    pub operation: Operation,
    /// The agent as it stands.
    pub instance: Instance,
}

/// The agent that was asked for.
pub(super) fn new_instance(admitted: Admitted, tenant: TenantId, token_salt: [u8; 16]) -> NewInstance {
    NewInstance {
        tenant,
        name: admitted.name,
        plan: admitted.plan,
        memory: admitted.limits.memory,
        nano_cpus: nano_cpus(admitted.limits.cpus),
        pids: admitted.limits.pids,
        disk: admitted.limits.disk,
        model: admitted.model,
        image: admitted.image,
        config: admitted.config,
        token_salt,
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
    idempotency::insert(
        conn,
        &actor.tenant(),
        &actor.to_string(),
        key,
        request,
        &Began::Operation(operation.id.clone()),
    )
}

/// The operation of the same request sent before.
pub(super) fn find_repeat(
    conn: &Connection,
    actor: &Actor,
    idempotency: Option<&Idempotency>,
) -> Result<Option<Operation>> {
    let Some(Idempotency { key, request }) = idempotency else { return Ok(None) };
    let Some(seen) = idempotency::find(conn, &actor.tenant(), &actor.to_string(), key)? else { return Ok(None) };
    if seen.request_hash != request {
        return Err(other_request());
    }
    let Began::Operation(operation) = &seen.began else { return Err(other_request()) };
    operations::find(conn, &actor.tenant(), operation).map(Some)
}

/// The refusal of a key that stands for another request.
pub(super) fn other_request() -> Error {
    Error::new(Code::IdempotencyMismatch, "this Idempotency-Key was used with another request")
        .hint("use a new key for a new request")
}

/// The same provision sent before.
pub(super) fn find_provisioned(
    conn: &Connection,
    actor: &Actor,
    idempotency: Option<&Idempotency>,
) -> Result<Option<Provisioned>> {
    let Some(operation) = find_repeat(conn, actor, idempotency)? else { return Ok(None) };
    let instance = instances::get(conn, &operation.agent)?.ok_or_else(|| {
        Error::not_found("agent", &operation.agent_name)
            .hint(format!("the request was carried out as {}, and the agent was purged since", operation.id))
    })?;
    Ok(Some(Provisioned { operation, instance }))
}

/// The agent that is meant. A name that is to come back means the newest deleted agent of that name, even if a living
/// one has taken it since.
fn meant(conn: &Connection, actor: &Actor, ask: &Ask) -> Result<Instance> {
    let tenant = actor.tenant();
    if ask.kind == OperationKind::Undelete
        && let Some(deleted) = instances::find_deleted(conn, &tenant, &ask.agent)?
    {
        return Ok(deleted);
    }
    instances::find(conn, &tenant, &ask.agent)
}

pub(super) fn accept(conn: &Connection, actor: &Actor, ask: &Ask, config: &Config) -> Result<Accepted> {
    if let Some(operation) = find_repeat(conn, actor, ask.idempotency.as_ref())? {
        // Nothing that the caller gets may depend on a row that a purge has taken away since.
        let instance = instances::get(conn, &operation.agent)?;
        return Ok(Accepted { operation, instance });
    }
    let instance = meant(conn, actor, ask)?;
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
            return Ok(Accepted { operation: open, instance: Some(instance) });
        }
        (Verdict::Ignore | Verdict::Join, _) => {
            // The row of the operation is the record; nothing happened that an event could tell.
            let operation = operation::already(ask.kind, &instance, actor, now);
            operations::insert(conn, &instance.tenant, &operation)?;
            remember(conn, actor, &operation, ask.idempotency.as_ref())?;
            return Ok(Accepted { operation, instance: Some(instance) });
        }
        (Verdict::Accept(wish), open) => {
            check_start(&instance, &wish, config, ask.host)?;
            let operation = operation::new(ask.kind, &instance.id, instance.name.as_str(), actor, now);
            if let Some(open) = open {
                operations::end(conn, &open, &operation::superseded(&operation), now)?;
                // What it still owed goes with it: a later start must not do the work of a repair.
                instances::settle_owed(conn, &instance.id)?;
                ended_event(conn, &instance, &open, OperationStatus::Cancelled)?;
            }
            grant(conn, ask, &instance, &wish, now)?;
            operation
        }
    };
    record(conn, actor, &instance, &operation, ask.idempotency.as_ref())?;
    let instance = instances::get(conn, &instance.id)?;
    Ok(Accepted { operation, instance })
}

/// An agent that does not run yet is made to run only on a host that has room for it.
fn check_start(instance: &Instance, wish: &Wish, config: &Config, host: Host) -> Result<()> {
    let runs = matches!(instance.phase, Phase::Running | Phase::Unhealthy);
    if wish.desired != Desired::Running || runs {
        return Ok(());
    }
    check_room(instance.memory, cores(instance.nano_cpus), config, host)
}

pub(super) fn cancel(
    conn: &Connection,
    actor: &Actor,
    id: &OperationId,
    idempotency: Option<&Idempotency>,
) -> Result<Accepted> {
    if let Some(operation) = find_repeat(conn, actor, idempotency)? {
        let instance = instances::get(conn, &operation.agent)?;
        return Ok(Accepted { operation, instance });
    }
    let open = operations::find(conn, &actor.tenant(), id)?;
    if open.status.is_ended() {
        return Err(Error::conflict(format!("the operation has {} already", open.status))
            .hint("there is nothing left to cancel"));
    }
    let wish = state::cancel(open.kind).ok_or_else(|| {
        Error::conflict(format!("a `{}` cannot be cancelled", open.kind))
            .hint("`start` or `undelete` brings the agent back afterwards")
    })?;
    let instance = instances::get(conn, &open.agent)?.ok_or_else(|| instances::missing(open.agent.as_str()))?;
    let now = crate::store::now();
    instances::wish(conn, &instance, &wish, now)?;
    instances::settle_owed(conn, &instance.id)?;
    let error = Error::new(Code::Cancelled, format!("cancelled by {actor}"));
    operations::end(conn, &open, &Ending::Cancelled(error.to_api()), now)?;
    ended_event(conn, &instance, &open, OperationStatus::Cancelled)?;
    remember(conn, actor, &open, idempotency)?;
    let operation = operations::find(conn, &actor.tenant(), id)?;
    Ok(Accepted { operation, instance: Some(instance) })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::test_support::{a_new_instance, an_instance};
    use crate::store::{Store, StoreOptions, slots};

    #[tokio::test]
    async fn a_repair_that_a_stop_won_over_owes_nothing_to_a_later_start() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("agentbot.db"), StoreOptions::default()).unwrap().store;
        let ask = |kind| Ask {
            kind,
            agent: "helper".to_owned(),
            new_name: None,
            host: Host { available_memory: u64::MAX, cpus: 64 },
            idempotency: None,
        };
        let owed = store
            .write(move |conn| {
                let now = crate::store::now();
                let slot = slots::allocate(conn, &TenantId::local(), (20_000, 20_001), 9, now)?;
                instances::insert(conn, &a_new_instance().housed(slot, now))?;
                let config = Config::default();
                let repair = accept(conn, &Actor::System, &ask(OperationKind::Repair), &config)?;
                assert!(repair.instance.unwrap().rebuild.is_due());
                let stop = accept(conn, &Actor::System, &ask(OperationKind::Stop), &config)?;
                Ok(stop.instance.unwrap().rebuild)
            })
            .await
            .unwrap();
        assert!(!owed.is_due());
    }

    #[test]
    fn an_agent_that_is_to_run_needs_room_on_the_host() {
        let config = Config::default();
        let reserve = config.slots.memory_reserve.as_u64();
        let mut instance = an_instance();
        let wish = |desired| Wish { desired, restart: false, rebuild: false, phase: Phase::Starting };
        let roomy = Host { available_memory: instance.memory + reserve, cpus: 1 };
        let tight = Host { available_memory: instance.memory + reserve - 1, ..roomy };
        let refused = |instance: &Instance, desired, host| {
            check_start(instance, &wish(desired), &config, host).err().map(|error| (error.code(), error.to_string()))
        };

        for phase in Phase::ALL.iter().copied() {
            instance.phase = phase;
            assert_eq!(refused(&instance, Desired::Running, roomy), None, "{phase}");
            assert_eq!(refused(&instance, Desired::Stopped, tight), None, "{phase}");
            let refusal = refused(&instance, Desired::Running, tight);
            if matches!(phase, Phase::Running | Phase::Unhealthy) {
                assert_eq!(refusal, None, "what {phase} holds it holds already");
            } else {
                let (code, message) = refusal.unwrap();
                assert_eq!(code, Code::LimitReached, "{phase}");
                assert!(message.contains("256 MiB") && message.contains("512 MiB"), "{message}");
            }
        }

        instance.phase = Phase::Stopped;
        instance.nano_cpus = 1_010_000_000;
        assert!(refused(&instance, Desired::Running, roomy).is_some_and(|(_, message)| message.contains("1.01")));
        instance.nano_cpus = 1_000_000_000;
        assert_eq!(refused(&instance, Desired::Running, roomy), None);
    }
}
