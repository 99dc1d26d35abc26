//! Keeps whoever can provoke log lines from filling the disk with them.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// One line of a kind in so long.
const INTERVAL: Duration = Duration::from_secs(1);
/// Kinds that are remembered before those that have been silent are forgotten.
const REMEMBERED: usize = 4_096;

struct Said {
    at: Instant,
    left_out: u64,
}

/// Lets one line of each kind pass per second and counts the others.
pub struct Quiet<K> {
    said: Mutex<HashMap<K, Said>>,
}

impl<K> Default for Quiet<K> {
    fn default() -> Self {
        Self { said: Mutex::default() }
    }
}

impl<K: Eq + Hash> Quiet<K> {
    /// Whether a line of this kind may be written now: then how many were left out since the last one, else `None`.
    pub fn pass(&self, kind: K) -> Option<u64> {
        // Every statement leaves the map whole, so a panic elsewhere cannot have broken it.
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let is_fresh = |said: &Said| now.duration_since(said.at) < INTERVAL;
        if said.len() >= REMEMBERED && !said.contains_key(&kind) {
            said.retain(|_, said| is_fresh(said));
        }
        match said.get_mut(&kind) {
            Some(last) if is_fresh(last) => {
                last.left_out += 1;
                None
            }
            Some(last) => {
                last.at = now;
                Some(std::mem::take(&mut last.left_out))
            }
            None => {
                said.insert(kind, Said { at: now, left_out: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_a_second_passes_and_says_how_many_did_not() {
        let quiet = Quiet::default();
        assert_eq!(quiet.pass("refused"), Some(0));
        for _ in 0..1_000 {
            assert_eq!(quiet.pass("refused"), None);
        }
        assert_eq!(quiet.pass("connected"), Some(0), "another kind has its own line");
        tokio::time::advance(INTERVAL - Duration::from_millis(1)).await;
        assert_eq!(quiet.pass("refused"), None);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(quiet.pass("refused"), Some(1_001));
        assert_eq!(quiet.pass("refused"), None);
        tokio::time::advance(INTERVAL).await;
        assert_eq!(quiet.pass("refused"), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_been_silent_is_forgotten_when_there_is_much_to_remember() {
        let quiet = Quiet::default();
        for kind in 0..REMEMBERED {
            quiet.pass(kind);
        }
        tokio::time::advance(INTERVAL).await;
        quiet.pass(REMEMBERED);
        assert_eq!(quiet.said.lock().unwrap().len(), 1);
    }
}
