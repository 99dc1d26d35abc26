//! Table `instances`: agents as their owners see them, each with its slot.

mod row;
mod token;

use agentbot_wire::{AgentName, InstanceId, Phase, SlotId, TenantId};
use jiff::Timestamp;
use rusqlite::{Connection, Row, named_params};

use super::desired::{Desired, Owed, Wish};
use super::rows::{Columns, many, one};
use super::{ms, slots, unique_violation};
use crate::error::{Error, Result};

pub use row::{Instance, NewInstance};
pub use token::{TokenRow, set_token, token_hash, token_holder, token_is_current, without_token_hash};

/// The columns of an instance, in the order in which [`from_row`] takes them; those of its slot follow.
const COLUMNS: &str = "i.id, i.tenant_id, i.name, i.plan, i.memory, i.nano_cpus, i.pids, i.disk, i.model, i.image,
    i.config, i.token_salt, i.desired, i.desired_before, i.restart_wanted, i.restart_done, i.rebuild_wanted,
    i.rebuild_done, i.phase, i.phase_since, i.reason, i.runtime_version, i.started_at, i.crashes, i.crash_streak,
    i.last_crash, i.exit_seen, i.next_start_at, i.revision, i.created_at, i.updated_at, i.deleted_at";

fn select(rest: &str) -> String {
    format!("SELECT {COLUMNS}, {} FROM instances i JOIN slots s ON s.id = i.slot {rest}", slots::COLUMNS)
}

fn from_row(row: &Row<'_>) -> Result<Instance> {
    let mut columns = Columns::of(row);
    let c = &mut columns;
    // Fields are evaluated in the order they are written in, which is that of the columns.
    Ok(Instance {
        id: c.word("instance")?,
        tenant: TenantId::from_stored(&c.next::<String>()?),
        name: c.word("name")?,
        plan: c.next()?,
        memory: c.next()?,
        nano_cpus: c.next()?,
        pids: c.next()?,
        disk: c.next()?,
        model: c.next()?,
        image: c.next()?,
        config: c.next()?,
        token_salt: c.next()?,
        desired: c.known("desired", Desired::from_word)?,
        desired_before: c.known("desired_before", Desired::from_word)?,
        restart: Owed { wanted: c.next()?, done: c.next()? },
        rebuild: Owed { wanted: c.next()?, done: c.next()? },
        phase: c.known("phase", Phase::from_word)?,
        phase_since: c.time()?,
        reason: c.next()?,
        runtime_version: c.next()?,
        started_at: c.maybe_time()?,
        crashes: c.next()?,
        crash_streak: c.next()?,
        last_crash: c.next()?,
        exit_seen: c.next()?,
        next_start_at: c.maybe_time()?,
        revision: c.next()?,
        created_at: c.time()?,
        updated_at: c.time()?,
        deleted_at: c.maybe_time()?,
        slot: slots::take(c)?,
    })
}

/// Adds an instance whose slot stands in its table.
///
/// # Errors
/// `conflict` when a living agent of the tenant has the name; storage errors.
pub fn insert(conn: &Connection, instance: &Instance) -> Result<()> {
    conn.prepare_cached(
        "INSERT INTO instances (id, tenant_id, name, slot, plan, memory, nano_cpus, pids, disk, model, image, config,
             token_salt, desired, phase, phase_since, created_at, updated_at)
         VALUES (:id, :tenant, :name, :slot, :plan, :memory, :nano_cpus, :pids, :disk, :model, :image, :config,
             :salt, :desired, :phase, :now, :now, :now)",
    )?
    .execute(named_params! {
        ":id": instance.id.as_str(), ":tenant": instance.tenant.as_str(), ":name": instance.name.as_str(),
        ":slot": instance.slot.id.as_str(), ":plan": instance.plan, ":memory": instance.memory,
        ":nano_cpus": instance.nano_cpus, ":pids": instance.pids, ":disk": instance.disk, ":model": instance.model,
        ":image": instance.image, ":config": instance.config, ":salt": instance.token_salt,
        ":desired": instance.desired.as_str(), ":phase": instance.phase.as_str(), ":now": ms(instance.created_at),
    })
    .map_err(|error| name_taken(error, &instance.name))?;
    Ok(())
}

