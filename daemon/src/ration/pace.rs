//! So many over time.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// How many are remembered before those that were quiet are forgotten.
const REMEMBERED: usize = 1_024;

/// The pace of each; clones share it.
#[derive(Clone, Debug)]
pub struct Pace<K: Clone + Eq + Hash>(Arc<DefaultKeyedRateLimiter<K>>);

impl<K: Clone + Eq + Hash> Pace<K> {
    /// `per_second` over time, and `at_once` for whoever was quiet before; at least one of each.
    #[must_use]
    pub fn new(per_second: u32, at_once: u32) -> Self {
        let some = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(some(per_second)).allow_burst(some(at_once));
        Self(Arc::new(RateLimiter::hashmap(quota)))
    }

    /// Counts one more of `who`; says whether it is within the pace. One that is not does not count.
    #[must_use]
    pub fn keeps(&self, who: &K) -> bool {
        if self.0.len() > REMEMBERED {
            self.0.retain_recent();
        }
        self.0.check_key(who).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_pace_of_its_own() {
        let pace = Pace::new(1, 3);
        for _ in 0..3 {
            assert!(pace.keeps(&"a"));
        }
        assert!(!pace.keeps(&"a"));
        assert!(pace.keeps(&"b"));
    }

    #[test]
    fn those_that_were_quiet_are_forgotten() {
        let pace = Pace::new(1_000_000, 2);
        for who in 0..=REMEMBERED {
            assert!(pace.keeps(&who));
        }
        assert!(pace.keeps(&(REMEMBERED + 1)));
        assert!(pace.0.len() < REMEMBERED, "{}", pace.0.len());
    }
}
