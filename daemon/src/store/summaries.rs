//! Agents as a list shows them: a list reads no more of each than it says.

use agentbot_wire::{AgentName, InstanceId, Phase, TenantId};
use jiff::Timestamp;
use rusqlite::{Connection, Row};

use super::rows::{Columns, many};
use crate::error::Result;

/// The part of an instance that a list shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Its id.
    pub id: InstanceId,
    /// Its name.
    pub name: AgentName,
    /// Its plan's name.
    pub plan: String,
    /// Its model.
    pub model: String,
    /// Its phase.
    pub phase: Phase,
    /// Since when.
    pub phase_since: Timestamp,
    /// Why.
    pub reason: Option<String>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was given up.
    pub deleted_at: Option<Timestamp>,
}

const SELECT: &str =
    "SELECT id, name, plan, model, phase, phase_since, reason, created_at, updated_at, deleted_at FROM instances";

fn from_row(row: &Row<'_>) -> Result<Summary> {
    let mut columns = Columns::of(row);
    let c = &mut columns;
    // Fields are evaluated in the order they are written in, which is that of the columns.
    Ok(Summary {
        id: c.word("instance")?,
        name: c.word("name")?,
        plan: c.next()?,
        model: c.next()?,
        phase: c.known("phase", Phase::from_word)?,
        phase_since: c.time()?,
        reason: c.next()?,
        created_at: c.time()?,
        updated_at: c.time()?,
        deleted_at: c.maybe_time()?,
    })
}

/// A tenant's living agents by name, or its deleted ones, newest first.
///
/// # Errors
/// Storage errors.
pub fn list(conn: &Connection, tenant: &TenantId, deleted: bool) -> Result<Vec<Summary>> {
    let which = if deleted {
        "WHERE tenant_id = ?1 AND deleted_at IS NOT NULL ORDER BY deleted_at DESC"
    } else {
        "WHERE tenant_id = ?1 AND deleted_at IS NULL ORDER BY name"
    };
    many(conn.prepare_cached(&format!("{SELECT} {which}"))?, [tenant.as_str()], from_row)
}
