//! So many at once, for each of many holders.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The seats that are taken, by holder.
#[derive(Debug)]
pub struct Seats<K: Eq + Hash> {
    taken: Arc<Mutex<HashMap<K, usize>>>,
}

/// A seat, given back when it is dropped.
#[derive(Debug)]
pub struct Seat<K: Eq + Hash> {
    taken: Arc<Mutex<HashMap<K, usize>>>,
    holder: K,
}

fn lock<K>(taken: &Mutex<HashMap<K, usize>>) -> MutexGuard<'_, HashMap<K, usize>> {
    // Every statement leaves the map whole, so a panic elsewhere cannot have broken it.
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Eq + Hash> Default for Seats<K> {
    fn default() -> Self {
        Self { taken: Arc::default() }
    }
}

impl<K: Eq + Hash + Clone> Seats<K> {
    /// One more seat for a holder, if it has less than `each`.
    pub fn take(&self, holder: &K, each: usize) -> Option<Seat<K>> {
        let mut taken = lock(&self.taken);
        let count = taken.get(holder).copied().unwrap_or(0);
        if count >= each {
            return None;
        }
        taken.insert(holder.clone(), count + 1);
        drop(taken);
        Some(Seat { taken: Arc::clone(&self.taken), holder: holder.clone() })
    }
}

impl<K: Eq + Hash> Drop for Seat<K> {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(count) = taken.get_mut(&self.holder) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_holder_has_so_many_seats_and_gives_them_back() {
        let seats = Seats::default();
        let (first, second) = (seats.take(&"a", 2).unwrap(), seats.take(&"a", 2).unwrap());
        assert!(seats.take(&"a", 2).is_none());
        assert!(seats.take(&"b", 2).is_some(), "another one has seats of its own");
        drop(first);
        let third = seats.take(&"a", 2);
        assert!(third.is_some() && seats.take(&"a", 2).is_none());
        drop((second, third));
        assert!(lock(&seats.taken).is_empty(), "nobody is remembered for nothing");
    }
}
