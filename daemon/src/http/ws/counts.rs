//! What was refused to clients and why they were closed: every drop is counted.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// Counts since the start.
        #[derive(Debug, Default)]
        pub struct Counts {
            $($(#[$doc])* pub $name: Count,)+
        }

        impl Counts {
            /// Every count with its name.
            #[must_use]
            pub fn drops(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get())),+]
            }
        }
    };
}

/// One count.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

counts! {
    /// Requests that were refused as `busy`.
    busy,
    /// Messages that were refused as `rate_limited`.
    hasty,
    /// Closed for reading too slowly.
    slow,
    /// Closed for asking too fast.
    flood,
    /// Closed for not answering pings, or for no `connect` in time.
    idle,
    /// Closed for breaking the protocol.
    unfit,
    /// Closed because the credential was replaced.
    revoked,
    /// Closed at the TCP door, for there were newer ones of the same address without a credential.
    crowded,
}
