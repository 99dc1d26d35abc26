//! Table `operations`: durable mutations with their steps. At most one of an instance is open.

use agentbot_wire::{
    ApiError, InstanceId, Operation, OperationId, OperationKind, OperationStatus, Step, StepStatus, TenantId,
};
use jiff::Timestamp;
use rusqlite::{Connection, Row, named_params};

use super::events::TRIM_BATCH;
use super::ms;
use super::rows::{Columns, many, one};
use crate::error::{Error, Result};

const SELECT: &str = "SELECT id, kind, instance, agent_name, status, steps, actor, result, error, created_at, updated_at FROM operations";

fn from_row(row: &Row<'_>) -> Result<Operation> {
    let mut columns = Columns::of(row);
    let c = &mut columns;
    // Fields are evaluated in the order they are written in, which is that of the columns.
    let mut operation = Operation {
        id: c.word("operation")?,
        kind: c.known("kind", OperationKind::from_word)?,
        agent: c.word("instance")?,
        agent_name: c.next()?,
        status: c.known("status", OperationStatus::from_word)?,
        steps: c.json("steps")?.unwrap_or_default(),
        actor: c.next()?,
        result: c.json("result")?,
        error: c.json("error")?,
        created_at: c.time()?,
        updated_at: c.time()?,
        progress: 0.0,
    };
    operation.progress = progress(&operation.steps);
    Ok(operation)
}

fn progress(steps: &[Step]) -> f64 {
    let ended = steps.iter().filter(|step| matches!(step.status, StepStatus::Succeeded | StepStatus::Skipped)).count();
    let share = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    if steps.is_empty() { 1.0 } else { share(ended) / share(steps.len()) }
}

/// Adds an operation.
///
/// # Errors
/// `conflict` when another one of the instance is open; storage errors.
pub fn insert(conn: &Connection, tenant: &TenantId, operation: &Operation) -> Result<()> {
    let ended = operation.status.is_ended().then(|| ms(operation.updated_at));
    conn.prepare_cached(
        "INSERT INTO operations (id, tenant_id, kind, instance, agent_name, status, steps, actor, result, error,
             created_at, updated_at, ended_at)
         VALUES (:id, :tenant, :kind, :instance, :name, :status, :steps, :actor, :result, :error, :created, :updated, :ended)",
    )?
    .execute(named_params! {
        ":id": operation.id.as_str(), ":tenant": tenant.as_str(), ":kind": operation.kind.as_str(),
        ":instance": operation.agent.as_str(), ":name": operation.agent_name, ":status": operation.status.as_str(),
        ":steps": text(&operation.steps)?, ":actor": operation.actor,
        ":result": operation.result.as_ref().map(text).transpose()?,
        ":error": operation.error.as_ref().map(text).transpose()?,
        ":created": ms(operation.created_at), ":updated": ms(operation.updated_at), ":ended": ended,
    })?;
    Ok(())
}

fn text<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(Error::internal)
}

/// One operation of a tenant.
///
/// # Errors
/// `not_found` when there is none; storage errors.
pub fn find(conn: &Connection, tenant: &TenantId, id: &OperationId) -> Result<Operation> {
    one(
        conn.prepare_cached(&format!("{SELECT} WHERE tenant_id = ?1 AND id = ?2"))?,
        [tenant.as_str(), id.as_str()],
        from_row,
    )?
    .ok_or_else(|| Error::not_found("operation", id).hint("`agentbotctl operation list` shows the newest"))
}

/// The open operation of an instance.
///
/// # Errors
/// Storage errors.
pub fn open(conn: &Connection, instance: &InstanceId) -> Result<Option<Operation>> {
    let query = format!("{SELECT} WHERE instance = ?1 AND ended_at IS NULL");
    one(conn.prepare_cached(&query)?, [instance.as_str()], from_row)
}

/// Which operations a list shows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of one instance only.
    pub instance: Option<InstanceId>,
    /// In one status only.
    pub status: Option<OperationStatus>,
    /// At most so many.
    pub limit: u32,
}

