//! Table `model_calls`: what was asked of models, by whom, and what it took.

use agentbot_wire::{TenantId, Usage};
use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::events::TRIM_BATCH;
use super::ms;
use crate::error::{Error, Result};

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCall {
    /// Whose agent asked.
    pub tenant: TenantId,
    /// The agent's id, or the words of another actor.
    pub instance: String,
    /// The provider.
    pub provider: String,
    /// The provider's name for the model.
    pub model: String,
    /// `ok`, or the code of the error.
    pub outcome: &'static str,
    /// Tokens, where the provider said them.
    pub usage: Option<Usage>,
    /// Milliseconds from the question to the end of the answer.
    pub duration_ms: u64,
    /// When it ended.
    pub at: Timestamp,
}

/// Adds a call.
///
/// # Errors
/// Storage errors.
pub fn insert(conn: &Connection, call: &ModelCall) -> Result<()> {
    // A count beyond what a column holds is nobody's tokens.
    let count = |tokens: fn(&Usage) -> u64| call.usage.as_ref().and_then(|usage| i64::try_from(tokens(usage)).ok());
    conn.prepare_cached(
        "INSERT INTO model_calls (tenant_id, instance, provider, model, outcome, prompt_tokens, completion_tokens,
             duration_ms, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        call.tenant.as_str(),
        call.instance,
        call.provider,
        call.model,
        call.outcome,
        count(|usage| usage.prompt_tokens),
        count(|usage| usage.completion_tokens),
        i64::try_from(call.duration_ms).unwrap_or(i64::MAX),
        ms(call.at),
    ])?;
    Ok(())
}

/// Removes the oldest calls, those from before a time, at most [`TRIM_BATCH`]; says how many.
///
/// # Errors
/// Storage errors.
pub fn trim(conn: &Connection, before: Timestamp) -> Result<usize> {
    let batch = i64::try_from(TRIM_BATCH).map_err(Error::internal)?;
    Ok(conn
        .prepare_cached(
            "DELETE FROM model_calls WHERE id IN (SELECT id FROM model_calls WHERE at < ?1 ORDER BY at LIMIT ?2)",
        )?
        .execute(params![ms(before), batch])?)
}
