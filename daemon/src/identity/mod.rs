//! Who is who: the daemon to its containers, an agent to its clients, a caller to the daemon.

mod actor;
mod key;
mod lease;
mod lock;
mod peer;

pub use actor::Actor;
pub use key::{DaemonKey, SALT_BYTES, credential_hash, new_salt};
pub use lease::{CredentialHash, Lease, Leases};
pub use lock::DaemonLock;
pub use peer::Admission;
