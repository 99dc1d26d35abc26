//! Table `model_calls`: what was asked of models, by whom, and what it took. Calls of one minute that have the rest in
//! common are one row, so whoever calls without end fills no disk.

use agentbot_wire::{TenantId, Usage};
use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::events::TRIM_BATCH;
use super::ms;
use crate::error::{Error, Result};

/// Rows of one asker and minute that name their model; further ones do not.
pub const NAMED: usize = 16;
/// What they have instead of a name.
pub const OTHERS: &str = "*";
/// The most tokens or milliseconds that one call is believed to take. The sum of a minute fits a column.
const CREDIBLE: u64 = 1 << 40;

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

/// Adds a call to the row of its minute.
///
/// # Errors
/// Storage errors.
pub fn add(conn: &Connection, call: &ModelCall) -> Result<()> {
    let minute = call.at.as_second().div_euclid(60);
    let credible = |usage: &&Usage| usage.prompt_tokens <= CREDIBLE && usage.completion_tokens <= CREDIBLE;
    let usage = call.usage.as_ref().filter(credible);
    let count = |tokens: u64| i64::try_from(tokens).map_err(Error::internal);
    conn.prepare_cached(
        "INSERT INTO model_calls (tenant_id, instance, minute, provider, model, outcome, measured, prompt_tokens,
             completion_tokens, duration_ms, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT (instance, minute, provider, model, outcome) DO UPDATE SET
             calls = calls + 1,
             measured = measured + excluded.measured,
             prompt_tokens = coalesce(prompt_tokens + excluded.prompt_tokens, prompt_tokens, excluded.prompt_tokens),
             completion_tokens = coalesce(completion_tokens + excluded.completion_tokens, completion_tokens,
                 excluded.completion_tokens),
             duration_ms = duration_ms + excluded.duration_ms,
             at = max(at, excluded.at)",
    )?
    .execute(params![
        call.tenant.as_str(),
        call.instance,
        minute,
        call.provider,
        if names_its_model(conn, call, minute)? { &call.model } else { OTHERS },
        call.outcome,
        usage.is_some(),
        usage.map(|usage| count(usage.prompt_tokens)).transpose()?,
        usage.map(|usage| count(usage.completion_tokens)).transpose()?,
        count(call.duration_ms.min(CREDIBLE))?,
        ms(call.at),
    ])?;
    Ok(())
}

/// Whether the row of a call is there, or may be. The names of models are the asker's to choose.
fn names_its_model(conn: &Connection, call: &ModelCall, minute: i64) -> Result<bool> {
    let (rows, own): (usize, usize) = conn
        .prepare_cached(
            "SELECT count(*), count(*) FILTER (WHERE provider = ?3 AND model = ?4 AND outcome = ?5)
             FROM model_calls WHERE instance = ?1 AND minute = ?2",
        )?
        .query_row(params![call.instance, minute, call.provider, call.model, call.outcome], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    Ok(own > 0 || rows < NAMED)
}

/// Removes the oldest rows, those from before a time, at most [`TRIM_BATCH`]; says how many.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn a_call(model: &str, at: i64, usage: Option<(u64, u64)>) -> ModelCall {
        ModelCall {
            tenant: TenantId::local(),
            instance: "ins_x".to_owned(),
            provider: "p".to_owned(),
            model: model.to_owned(),
            outcome: "ok",
            usage: usage.map(|(prompt_tokens, completion_tokens)| Usage { prompt_tokens, completion_tokens }),
            duration_ms: 5,
            at: Timestamp::from_second(at).unwrap(),
        }
    }

    type Row = (String, i64, i64, Option<i64>, Option<i64>, i64);

    fn rows(calls: &[ModelCall]) -> Vec<Row> {
        let conn = Connection::open_in_memory().unwrap();
        let sql = include_str!("migrations/V2__talk.sql");
        conn.execute_batch(&sql[sql.find("CREATE TABLE model_calls").unwrap()..]).unwrap();
        for call in calls {
            add(&conn, call).unwrap();
        }
        let mut rows = conn
            .prepare(
                "SELECT model, calls, measured, prompt_tokens, completion_tokens, duration_ms FROM model_calls
                 ORDER BY id",
            )
            .unwrap();
        let row = |row: &rusqlite::Row<'_>| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
        };
        rows.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn calls_of_a_minute_are_one_row_and_the_next_minute_has_its_own() {
        let many: Vec<_> =
            (0..1_000).map(|call| a_call("m", 60 + call % 60, None)).chain([a_call("m", 120, None)]).collect();
        assert_eq!(rows(&many), [("m".into(), 1_000, 0, None, None, 5_000), ("m".into(), 1, 0, None, None, 5)]);
    }

    #[test]
    fn what_was_not_measured_is_unknown_and_not_zero() {
        let unknown = || a_call("m", 60, None);
        let known = |tokens| a_call("m", 60, Some((tokens, tokens + 1)));
        assert_eq!(rows(&[unknown(), known(3)]), [("m".into(), 2, 1, Some(3), Some(4), 10)]);
        assert_eq!(rows(&[known(3), unknown(), known(4)]), [("m".into(), 3, 2, Some(7), Some(9), 15)]);
        assert_eq!(rows(&[known(0)]), [("m".into(), 1, 1, Some(0), Some(1), 5)]);
    }

    #[test]
    fn a_count_that_nobody_can_believe_is_none() {
        let known = |tokens| a_call("m", 60, Some((tokens, 0)));
        let sum = i64::try_from(2 * CREDIBLE).unwrap();
        let calls = [known(CREDIBLE), known(CREDIBLE), known(CREDIBLE + 1), known(u64::MAX)];
        assert_eq!(rows(&calls), [("m".into(), 4, 2, Some(sum), Some(0), 20)]);
    }

    #[test]
    fn names_of_models_without_end_share_a_row() {
        let calls: Vec<_> = (0..2 * NAMED).map(|model| a_call(&model.to_string(), 60, None)).collect();
        let rows = rows(&[calls, vec![a_call("0", 61, None)]].concat());
        assert_eq!((rows.len(), rows[0].1), (NAMED + 1, 2), "one that has a row keeps it");
        let others = i64::try_from(NAMED).unwrap();
        assert_eq!((rows[NAMED].0.as_str(), rows[NAMED].1), (OTHERS, others));
    }
}
