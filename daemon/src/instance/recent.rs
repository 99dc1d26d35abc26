//! Agents as they were last read, each good until the next commit: most reads ask again for what has not changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use agentbot_wire::{Operation, TenantId};

use crate::error::Result;
use crate::store::instances::{self, Instance};
use crate::store::{Store, crashes, operations};

/// Agents remembered at most; one more and all are forgotten.
const MAX: usize = 1024;

/// What one read of an agent gave.
#[derive(Debug)]
pub struct Seen {
    /// Its row.
    pub instance: Instance,
    /// Its open operation.
    pub operation: Option<Operation>,
    /// What it wrote last before it last ended unasked.
    pub last_lines: Option<String>,
}

type Key = (TenantId, String);

/// The agents that were read lately, each with the count of commits before its read.
#[derive(Debug, Default)]
pub struct Recent(Mutex<HashMap<Key, (u64, Arc<Seen>)>>);

impl Recent {
    /// Reads an agent by id or name, from the store if there was a commit since.
    ///
    /// # Errors
    /// `not_found`; storage errors.
    pub async fn read(&self, store: &Store, tenant: TenantId, agent: &str) -> Result<Arc<Seen>> {
        let now = store.commits();
        let key = (tenant, agent.to_owned());
        if let Some((at, seen)) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
            && *at == now
        {
            return Ok(Arc::clone(seen));
        }
        let (tenant, agent) = key.clone();
        let seen = store
            .read(move |conn| {
                let instance = instances::find(conn, &tenant, &agent)?;
                let operation = operations::open(conn, &instance.id)?;
                let last_lines = if instance.crashes > 0 { crashes::last_lines(conn, &instance.id)? } else { None };
                Ok(Arc::new(Seen { instance, operation, last_lines }))
            })
            .await?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX {
            known.clear();
        }
        known.insert(key, (now, Arc::clone(&seen)));
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::test_support::a_new_instance;
    use crate::store::{StoreOptions, slots};
    use jiff::Timestamp;

    #[tokio::test]
    async fn what_was_read_is_good_until_the_next_commit_and_no_longer() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("agentbot.db"), StoreOptions::default()).unwrap().store;
        let (recent, tenant) = (Recent::default(), TenantId::local());
        assert!(recent.read(&store, tenant.clone(), "helper").await.is_err());
        let made = store
            .write(|conn| {
                let slot = slots::allocate(conn, &TenantId::local(), (20_000, 20_001), 9, Timestamp::UNIX_EPOCH)?;
                let instance = a_new_instance().housed(slot, Timestamp::UNIX_EPOCH);
                instances::insert(conn, &instance)?;
                Ok(instance)
            })
            .await
            .unwrap();
        let first = recent.read(&store, tenant.clone(), "helper").await.unwrap();
        let again = recent.read(&store, tenant.clone(), "helper").await.unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        let version = Some("2.0");
        store.write(move |conn| instances::set_runtime(conn, &made.id, version, None)).await.unwrap();
        let fresh = recent.read(&store, tenant, "helper").await.unwrap();
        assert_eq!(fresh.instance.runtime_version.as_deref(), Some("2.0"));
    }
}
