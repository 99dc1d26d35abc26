//! So many at once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The seats that each has taken; clones share them.
pub struct Seats<K>(Arc<Mutex<HashMap<K, usize>>>);

/// One seat, given back when its last clone is dropped.
#[derive(Clone)]
pub struct Seat<K: Eq + Hash> {
    _given_back: Arc<GiveBack<K>>,
}

struct GiveBack<K: Eq + Hash> {
    seats: Seats<K>,
    who: K,
}

impl<K> Clone for Seats<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Default for Seats<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K> Seats<K> {
    fn taken(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        // Every statement leaves the map whole, so a panic elsewhere cannot have broken it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash> Seats<K> {
    /// One more seat, if `who` has less than `each`.
    #[must_use]
    pub fn take(&self, who: &K, each: usize) -> Option<Seat<K>> {
        let mut taken = self.taken();
        if taken.get(who).copied().unwrap_or_default() >= each {
            return None;
        }
        *taken.entry(who.clone()).or_default() += 1;
        drop(taken);
        Some(Seat { _given_back: Arc::new(GiveBack { seats: self.clone(), who: who.clone() }) })
    }
}

impl<K: Eq + Hash> Drop for GiveBack<K> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_so_many_seats_and_one_is_given_back_with_its_last_clone() {
        let seats = Seats::default();
        let first = seats.take(&"a", 2).unwrap();
        let second = seats.take(&"a", 2).unwrap();
        assert!(seats.take(&"a", 2).is_none());
        assert!(seats.take(&"b", 2).is_some(), "another has its own");

        let clone = first.clone();
        drop(first);
        assert!(seats.take(&"a", 2).is_none(), "a clone keeps the seat");
        drop(clone);
        let third = seats.take(&"a", 2);
        assert!(third.is_some());

        drop((second, third));
        assert!(seats.taken().is_empty());
    }

    #[test]
    fn nobody_gets_a_seat_where_there_is_none() {
        let seats = Seats::default();
        assert!(seats.take(&"a", 0).is_none() && seats.taken().is_empty());
    }
}
