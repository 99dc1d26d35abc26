//! So many in so long, for each of many callers: exact, and bounded itself.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use agentbot_wire::Code;
use tokio::time::Instant;

use crate::error::Error;

/// Callers remembered at once. Beyond them a new one has to wait until others are forgotten.
const REMEMBERED: usize = 4_096;

/// A limit over a window of time that slides.
pub struct Window<K> {
    within: Duration,
    seen: Mutex<HashMap<K, VecDeque<Instant>>>,
}

impl<K: Eq + Hash> Window<K> {
    /// Limits over any span of that length.
    pub fn new(within: Duration) -> Self {
        Self { within, seen: Mutex::default() }
    }

    /// Counts one more of a caller, of whom there may be `most` by the way in which this one came.
    ///
    /// # Errors
    /// It is one too many, and is not counted: the time after which there is room again.
    pub fn pass(&self, caller: K, most: usize) -> Result<(), Duration> {
        let now = Instant::now();
        let is_old = |at: &Instant| now.duration_since(*at) >= self.within;
        // Every statement leaves the map whole, so a panic elsewhere cannot have broken it.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED && !seen.contains_key(&caller) {
            seen.retain(|_, times| times.back().is_some_and(|last| !is_old(last)));
            if seen.len() >= REMEMBERED {
                return Err(self.within);
            }
        }
        let times = seen.entry(caller).or_default();
        while times.front().is_some_and(is_old) {
            times.pop_front();
        }
        // There is room again when there are fewer than `most` left.
        let makes_room = times.len().checked_sub(most).and_then(|index| times.get(index));
        match makes_room {
            Some(at) => Err(self.within.saturating_sub(now.duration_since(*at))),
            None if most == 0 => Err(self.within),
            None => {
                times.push_back(now);
                Ok(())
            }
        }
    }
}

/// The refusal of one too many, with the whole seconds after which to come back.
pub fn too_often(what: &str, wait: Duration) -> (Error, u64) {
    let seconds = whole_seconds(wait);
    let error = Error::new(Code::RateLimited, format!("{what}; come back in {seconds} s"))
        .hint("the header Retry-After says when");
    (error, seconds)
}

/// A wait in whole seconds, at least one.
pub fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// The address that a peer is counted by: an IPv4 address however it is written, and of IPv6 the network, since one host
/// has all of it.
pub fn principal(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn so_many_pass_in_any_minute_and_not_one_more() {
        let window = Window::new(MINUTE);
        for _ in 0..5 {
            assert_eq!(window.pass("a", 10), Ok(()));
        }
        tokio::time::advance(MINUTE / 2).await;
        for _ in 0..5 {
            assert_eq!(window.pass("a", 10), Ok(()));
        }
        assert_eq!(window.pass("a", 10), Err(MINUTE / 2));
        assert_eq!(window.pass("b", 10), Ok(()), "another caller has a count of its own");
        tokio::time::advance(MINUTE / 2 - Duration::from_millis(1)).await;
        assert_eq!(window.pass("a", 10), Err(Duration::from_millis(1)), "who is refused does not begin anew");
        tokio::time::advance(Duration::from_millis(1)).await;
        for _ in 0..5 {
            assert_eq!(window.pass("a", 10), Ok(()));
        }
        assert_eq!(window.pass("a", 10), Err(MINUTE / 2));
    }

    #[tokio::test(start_paused = true)]
    async fn one_count_may_have_another_limit_for_each_way() {
        let window = Window::new(MINUTE);
        for _ in 0..10 {
            assert_eq!(window.pass("a", 10), Ok(()));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(window.pass("a", 5), Err(Duration::from_secs(60 - 10 + 5)), "until four are left");
        assert_eq!(window.pass("a", 11), Ok(()));
        assert_eq!(window.pass("b", 0), Err(MINUTE));
    }

    #[tokio::test(start_paused = true)]
    async fn callers_without_end_cost_no_more_memory_and_are_not_let_in_for_it() {
        let window = Window::new(MINUTE);
        for caller in 0..REMEMBERED {
            assert_eq!(window.pass(caller, 10), Ok(()));
        }
        assert_eq!(window.pass(REMEMBERED, 10), Err(MINUTE));
        assert_eq!(window.pass(0, 10), Ok(()));
        tokio::time::advance(MINUTE).await;
        assert_eq!(window.pass(REMEMBERED, 10), Ok(()));
        assert_eq!(window.seen.lock().unwrap().len(), 1);
    }

    #[test]
    fn the_wait_is_told_in_whole_seconds() {
        for (wait, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (59_999, 60)] {
            assert_eq!(too_often("slow down", Duration::from_millis(wait)).1, seconds, "{wait}");
        }
    }

    #[test]
    fn one_host_is_one_principal_however_its_address_is_written() {
        let of = |text: &str| principal(text.parse().unwrap()).to_string();
        assert_eq!(of("::ffff:1.2.3.4"), "1.2.3.4");
        assert_eq!(of("1.2.3.4"), "1.2.3.4");
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    }
}
