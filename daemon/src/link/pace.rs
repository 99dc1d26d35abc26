//! How fast one agent may speak. What is too fast is not refused: it is read later, and the agent's own socket holds it up.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// Frames of up to [`UNIT`] bytes that an agent may send in a second, over time; a longer one counts as several.
pub const FRAMES_PER_SECOND: u32 = 20_000;
/// As many at once.
pub const FRAMES_AT_ONCE: u32 = 40_000;
/// Bytes that count as one frame.
pub const UNIT: usize = 1024;

/// The pace of one connection.
pub(super) struct Pace {
    limiter: DefaultDirectRateLimiter,
    clock: DefaultClock,
}

impl Pace {
    pub(super) fn new() -> Self {
        let some = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(some(FRAMES_PER_SECOND)).allow_burst(some(FRAMES_AT_ONCE));
        let limiter = RateLimiter::direct(quota);
        Self { limiter, clock: DefaultClock::default() }
    }

    /// Counts a frame; gives how long the next one is to be left unread.
    pub(super) fn count(&self, bytes: usize) -> Option<Duration> {
        let units = u32::try_from(1 + bytes / UNIT).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
        match self.limiter.check_n(units) {
            Ok(Err(not_until)) => Some(not_until.wait_time_from(self.clock.now())),
            // A frame is far shorter than what may come at once.
            Ok(Ok(())) | Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentbot_wire::MAX_FRAME;

    #[test]
    fn so_many_frames_pass_at_once_and_then_there_is_a_pause() {
        let pace = Pace::new();
        let passed = (0..2 * FRAMES_AT_ONCE).take_while(|_| pace.count(100).is_none()).count();
        assert!(passed >= FRAMES_AT_ONCE as usize, "{passed}");
        assert!(pace.count(100).is_some_and(|pause| pause < Duration::from_secs(1)));
    }

    #[test]
    fn long_frames_count_as_several() {
        let pace = Pace::new();
        let passed = (0..FRAMES_AT_ONCE).take_while(|_| pace.count(MAX_FRAME).is_none()).count();
        assert!((100..1_000).contains(&passed), "{passed}");
    }
}
