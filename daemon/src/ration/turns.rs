//! One after another.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Whose turn it is, for each; clones share them.
pub struct Turns<K>(Arc<Mutex<HashMap<K, Weak<Semaphore>>>>);

/// A turn; the next one's begins when it is dropped.
pub struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl<K> Clone for Turns<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Clone + Eq + Hash> Turns<K> {
    /// Waits until nothing else of `who` is under way; `None` when that takes longer than `patience`.
    pub async fn wait(&self, who: &K, patience: Duration) -> Option<Turn> {
        let permit = tokio::time::timeout(patience, self.of(who).acquire_owned()).await.ok()?.ok()?;
        Some(Turn { _permit: permit })
    }

    fn of(&self, who: &K) -> Arc<Semaphore> {
        // Every statement leaves the map whole, so a panic elsewhere cannot have broken it.
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = turns.get(who).and_then(Weak::upgrade) {
            return known;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let new = Arc::new(Semaphore::new(1));
        turns.insert(who.clone(), Arc::downgrade(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn each_has_one_turn_at_a_time_and_waits_so_long_for_it() {
        let turns = Turns::default();
        let first = turns.wait(&"a", PATIENCE).await.unwrap();
        assert!(turns.wait(&"b", PATIENCE).await.is_some(), "another has its own");
        let begun = tokio::time::Instant::now();
        assert!(turns.wait(&"a", PATIENCE).await.is_none());
        assert!(begun.elapsed() >= PATIENCE);

        let (next, ()) = tokio::join!(turns.wait(&"a", PATIENCE), async {
            tokio::time::sleep(PATIENCE / 2).await;
            drop(first);
        });
        assert!(next.is_some());
    }

    #[tokio::test]
    async fn those_that_do_nothing_are_forgotten() {
        let turns = Turns::default();
        for who in 0..1_000 {
            drop(turns.wait(&who, PATIENCE).await.unwrap());
        }
        assert!(turns.0.lock().unwrap().len() <= 1);
    }
}
