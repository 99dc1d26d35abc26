//! How often an agent may ask for something.

use std::num::NonZeroU32;
use std::sync::Arc;

use agentbot_wire::{Code, InstanceId};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::error::{Error, Result};

/// Requests that an agent may make in a second, over time.
pub const REQUESTS_PER_SECOND: u32 = 100;
/// Requests that it may make at once.
pub const REQUESTS_AT_ONCE: u32 = 400;
/// Agents whose pace is remembered before those that were quiet are forgotten.
const REMEMBERED: usize = 1_024;

/// The pace of every agent; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Pace(Arc<DefaultKeyedRateLimiter<InstanceId>>);

impl Default for Pace {
    fn default() -> Self {
        let some = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(some(REQUESTS_PER_SECOND)).allow_burst(some(REQUESTS_AT_ONCE));
        Self(Arc::new(RateLimiter::hashmap(quota)))
    }
}

impl Pace {
    /// Counts a request of an agent.
    ///
    /// # Errors
    /// `rate_limited` when there were too many.
    pub(super) fn check(&self, agent: &InstanceId) -> Result<()> {
        if self.0.len() > REMEMBERED {
            self.0.retain_recent();
        }
        self.0.check_key(agent).map_err(|_| {
            Error::new(Code::RateLimited, format!("more than {REQUESTS_PER_SECOND} requests a second"))
                .hint("ask less often, or for more at once")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::test_support::an_agent;

    #[test]
    fn an_agent_may_ask_so_often_and_another_has_its_own_pace() {
        let pace = Pace::default();
        let passed = (0..2 * REQUESTS_AT_ONCE).filter(|_| pace.check(&an_agent()).is_ok()).count();
        // The clock goes on while they are made.
        assert!((REQUESTS_AT_ONCE as usize..2 * REQUESTS_AT_ONCE as usize).contains(&passed), "{passed}");
        assert!(pace.check(&"ins_01kak2m5v5e7qrf9v3n6m8t0zz".parse().unwrap()).is_ok());
    }
}
