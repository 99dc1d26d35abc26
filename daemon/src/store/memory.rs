//! Table `memory`: what each agent was told to remember, by key.

use std::collections::BTreeMap;

use agentbot_wire::InstanceId;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use serde_json::Value;

use super::instances::missing;
use super::{damaged, ms, time};
use crate::error::Result;

/// How much an agent remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Keys.
    pub keys: usize,
    /// Bytes of all values.
    pub bytes: usize,
    /// When one was last written.
    pub last: Option<Timestamp>,
}

fn value(key: &str, text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| damaged("memory", key).caused_by(error))
}

/// The value of a key.
///
/// # Errors
/// Storage errors.
pub fn get(conn: &Connection, instance: &InstanceId, key: &str) -> Result<Option<Value>> {
    let text: Option<String> = conn
        .prepare_cached("SELECT value FROM memory WHERE instance = ?1 AND key = ?2")?
        .query_row([instance.as_str(), key], |row| row.get(0))
        .optional()?;
    text.map(|text| value(key, &text)).transpose()
}

/// Keys and values in the order of the keys, those that `wanted` takes, until their JSON has more than `budget` bytes or
/// there are `limit` of them; says whether something was left out. `wanted` is given the key and the JSON of the value;
/// what it or the budget leaves out is not parsed.
///
/// # Errors
/// Storage errors.
pub fn some(
    conn: &Connection,
    instance: &InstanceId,
    budget: usize,
    limit: usize,
    wanted: impl Fn(&str, &str) -> bool,
) -> Result<(BTreeMap<String, Value>, bool)> {
    let mut statement = conn.prepare_cached("SELECT key, value FROM memory WHERE instance = ?1 ORDER BY key")?;
    let mut rows = statement.query([instance.as_str()])?;
    let (mut found, mut used, mut more) = (BTreeMap::new(), 0_usize, false);
    while let Some(row) = rows.next()? {
        let (key, text): (String, String) = (row.get(0)?, row.get(1)?);
        if !wanted(&key, &text) {
            continue;
        }
        // Quotes, colon and comma; a key may grow when it is escaped.
        let size = text.len() + 2 * key.len() + 4;
        if found.len() >= limit || used.saturating_add(size) > budget {
            more = true;
            // A smaller one may still fit, unless their number is what is full.
            if found.len() >= limit {
                break;
            }
            continue;
        }
        used += size;
        let value = value(&key, &text)?;
        found.insert(key, value);
    }
    Ok((found, more))
}

/// How much there is.
///
/// # Errors
/// Storage errors.
pub fn extent(conn: &Connection, instance: &InstanceId) -> Result<Extent> {
    let (keys, bytes, last): (usize, usize, Option<i64>) = conn
        .prepare_cached(
            "SELECT count(*), ifnull(sum(octet_length(value)), 0), max(updated_at) FROM memory WHERE instance = ?1",
        )?
        .query_row([instance.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(Extent { keys, bytes, last: last.map(time).transpose()? })
}

/// Sets a key; `json` is its value as JSON.
///
/// # Errors
/// `not_found` when there is no such agent any more; storage errors.
pub fn put(conn: &Connection, instance: &InstanceId, key: &str, json: &str, now: Timestamp) -> Result<()> {
    let put = conn
        .prepare_cached(
            "INSERT INTO memory (tenant_id, instance, key, value, updated_at)
             SELECT tenant_id, id, ?2, ?3, ?4 FROM instances WHERE id = ?1
             ON CONFLICT (instance, key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at",
        )?
        .execute((instance.as_str(), key, json, ms(now)))?;
    if put == 0 { Err(missing(instance.as_str())) } else { Ok(()) }
}

/// Forgets a key; says whether there was one.
///
/// # Errors
/// Storage errors.
pub fn forget(conn: &Connection, instance: &InstanceId, key: &str) -> Result<bool> {
    let gone = conn
        .prepare_cached("DELETE FROM memory WHERE instance = ?1 AND key = ?2")?
        .execute([instance.as_str(), key])?;
    Ok(gone == 1)
}
