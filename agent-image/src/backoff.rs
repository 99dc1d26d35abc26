//! How long to wait before connecting again.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

/// The first pause. Short: after a restart the daemon is back within milliseconds.
pub const FIRST: Duration = Duration::from_millis(20);

/// The longest pause, and the pause after a refusal.
pub const LONGEST: Duration = Duration::from_secs(2);

/// Pauses that double from [`FIRST`] to [`LONGEST`].
#[derive(Debug)]
pub struct Backoff {
    ceiling: Duration,
}

impl Backoff {
    /// Starts at [`FIRST`].
    #[must_use]
    pub fn new() -> Self {
        Self { ceiling: FIRST }
    }

    /// The next pause. `chance` is at least 0 and below 1; it spreads the agents of one host over the upper half of
    /// the pause, so that they do not all come at the same instant.
    pub fn pause(&mut self, chance: f64) -> Duration {
        let ceiling = self.ceiling;
        self.ceiling = (ceiling * 2).min(LONGEST);
        ceiling.mul_f64(0.5 + chance / 2.0)
    }

    /// Starts again at [`FIRST`].
    pub fn reset(&mut self) {
        self.ceiling = FIRST;
    }
}

/// A number from 0 up to but not including 1, from the randomness that the standard library's hash maps use.
#[must_use]
pub fn chance() -> f64 {
    let random = RandomState::new().hash_one(0_u8);
    // The upper 32 bits are exact in a double.
    f64::from(u32::try_from(random >> 32).unwrap_or_default()) / (f64::from(u32::MAX) + 1.0)
}

/// A word of 32 hexadecimal digits that no other start of a process has, from the same randomness.
#[must_use]
pub fn word() -> String {
    let half = || RandomState::new().hash_one(1_u8);
    format!("{:016x}{:016x}", half(), half())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_stay_there() {
        let mut backoff = Backoff::new();
        let ceilings: Vec<u128> = (0..9).map(|_| backoff.pause(1.0).as_millis()).collect();
        assert_eq!(ceilings, [20, 40, 80, 160, 320, 640, 1280, 2000, 2000]);
    }

    #[test]
    fn chance_takes_at_most_half_of_a_pause_away() {
        assert_eq!(Backoff::new().pause(0.0), FIRST / 2);
    }

    #[test]
    fn after_a_reset_the_first_pause_comes_again() {
        let mut backoff = Backoff::new();
        backoff.pause(0.0);
        backoff.pause(0.0);
        backoff.reset();
        assert_eq!(backoff.pause(0.0), FIRST / 2);
    }

    #[test]
    fn no_two_words_are_the_same() {
        let mut words: Vec<String> = (0..100).map(|_| word()).collect();
        assert!(words.iter().all(|word| word.len() == 32));
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 100);
    }

    #[test]
    fn chance_stays_in_its_range_and_varies() {
        let drawn: Vec<f64> = (0..100).map(|_| chance()).collect();
        assert!(drawn.iter().all(|value| (0.0..1.0).contains(value)));
        assert!(drawn.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
