//! What was opened with a credential ends when the credential does.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio_util::sync::CancellationToken;

/// SHA-256 of a credential.
pub type CredentialHash = [u8; 32];

/// The credentials with which something is open now.
#[derive(Clone, Default)]
pub struct Leases {
    open: Arc<Mutex<HashMap<CredentialHash, Weak<Held>>>>,
}

/// Held by whatever was opened with a credential; clones are the same lease. It must be taken before the credential is
/// looked up: a credential that is revoked after the look is then seen to be.
#[derive(Clone)]
pub struct Lease {
    held: Arc<Held>,
}

struct Held {
    leases: Leases,
    hash: CredentialHash,
    over: CancellationToken,
}

impl Leases {
    fn open(&self) -> MutexGuard<'_, HashMap<CredentialHash, Weak<Held>>> {
        // Every statement leaves the map whole, so a panic elsewhere cannot have broken it.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a lease for something that a credential opens.
    #[must_use]
    pub fn take(&self, hash: CredentialHash) -> Lease {
        let mut open = self.open();
        if let Some(held) = open.get(&hash).and_then(Weak::upgrade) {
            return Lease { held };
        }
        let held = Arc::new(Held { leases: self.clone(), hash, over: CancellationToken::new() });
        open.insert(hash, Arc::downgrade(&held));
        Lease { held }
    }

    /// Ends every lease of a credential. Never waits.
    pub fn revoke(&self, hash: &CredentialHash) {
        let held = self.open().remove(hash).and_then(|held| held.upgrade());
        // Outside the lock: the last lease locks when it goes.
        if let Some(held) = held {
            held.over.cancel();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut open = self.leases.open();
        // Another one may have been taken since the last clone of this one went.
        if open.get(&self.hash).is_some_and(|held| held.strong_count() == 0) {
            open.remove(&self.hash);
        }
    }
}

impl Lease {
    /// Returns once the credential is no longer valid.
    pub async fn revoked(&self) {
        self.held.over.cancelled().await;
    }

    /// Whether the credential is no longer valid.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.held.over.is_cancelled()
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("revoked", &self.is_revoked()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_leases_of_a_credential_end_with_it_and_no_others() {
        let leases = Leases::default();
        let (first, second, other) = (leases.take([1; 32]), leases.take([1; 32]), leases.take([2; 32]));
        leases.revoke(&[1; 32]);
        first.revoked().await;
        second.clone().revoked().await;
        assert!(!other.is_revoked());
        leases.revoke(&[3; 32]);
        assert!(!leases.take([1; 32]).is_revoked(), "whether it is valid is the store's to say");
    }

    #[test]
    fn what_is_no_longer_held_is_forgotten() {
        let leases = Leases::default();
        let first = leases.take([1; 32]);
        let clone = first.clone();
        drop(first);
        assert_eq!(leases.open().len(), 1);
        drop(clone);
        assert_eq!(leases.open().len(), 0);

        let old = leases.take([1; 32]);
        leases.revoke(&[1; 32]);
        let new = leases.take([1; 32]);
        drop(old);
        leases.revoke(&[1; 32]);
        assert!(new.is_revoked(), "the end of a revoked lease takes no newer one along");
    }
}
