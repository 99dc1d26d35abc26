//! Who is at the other end of a connection: a stranger first. Of one address only so many strangers are kept, and it is
//! the oldest that has to go: whoever shows a credential soon is let in, however many others hold connections open.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::http::limit::principal;
use crate::http::quota::Quotas;
use crate::identity::CredentialHash;
use crate::ration::Seat;

/// Strangers of one address, the oldest first.
type Strangers = BTreeMap<u64, CancellationToken>;

/// Everybody who has shown no credential yet.
pub struct Crowd {
    most: usize,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    last: u64,
    strangers: HashMap<IpAddr, Strangers>,
}

/// One connection's guest; clones are the same one.
#[derive(Clone)]
pub struct Guest(Arc<One>);

struct One {
    crowd: Arc<Crowd>,
    address: IpAddr,
    number: u64,
    out: CancellationToken,
    /// For the credential that was shown last.
    seat: Mutex<Option<(CredentialHash, Seat<CredentialHash>)>>,
}

impl Crowd {
    /// Nobody, and at most so many of one address.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, inside: Mutex::default() })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        // Every statement leaves the maps whole, so a panic elsewhere cannot have broken them.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more stranger. It may be one too many: then the oldest of its address has to go.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Guest {
        let (address, out) = (principal(address), CancellationToken::new());
        let mut inside = self.inside();
        inside.last += 1;
        let number = inside.last;
        let strangers = inside.strangers.entry(address).or_default();
        strangers.insert(number, out.clone());
        let oldest = if strangers.len() > self.most { strangers.pop_first() } else { None };
        drop(inside);
        if let Some((_, oldest)) = oldest {
            oldest.cancel();
        }
        Guest(Arc::new(One { crowd: Arc::clone(self), address, number, out, seat: Mutex::default() }))
    }

    fn leave(&self, address: IpAddr, number: u64) {
        let mut inside = self.inside();
        if let Some(strangers) = inside.strangers.get_mut(&address) {
            strangers.remove(&number);
            if strangers.is_empty() {
                inside.strangers.remove(&address);
            }
        }
    }
}

impl Guest {
    /// The address that it is counted by.
    pub fn address(&self) -> IpAddr {
        self.0.address
    }

    /// Returns when it has to go.
    pub async fn sent_away(&self) {
        self.0.out.cancelled().await;
    }

    /// It showed a credential that is right, and is no stranger any more. Says whether there is a seat for it: a
    /// connection has one, for the credential that was shown last.
    pub fn known(&self, quotas: &Quotas, token: CredentialHash) -> bool {
        let mut seat = self.0.seat.lock().unwrap_or_else(PoisonError::into_inner);
        if seat.as_ref().is_some_and(|(holder, _)| *holder == token) {
            return true;
        }
        let Some(taken) = quotas.seat(token) else { return false };
        *seat = Some((token, taken));
        drop(seat);
        self.0.crowd.leave(self.0.address, self.0.number);
        true
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.crowd.leave(self.address, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Http;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn quotas() -> Arc<Quotas> {
        Quotas::new(&Http { token_connections: 2, ..Http::default() })
    }

    #[test]
    fn the_oldest_stranger_of_an_address_makes_room_and_whoever_is_known_stays() {
        let (crowd, quotas) = (Crowd::new(2), quotas());
        let enter = || crowd.enter(address("10.0.0.1"));
        let known = enter();
        assert!(known.known(&quotas, [1; 32]));
        let strangers = [enter(), enter()];
        assert!(strangers.iter().all(|guest| !guest.0.out.is_cancelled()));
        let other = crowd.enter(address("10.0.0.2"));
        let last = enter();
        let gone = |guest: &Guest| guest.0.out.is_cancelled();
        assert!(gone(&strangers[0]) && !gone(&strangers[1]) && !gone(&last) && !gone(&other) && !gone(&known));
        drop((strangers, other, last, known));
        assert!(crowd.inside().strangers.is_empty());
    }

    #[test]
    fn a_connection_has_one_seat_for_the_credential_that_was_shown_last() {
        let (crowd, quotas) = (Crowd::new(9), quotas());
        let [first, second, third] = [(); 3].map(|()| crowd.enter(address("::1")));
        for _ in 0..3 {
            assert!(first.known(&quotas, [1; 32]), "the same again is the same seat");
        }
        assert!(second.known(&quotas, [1; 32]));
        assert!(!third.known(&quotas, [1; 32]));
        assert!(second.known(&quotas, [2; 32]));
        assert!(third.known(&quotas, [1; 32]), "the seat of the former credential is free");
        let upgraded = first.clone();
        drop((first, third));
        let seat = quotas.seat([1; 32]);
        assert!(seat.is_some() && quotas.seat([1; 32]).is_none(), "a connection that became a socket keeps its seat");
        drop((seat, upgraded));
        let seats = [quotas.seat([1; 32]), quotas.seat([1; 32])];
        assert!(seats.iter().all(Option::is_some));
    }
}
