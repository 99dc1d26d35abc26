//! A set of things to look at.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Keys that somebody wants looked at, each once however often it is marked. Whoever looks takes all of them at once.
/// It holds at most one entry per key, so it needs no bound of its own.
#[derive(Debug)]
pub struct Marks<K> {
    keys: Arc<Mutex<BTreeSet<K>>>,
    news: Arc<Notify>,
}

impl<K> Clone for Marks<K> {
    fn clone(&self) -> Self {
        Self { keys: Arc::clone(&self.keys), news: Arc::clone(&self.news) }
    }
}

impl<K: Ord> Default for Marks<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord> Marks<K> {
    /// Nothing marked.
    #[must_use]
    pub fn new() -> Self {
        Self { keys: Arc::new(Mutex::new(BTreeSet::new())), news: Arc::new(Notify::new()) }
    }

    fn keys(&self) -> MutexGuard<'_, BTreeSet<K>> {
        // Insert and take leave the set whole, so a panic elsewhere cannot have broken it.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks a key. Never waits.
    pub fn mark(&self, key: K) {
        self.keys().insert(key);
        self.news.notify_one();
    }

    /// Takes every marked key.
    #[must_use]
    pub fn take(&self) -> Vec<K> {
        std::mem::take(&mut *self.keys()).into_iter().collect()
    }

    /// Waits until something is marked; at once when something was marked since the last wait.
    pub async fn wait(&self) {
        self.news.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_marked_twice_is_taken_once_and_no_mark_is_missed() {
        let marks = Marks::new();
        for key in [2, 1, 2] {
            marks.mark(key);
        }
        marks.wait().await;
        assert_eq!(marks.take(), vec![1, 2]);
        assert_eq!(marks.take(), Vec::<i32>::new());
    }
}
