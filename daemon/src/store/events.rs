//! The event log: what happened, numbered without repeats.

use agentbot_wire::{EventId, InstanceId, OperationId, TenantId};
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};
use serde_json::Value;

use super::column::{damaged, ms, now, parsed, time};
use crate::error::{Error, Result};

/// Rows that [`trim`] removes at once, so that it never keeps the writer for long.
pub const TRIM_BATCH: usize = 1000;

/// What happened, before it has a number.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Its kind, such as `instance.created`.
    pub kind: String,
    /// Whose it is.
    pub tenant: TenantId,
    /// The agent it is about.
    pub instance: Option<InstanceId>,
    /// The operation it belongs to.
    pub operation: Option<OperationId>,
    /// Who caused it, in the words of an actor.
    pub actor: Option<String>,
    /// What else there is to say.
    pub payload: Value,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    /// Its number: greater than every earlier one, never given twice.
    pub seq: i64,
    /// Its id.
    pub id: EventId,
    /// When it was stored, to the millisecond.
    pub at: Timestamp,
    /// Its kind.
    pub kind: String,
    /// Whose it is.
    pub tenant: TenantId,
    /// The agent it is about.
    pub instance: Option<InstanceId>,
    /// The operation it belongs to.
    pub operation: Option<OperationId>,
    /// Who caused it.
    pub actor: Option<String>,
    /// What else there is to say.
    pub payload: Value,
}

/// Adds an event. It may be published once the request that called this is acknowledged, and not before.
///
/// # Errors
/// The store failed.
pub fn append(conn: &Connection, event: &NewEvent) -> Result<StoredEvent> {
    let (id, at) = (EventId::mint(), now());
    conn.prepare_cached(
        "INSERT INTO events (id, tenant_id, kind, instance, operation, actor, payload, at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        id.as_str(),
        event.tenant.as_str(),
        event.kind,
        event.instance.as_ref().map(InstanceId::as_str),
        event.operation.as_ref().map(OperationId::as_str),
        event.actor,
        event.payload.to_string(),
        ms(at),
    ])?;
    Ok(StoredEvent {
        seq: conn.last_insert_rowid(),
        id,
        at,
        kind: event.kind.clone(),
        tenant: event.tenant.clone(),
        instance: event.instance.clone(),
        operation: event.operation.clone(),
        actor: event.actor.clone(),
        payload: event.payload.clone(),
    })
}

/// What was said in the events of one kind about an agent since a time, oldest first, at most a hundred.
///
/// # Errors
/// The store failed, or a row cannot be read.
pub fn payloads_since(conn: &Connection, instance: &InstanceId, kind: &str, from: Timestamp) -> Result<Vec<Value>> {
    let mut find = conn.prepare_cached(
        "SELECT payload FROM events WHERE instance = ?1 AND kind = ?2 AND at >= ?3 ORDER BY seq LIMIT 100",
    )?;
    let mut rows = find.query(params![instance.as_str(), kind, ms(from)])?;
    let mut payloads = Vec::new();
    while let Some(row) = rows.next()? {
        let text: String = row.get(0)?;
        payloads.push(serde_json::from_str(&text).map_err(|error| damaged("event payload", &text).caused_by(error))?);
    }
    Ok(payloads)
}

/// The number of the newest event that there was; 0 before the first.
///
/// # Errors
/// The store failed.
pub fn newest(conn: &Connection) -> Result<i64> {
    let mut find = conn.prepare_cached("SELECT coalesce(max(seq), 0) FROM events")?;
    Ok(find.query_row([], |row| row.get(0))?)
}

/// The events after a number, oldest first, at most `limit`.
///
/// # Errors
/// The store failed, or a row cannot be read.
pub fn since(conn: &Connection, seq: i64, limit: usize) -> Result<Vec<StoredEvent>> {
    let mut find = conn.prepare_cached(
        "SELECT seq, id, tenant_id, kind, instance, operation, actor, payload, at
         FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let mut rows = find.query(params![seq, i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(read(row)?);
    }
    Ok(events)
}

fn read(row: &Row<'_>) -> Result<StoredEvent> {
    let text = |column: &str| row.get::<_, String>(column);
    let maybe = |column: &str| row.get::<_, Option<String>>(column);
    let payload = text("payload")?;
    Ok(StoredEvent {
        seq: row.get("seq")?,
        id: parsed("event id", &text("id")?)?,
        at: time(row.get("at")?)?,
        kind: text("kind")?,
        tenant: TenantId::from_stored(&text("tenant_id")?),
        instance: maybe("instance")?.map(|id| parsed("instance id", &id)).transpose()?,
        operation: maybe("operation")?.map(|id| parsed("operation id", &id)).transpose()?,
        actor: maybe("actor")?,
        payload: serde_json::from_str(&payload)
            .map_err(|error| damaged("payload of an event", &payload).caused_by(error))?,
    })
}

/// Removes the oldest events, those from before a time, at most [`TRIM_BATCH`]; says how many. Numbers are not given
/// again.
///
/// # Errors
/// The store failed.
pub fn trim(conn: &Connection, before: Timestamp) -> Result<usize> {
    let batch = i64::try_from(TRIM_BATCH).map_err(Error::internal)?;
    Ok(conn
        .prepare_cached(
            "DELETE FROM events WHERE seq IN (
                 SELECT seq FROM events
                 WHERE seq < ifnull((SELECT seq FROM events WHERE at >= ?1 ORDER BY seq LIMIT 1), 9223372036854775807)
                 ORDER BY seq LIMIT ?2)",
        )?
        .execute(params![ms(before), batch])?)
}
