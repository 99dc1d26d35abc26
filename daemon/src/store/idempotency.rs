//! What a repeated request began when it came first.

use agentbot_wire::{OperationId, TenantId};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::column::{ms, now, parsed, time};
use crate::error::Result;

/// What the column `operation` has for a rotation.
const ROTATION: &str = "rotation";

/// What a request began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Began {
    /// An operation, which goes on by itself.
    Operation(OperationId),
    /// The rotation of a token: it had ended when it was accepted, and left nothing to look up.
    Rotation,
}

/// A request seen before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The hash of that request; another request with the same key is a mistake.
    pub request_hash: Vec<u8>,
    /// What it began.
    pub began: Began,
    /// When it came first.
    pub created_at: Timestamp,
}

/// What a key of this actor stands for.
///
/// # Errors
/// The store failed, or the row cannot be read.
pub fn find(conn: &Connection, tenant: &TenantId, actor: &str, key: &str) -> Result<Option<Seen>> {
    let mut find = conn.prepare_cached(
        "SELECT request_hash, operation, created_at FROM idempotency WHERE tenant_id = ?1 AND actor = ?2 AND key = ?3",
    )?;
    let row: Option<(Vec<u8>, String, i64)> = find
        .query_row(params![tenant.as_str(), actor, key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    row.map(|(request_hash, operation, at)| {
        let began = match operation.as_str() {
            ROTATION => Began::Rotation,
            operation => Began::Operation(parsed("operation id", operation)?),
        };
        Ok(Seen { request_hash, began, created_at: time(at)? })
    })
    .transpose()
}

/// Remembers a key with what it began, in the request that begins it.
///
/// # Errors
/// The store failed, or the key is there already: [`find`] belongs in the same request, before.
pub fn insert(
    conn: &Connection,
    tenant: &TenantId,
    actor: &str,
    key: &str,
    request_hash: &[u8],
    began: &Began,
) -> Result<()> {
    let began = match began {
        Began::Operation(operation) => operation.as_str(),
        Began::Rotation => ROTATION,
    };
    conn.prepare_cached(
        "INSERT INTO idempotency (tenant_id, actor, key, request_hash, operation, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![tenant.as_str(), actor, key, request_hash, began, ms(now())])?;
    Ok(())
}

/// Forgets the keys from before a time; says how many.
///
/// # Errors
/// The store failed.
pub fn trim(conn: &Connection, before: Timestamp) -> Result<usize> {
    Ok(conn.prepare_cached("DELETE FROM idempotency WHERE created_at < ?1")?.execute([ms(before)])?)
}