fn name_taken(error: rusqlite::Error, name: &AgentName) -> Error {
    if unique_violation(&error).is_some_and(|columns| columns.contains("instances.name")) {
        Error::conflict(format!("an agent named `{name}` exists"))
            .hint("choose another name, or delete that agent first")
    } else {
        error.into()
    }
}

/// One instance by id, whoever's it is.
///
/// # Errors
/// Storage errors.
pub fn get(conn: &Connection, id: &InstanceId) -> Result<Option<Instance>> {
    one(conn.prepare_cached(&select("WHERE i.id = ?1"))?, [id.as_str()], from_row)
}

/// The instance that runs in a slot.
///
/// # Errors
/// Storage errors.
pub fn in_slot(conn: &Connection, slot: &SlotId) -> Result<Option<Instance>> {
    one(conn.prepare_cached(&select("WHERE i.slot = ?1"))?, [slot.as_str()], from_row)
}

/// One instance of a tenant by id or name: a living one, else the newest deleted one of that name.
///
/// # Errors
/// `not_found` when there is none; storage errors.
pub fn find(conn: &Connection, tenant: &TenantId, id_or_name: &str) -> Result<Instance> {
    let by = if id_or_name.parse::<InstanceId>().is_ok() { "i.id" } else { "i.name" };
    let query = select(&format!(
        "WHERE i.tenant_id = ?1 AND {by} = ?2 ORDER BY i.deleted_at IS NOT NULL, i.deleted_at DESC LIMIT 1"
    ));
    one(conn.prepare_cached(&query)?, [tenant.as_str(), id_or_name], from_row)?.ok_or_else(|| missing(id_or_name))
}

/// The newest deleted instance of a tenant by id or name.
///
/// # Errors
/// Storage errors.
pub fn find_deleted(conn: &Connection, tenant: &TenantId, id_or_name: &str) -> Result<Option<Instance>> {
    let rest = "WHERE i.tenant_id = ?1 AND (i.name = ?2 OR i.id = ?2) AND i.deleted_at IS NOT NULL
        ORDER BY i.deleted_at DESC LIMIT 1";
    one(conn.prepare_cached(&select(rest))?, [tenant.as_str(), id_or_name], from_row)
}

/// The answer for an agent that does not exist or is somebody else's.
#[must_use]
pub fn missing(id_or_name: &str) -> Error {
    let shown: String = id_or_name.chars().filter(|c| !c.is_control()).take(64).collect();
    Error::not_found("agent", shown).hint("`agentbotctl list` shows the agents there are")
}

/// Every instance of every tenant, deleted ones included.
///
/// # Errors
/// Storage errors.
pub fn all(conn: &Connection) -> Result<Vec<Instance>> {
    many(conn.prepare_cached(&select("ORDER BY i.id"))?, [], from_row)
}

/// How many agents are in each phase, deleted ones apart.
///
/// # Errors
/// Storage errors.
pub fn count_by_phase(conn: &Connection) -> Result<Vec<(String, usize)>> {
    let mut statement =
        conn.prepare_cached("SELECT phase, count(*) FROM instances WHERE phase <> 'deleted' GROUP BY phase")?;
    Ok(statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?)
}

/// Writes a wish down. Start-up pauses end: somebody asked.
///
/// # Errors
/// Storage errors.
pub fn wish(conn: &Connection, instance: &Instance, wish: &Wish, now: Timestamp) -> Result<()> {
    let deleted_at = if wish.desired.is_gone() { instance.deleted_at.or(Some(now)) } else { None };
    let before =
        if wish.desired.is_gone() && !instance.desired.is_gone() { instance.desired } else { instance.desired_before };
    conn.prepare_cached(
        "UPDATE instances SET desired = :desired, desired_before = :before,
             restart_wanted = restart_wanted + :restart, rebuild_wanted = rebuild_wanted + :rebuild,
             phase = :phase, phase_since = CASE WHEN phase = :phase THEN phase_since ELSE :now END, reason = NULL,
             crash_streak = 0, next_start_at = NULL, revision = revision + 1, updated_at = :now, deleted_at = :deleted
         WHERE id = :id",
    )?
    .execute(named_params! {
        ":id": instance.id.as_str(), ":desired": wish.desired.as_str(), ":before": before.as_str(),
        ":restart": wish.restart, ":rebuild": wish.rebuild, ":phase": wish.phase.as_str(), ":now": ms(now),
        ":deleted": deleted_at.map(ms),
    })?;
    Ok(())
}

