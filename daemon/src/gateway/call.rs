//! One call of a model: its seat among the calls of its agent, and its row when it is over.

use agentbot_wire::{Code, TenantId, Usage};
use futures_util::FutureExt;
use tokio::time::Instant;

use super::router::Target;
use crate::error::{Error, Result};
use crate::ration::{Seat, Seats};
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

/// One of the calls that an asker may have open.
///
/// # Errors
/// `rate_limited` when it has `each` already.
pub(super) fn seat(seats: &Seats<String>, who: &String, each: usize) -> Result<Seat<String>> {
    seats.take(who, each).ok_or_else(|| {
        Error::new(Code::RateLimited, format!("{each} calls of this agent are under way"))
            .hint("wait for one to end; `models.parallel` in the configuration sets how many there may be")
    })
}

/// A call under way. Dropped before its end it was cancelled by whoever asked.
pub(super) struct Call {
    store: Store,
    asker: Asker,
    provider: String,
    model: String,
    begun: Instant,
    outcome: &'static str,
    pub(super) usage: Option<Usage>,
    _seat: Seat<String>,
}

impl Call {
    pub(super) fn begin(store: Store, asker: Asker, target: &Target, seat: Seat<String>) -> Self {
        Self {
            store,
            asker,
            provider: target.provider.clone(),
            model: target.model.clone(),
            begun: Instant::now(),
            outcome: Code::Cancelled.as_str(),
            usage: None,
            _seat: seat,
        }
    }

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
        let written = self.store.write(move |conn| model_calls::insert(conn, &row)).now_or_never();
        if let Some(Err(error)) = written {
            tracing::warn!(%error, "a call of a model is missing in the table of calls");
        }
    }
}
