//! Table `slots`: what instances run in.

use agentbot_wire::{SlotId, TenantId};
use jiff::Timestamp;
use rusqlite::{Connection, named_params};

use super::ms;
use super::rows::{Columns, many};
use crate::error::{Error, Result};
use agentbot_wire::Code;

/// A row of `slots`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its id.
    pub id: SlotId,
    /// uid and gid inside its containers.
    pub uid: u32,
    /// Number of the container it has or gets next.
    pub container_gen: u32,
    /// Number of the workspace in use.
    pub workspace_gen: u32,
    /// The engine's id of its container, once one was made.
    pub container_id: Option<String>,
    /// The image its containers are made from, once it is known.
    pub image_id: Option<String>,
    /// The name with digest by which that image was pulled, if it was.
    pub repo_digest: Option<String>,
    /// Whether the workspace was made: from then on its absence is a loss.
    pub workspace_made: bool,
}

impl Slot {
    /// The name of its container, `ab-<slot>-<generation>`.
    #[must_use]
    pub fn container_name(&self) -> String {
        format!("ab-{}-{}", self.id, self.container_gen)
    }
}

/// The columns of a slot, in the order in which [`take`] takes them.
pub(super) const COLUMNS: &str =
    "s.id, s.uid, s.container_gen, s.workspace_gen, s.container_id, s.image_id, s.repo_digest, s.workspace_made";

pub(super) fn take(columns: &mut Columns<'_>) -> Result<Slot> {
    Ok(Slot {
        id: columns.word("slot")?,
        uid: columns.next()?,
        container_gen: columns.next()?,
        workspace_gen: columns.next()?,
        container_id: columns.next()?,
        image_id: columns.next()?,
        repo_digest: columns.next()?,
        workspace_made: columns.next()?,
    })
}

/// Makes a slot with the lowest uid that no slot holds.
///
/// # Errors
/// `limit_reached` when `max` slots exist or every uid is held; storage errors.
pub fn allocate(conn: &Connection, tenant: &TenantId, uids: (u32, u32), max: u32, now: Timestamp) -> Result<Slot> {
    let taken = count(conn)?;
    if taken >= max {
        return Err(Error::new(Code::LimitReached, format!("all {max} slots are taken"))
            .hint("purge an agent, deleted ones included, or raise `slots.max`"));
    }
    let (low, high) = uids;
    let uid: Option<u32> = conn
        .prepare_cached(
            "SELECT min(candidate) FROM (
                 SELECT :low AS candidate UNION ALL SELECT uid + 1 FROM slots WHERE uid BETWEEN :low AND :high
             ) WHERE candidate NOT IN (SELECT uid FROM slots) AND candidate <= :high",
        )?
        .query_row(named_params! {":low": low, ":high": high}, |row| row.get(0))?;
    let uid = uid.ok_or_else(|| {
        Error::new(Code::LimitReached, format!("every uid from {low} to {high} is held by a slot"))
            .hint("purge an agent, deleted ones included, or widen `slots.uid_range`")
    })?;
    let slot = Slot {
        id: SlotId::mint(),
        uid,
        container_gen: 1,
        workspace_gen: 1,
        container_id: None,
        image_id: None,
        repo_digest: None,
        workspace_made: false,
    };
    conn.prepare_cached("INSERT INTO slots (id, tenant_id, uid, created_at) VALUES (:id, :tenant, :uid, :now)")?
        .execute(named_params! {
            ":id": slot.id.as_str(), ":tenant": tenant.as_str(), ":uid": uid, ":now": ms(now),
        })?;
    Ok(slot)
}

/// The id of every slot.
///
/// # Errors
/// Storage errors.
pub fn all(conn: &Connection) -> Result<Vec<SlotId>> {
    many(conn.prepare_cached("SELECT id FROM slots")?, [], |row| Columns::of(row).word("slot"))
}

/// How many slots there are.
///
/// # Errors
/// Storage errors.
pub fn count(conn: &Connection) -> Result<u32> {
    Ok(conn.prepare_cached("SELECT count(*) FROM slots")?.query_row([], |row| row.get(0))?)
}

/// Records what its container is made from, and the name with digest by which that was pulled, if it was.
///
/// # Errors
/// Storage errors.
pub fn set_image(conn: &Connection, id: &SlotId, image: &str, repo_digest: Option<&str>) -> Result<()> {
    conn.prepare_cached("UPDATE slots SET image_id = ?2, repo_digest = ?3 WHERE id = ?1")?.execute((
        id.as_str(),
        image,
        repo_digest,
    ))?;
    Ok(())
}

/// Records that its workspace exists.
///
/// # Errors
/// Storage errors.
pub fn set_workspace_made(conn: &Connection, id: &SlotId) -> Result<()> {
    conn.prepare_cached("UPDATE slots SET workspace_made = 1 WHERE id = ?1")?.execute([id.as_str()])?;
    Ok(())
}

/// Turns to a workspace that does not exist yet.
///
/// # Errors
/// Storage errors.
pub fn next_workspace(conn: &Connection, id: &SlotId) -> Result<()> {
    conn.prepare_cached("UPDATE slots SET workspace_gen = workspace_gen + 1, workspace_made = 0 WHERE id = ?1")?
        .execute([id.as_str()])?;
    Ok(())
}

/// Records which container of the engine is this slot's.
///
/// # Errors
/// Storage errors.
pub fn set_container(conn: &Connection, id: &SlotId, container: &str) -> Result<()> {
    conn.prepare_cached("UPDATE slots SET container_id = ?2 WHERE id = ?1")?.execute([id.as_str(), container])?;
    Ok(())
}

/// Turns to the next container generation: the one in use is gone, or its name belongs to somebody else.
///
/// # Errors
/// Storage errors.
pub fn next_container(conn: &Connection, slot: &Slot) -> Result<()> {
    conn.prepare_cached(
        "UPDATE slots SET container_gen = container_gen + 1, container_id = NULL WHERE id = ?1 AND container_gen = ?2",
    )?
    .execute((slot.id.as_str(), slot.container_gen))?;
    Ok(())
}

/// Removes a slot and gives its uid back.
///
/// # Errors
/// Storage errors.
pub fn remove(conn: &Connection, id: &SlotId) -> Result<()> {
    conn.prepare_cached("DELETE FROM slots WHERE id = ?1")?.execute([id.as_str()])?;
    Ok(())
}