/// Brings a deleted agent back among the living, under its name or another; the wish follows apart. The token that it
/// had is nobody's any more.
///
/// # Errors
/// `conflict` when a living agent of the tenant has the name; storage errors.
pub fn revive(conn: &Connection, id: &InstanceId, name: &AgentName) -> Result<()> {
    conn.prepare_cached("UPDATE instances SET deleted_at = NULL, token_hash = NULL, name = ?2 WHERE id = ?1")?
        .execute([id.as_str(), name.as_str()])
        .map_err(|error| name_taken(error, name).hint("give it another name with `--as NEW`"))?;
    Ok(())
}

/// Writes the phase, unless what is wanted has changed since the reader looked. Says whether it was written.
///
/// # Errors
/// Storage errors.
pub fn set_phase(
    conn: &Connection,
    seen: &Instance,
    phase: Phase,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<bool> {
    let changed = conn
        .prepare_cached(
            "UPDATE instances SET phase = :phase, reason = :reason, updated_at = :now,
                 phase_since = CASE WHEN phase = :phase THEN phase_since ELSE :now END
             WHERE id = :id AND revision = :revision",
        )?
        .execute(named_params! {
            ":id": seen.id.as_str(), ":revision": seen.revision, ":phase": phase.as_str(), ":reason": reason, ":now": ms(now),
        })?;
    Ok(changed == 1)
}

/// Records what the agent said of itself and when its container was started: then no start is due any more.
///
/// # Errors
/// Storage errors.
pub fn set_runtime(
    conn: &Connection,
    id: &InstanceId,
    version: Option<&str>,
    started_at: Option<Timestamp>,
) -> Result<()> {
    conn.prepare_cached(
        "UPDATE instances SET runtime_version = coalesce(?2, runtime_version), started_at = coalesce(?3, started_at),
             next_start_at = CASE WHEN ?3 IS NULL THEN next_start_at END
         WHERE id = ?1",
    )?
    .execute((id.as_str(), version, started_at.map(ms)))?;
    Ok(())
}

/// Records that the restarts and rebuilds which the reader saw are served.
///
/// # Errors
/// Storage errors.
pub fn serve_restart(conn: &Connection, seen: &Instance) -> Result<()> {
    conn.prepare_cached("UPDATE instances SET restart_done = ?2 WHERE id = ?1")?
        .execute((seen.id.as_str(), seen.restart.wanted))?;
    Ok(())
}

/// Records that the new container which the reader saw wanted is under way: the old one is gone.
///
/// # Errors
/// Storage errors.
pub fn serve_rebuild(conn: &Connection, seen: &Instance) -> Result<()> {
    conn.prepare_cached("UPDATE instances SET rebuild_done = ?2, restart_done = ?3 WHERE id = ?1")?.execute((
        seen.id.as_str(),
        seen.rebuild.wanted,
        seen.restart.wanted,
    ))?;
    Ok(())
}

/// Removes an instance and its crashes; its slot goes apart.
///
/// # Errors
/// Storage errors.
pub fn remove(conn: &Connection, id: &InstanceId) -> Result<()> {
    conn.prepare_cached("DELETE FROM crashes WHERE instance = ?1")?.execute([id.as_str()])?;
    conn.prepare_cached("DELETE FROM instances WHERE id = ?1")?.execute([id.as_str()])?;
    Ok(())
}

/// Forgets restarts and rebuilds that are still owed: whoever asked for them took it back.
///
/// # Errors
/// Storage errors.
pub fn settle_owed(conn: &Connection, id: &InstanceId) -> Result<()> {
    conn.prepare_cached(
        "UPDATE instances SET restart_done = restart_wanted, rebuild_done = rebuild_wanted WHERE id = ?1",
    )?
    .execute([id.as_str()])?;
    Ok(())
}

/// Takes back what only a look can tell: nobody has seen the agents since the daemon started.
///
/// # Errors
/// Storage errors.
pub fn unsee(conn: &Connection, now: Timestamp) -> Result<()> {
    conn.prepare_cached(
        "UPDATE instances SET phase = 'starting', phase_since = ?1, reason = 'not seen yet since the daemon started'
         WHERE desired = 'running' AND phase IN ('running', 'unhealthy')",
    )?
    .execute([ms(now)])?;
    Ok(())
}