/// A tenant's operations, newest first.
///
/// # Errors
/// Storage errors.
pub fn list(conn: &Connection, tenant: &TenantId, filter: &Filter) -> Result<Vec<Operation>> {
    let statement = conn.prepare_cached(&format!(
        "{SELECT} WHERE tenant_id = ?1 AND (?2 IS NULL OR instance = ?2) AND (?3 IS NULL OR status = ?3)
         ORDER BY id DESC LIMIT ?4"
    ))?;
    let instance = filter.instance.as_ref().map(InstanceId::as_str);
    let status = filter.status.map(OperationStatus::as_str);
    many(statement, (tenant.as_str(), instance, status, filter.limit), from_row)
}

/// How many operations have not ended.
///
/// # Errors
/// Storage errors.
pub fn count_open(conn: &Connection) -> Result<usize> {
    Ok(conn
        .prepare_cached("SELECT count(*) FROM operations WHERE ended_at IS NULL")?
        .query_row([], |row| row.get(0))?)
}

/// Removes some of the operations that ended before a time, the oldest first; says how many. One that an idempotency key
/// still names stays: a repeat must find it.
///
/// # Errors
/// Storage errors.
pub fn trim(conn: &Connection, before: Timestamp) -> Result<usize> {
    let batch = i64::try_from(TRIM_BATCH).map_err(Error::internal)?;
    Ok(conn
        .prepare_cached(
            "DELETE FROM operations WHERE id IN (
                 SELECT id FROM operations
                 WHERE ended_at < ?1 AND id NOT IN (SELECT operation FROM idempotency)
                 ORDER BY ended_at LIMIT ?2)",
        )?
        .execute((ms(before), batch))?)
}

/// Writes how far an open operation is. One that has ended stays as it is; says whether it was open.
///
/// # Errors
/// Storage errors.
pub fn save_progress(conn: &Connection, operation: &Operation, now: Timestamp) -> Result<bool> {
    let changed = conn
        .prepare_cached(
            "UPDATE operations SET status = ?2, steps = ?3, updated_at = ?4 WHERE id = ?1 AND ended_at IS NULL",
        )?
        .execute((operation.id.as_str(), operation.status.as_str(), text(&operation.steps)?, ms(now)))?;
    Ok(changed == 1)
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// As wanted, with what it gave.
    Succeeded(serde_json::Value),
    /// Otherwise.
    Failed(ApiError),
    /// By its caller, or by one that won.
    Cancelled(ApiError),
}

/// Ends an open operation; steps that did not end take its fate. One that has ended stays as it is; says whether it
/// was open.
///
/// # Errors
/// Storage errors.
pub fn end(conn: &Connection, operation: &Operation, ending: &Ending, now: Timestamp) -> Result<bool> {
    let (status, result, error) = match ending {
        Ending::Succeeded(result) => (OperationStatus::Succeeded, Some(result), None),
        Ending::Failed(error) => (OperationStatus::Failed, None, Some(error)),
        Ending::Cancelled(error) => (OperationStatus::Cancelled, None, Some(error)),
    };
    let mut steps = operation.steps.clone();
    for step in &mut steps {
        match (status, step.status) {
            (OperationStatus::Succeeded, StepStatus::Pending) => step.status = StepStatus::Skipped,
            (OperationStatus::Succeeded, StepStatus::Running) => step.status = StepStatus::Succeeded,
            (_, StepStatus::Running) => {
                step.status = StepStatus::Failed;
                step.detail = error.map(|error| error.message.clone());
            }
            _ => continue,
        }
        if step.started_at.is_some() {
            step.ended_at = Some(now);
        }
    }
    let changed = conn
        .prepare_cached(
            "UPDATE operations SET status = ?2, steps = ?3, result = ?4, error = ?5, updated_at = ?6, ended_at = ?6
             WHERE id = ?1 AND ended_at IS NULL",
        )?
        .execute((
            operation.id.as_str(),
            status.as_str(),
            text(&steps)?,
            result.map(text).transpose()?,
            error.map(text).transpose()?,
            ms(now),
        ))?;
    Ok(changed == 1)
}
