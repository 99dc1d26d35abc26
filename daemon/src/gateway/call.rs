//! One call of a model: its place among the calls of its agent, and what is written down when it is over.

use std::sync::Arc;

use agentbot_wire::{Code, TenantId, Usage};
use futures_util::FutureExt;
use tokio::time::Instant;

use super::router::Target;
use crate::error::{Error, Result};
use crate::ration::{Pace, Quiet, Seat, Seats};
use crate::store::model_calls::{self, ModelCall};
use crate::store::{Store, now};

/// Who asks.
#[derive(Clone, Debug)]
pub struct Asker {
    /// Whose agent it is.
    pub tenant: TenantId,
    /// The agent's id, or the words of another actor.
    pub who: String,
    /// The model that is meant when none is named.
    pub model: String,
}

/// Calls that an asker may make in a second, over time.
pub const CALLS_PER_SECOND: u32 = 10;
/// Calls that it may make at once.
pub const CALLS_AT_ONCE: u32 = 60;

/// Where calls begin: how many an asker may make, and where they are written down.
pub(super) struct Desk {
    store: Store,
    seats: Seats<String>,
    pace: Pace<String>,
    quiet: Arc<Quiet<String>>,
}

impl Desk {
    pub(super) fn new(store: Store) -> Self {
        let pace = Pace::new(CALLS_PER_SECOND, CALLS_AT_ONCE);
        Self { store, seats: Seats::default(), pace, quiet: Arc::default() }
    }

    /// Counts a request, whatever becomes of it.
    ///
    /// # Errors
    /// `rate_limited` when there were too many.
    pub(super) fn count(&self, who: &String) -> Result<()> {
        if self.pace.keeps(who) {
            return Ok(());
        }
        Err(Error::new(Code::RateLimited, format!("more than {CALLS_PER_SECOND} calls a second"))
            .hint("ask less often, or for more at once"))
    }

    /// Begins a call.
    ///
    /// # Errors
    /// `rate_limited` when its asker has `each` under way.
    pub(super) fn begin(&self, asker: Asker, target: &Target, each: usize) -> Result<Call> {
        let seat = self.seats.take(&asker.who, each).ok_or_else(|| {
            Error::new(Code::RateLimited, format!("{each} calls of this agent are under way"))
                .hint("wait for one to end; `models.parallel` in the configuration sets how many there may be")
        })?;
        Ok(Call {
            store: self.store.clone(),
            quiet: Arc::clone(&self.quiet),
            asker,
            provider: target.provider.clone(),
            model: target.model.clone(),
            begun: Instant::now(),
            outcome: Code::Cancelled.as_str(),
            usage: None,
            _seat: seat,
        })
    }
}

/// A call under way. Dropped before its end it was cancelled by whoever asked.
pub(super) struct Call {
    store: Store,
    quiet: Arc<Quiet<String>>,
    asker: Asker,
    provider: String,
    model: String,
    begun: Instant,
    outcome: &'static str,
    pub(super) usage: Option<Usage>,
    _seat: Seat<String>,
}

impl Call {
    /// It was answered.
    pub(super) fn answered(&mut self) {
        self.outcome = "ok";
    }

    /// It failed.
    pub(super) fn failed(&mut self, code: Code) {
        self.outcome = code.as_str();
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let row = ModelCall {
            tenant: self.asker.tenant.clone(),
            instance: self.asker.who.clone(),
            provider: self.provider.clone(),
            model: self.model.clone(),
            outcome: self.outcome,
            usage: self.usage,
            duration_ms: u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            at: now(),
        };
        // Once it was polled the store has it, and nobody waits for the disk.
        let written = self.store.write(move |conn| model_calls::add(conn, &row)).now_or_never();
        if let Some(Err(error)) = written
            && let Some(left_out) = self.quiet.pass(self.asker.who.clone())
        {
            tracing::warn!(%error, left_out, "a call of a model is missing in the table of calls");
        }
    }
}
