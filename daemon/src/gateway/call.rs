//! One call of a model: its seat among the calls of its agent, and its row when it is over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agentbot_wire::{Code, TenantId, Usage};
use futures_util::FutureExt;
use tokio::time::Instant;

use super::router::Target;
use crate::error::{Error, Result};
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

/// The calls that each asker has open.
#[derive(Clone, Default)]
pub(super) struct Seats(Arc<Mutex<HashMap<String, usize>>>);

/// One open call of an asker.
pub(super) struct Seat {
    seats: Seats,
    who: String,
}

impl Seats {
    fn taken(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        // Every statement leaves the map whole, so a panic elsewhere cannot have broken it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat, if its asker has less than `each`.
    ///
    /// # Errors
    /// `rate_limited`.
    pub(super) fn take(&self, who: &str, each: usize) -> Result<Seat> {
        let mut taken = self.taken();
        let count = taken.entry(who.to_owned()).or_default();
        if *count >= each {
            return Err(Error::new(Code::RateLimited, format!("{each} calls of this agent are under way"))
                .hint("wait for one to end; `models.parallel` in the configuration sets how many there may be"));
        }
        *count += 1;
        drop(taken);
        Ok(Seat { seats: self.clone(), who: who.to_owned() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        if let Some(count) = taken.get_mut(&self.who) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.remove(&self.who);
            }
        }
    }
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
    _seat: Seat,
}

impl Call {
    pub(super) fn begin(store: Store, asker: Asker, target: &Target, seat: Seat) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asker_has_so_many_seats_and_each_is_given_back() {
        let seats = Seats::default();
        let first = seats.take("a", 2).unwrap();
        let second = seats.take("a", 2).unwrap();
        assert_eq!(seats.take("a", 2).err().map(|error| error.code()), Some(Code::RateLimited));
        assert!(seats.take("b", 2).is_ok(), "another asker has its own");
        drop(first);
        drop(seats.take("a", 2).unwrap());
        drop(second);
        assert!(seats.taken().is_empty());
    }
}
