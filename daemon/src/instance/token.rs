//! Gateway tokens: shown, looked up, replaced, and ended with their agents.

use std::sync::Arc;

use agentbot_wire::InstanceId;
use serde_json::json;

use super::accept::{Idempotency, denied, other_request};
use super::requests::Instances;
use super::state::Denied;
use crate::error::Result;
use crate::events::{about, kind};
use crate::identity::{Actor, CredentialHash, DaemonKey, Lease, SALT_BYTES, credential_hash, new_salt};
use crate::secret::Secret;
use crate::store::events::append;
use crate::store::idempotency::Began;
use crate::store::instances::{self, Instance, TokenRow};
use crate::store::{Connection, Store, idempotency};

/// Whoever shows a gateway token that is valid.
#[derive(Clone, Debug)]
pub struct Holder {
    /// As the core knows them.
    pub actor: Actor,
    /// Ends with the token.
    pub lease: Lease,
}

/// Gives an agent the token that comes of a salt.
pub(super) fn set(conn: &Connection, key: &DaemonKey, id: &InstanceId, salt: [u8; SALT_BYTES]) -> Result<()> {
    let hash = credential_hash(key.gateway_token(id, &salt).expose());
    instances::set_token(conn, id, &TokenRow { salt, hash })
}

/// Lets the token follow what has just been accepted of an agent: one that came back gets a new one. Gives the hash of
/// a token that opens nothing any more, because its agent is given up.
pub(super) fn follow(
    conn: &Connection,
    key: &DaemonKey,
    instance: Option<&Instance>,
    salt: [u8; SALT_BYTES],
) -> Result<Option<CredentialHash>> {
    let Some(instance) = instance else { return Ok(None) };
    let hash = instances::token_hash(conn, &instance.id)?;
    if instance.desired.is_gone() {
        return Ok(hash);
    }
    if hash.is_none() {
        set(conn, key, &instance.id, salt)?;
    }
    Ok(None)
}

/// Notes the hash of each token that has none yet: rows of a version that kept none.
///
/// # Errors
/// Storage errors.
pub async fn hash_tokens(store: &Store, key: &DaemonKey) -> Result<()> {
    let found = store.read(instances::without_token_hash).await?;
    let rows: Vec<_> = found
        .into_iter()
        .map(|(id, salt)| {
            let hash = credential_hash(key.gateway_token(&id, &salt).expose());
            (id, TokenRow { salt, hash })
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    store.write(move |conn| rows.iter().try_for_each(|(id, row)| instances::set_token(conn, id, row))).await
}

fn alive(instance: Instance) -> Result<Instance> {
    if instance.desired.is_gone() { Err(denied(Denied::Deleted, &instance)) } else { Ok(instance) }
}

impl Instances {
    /// The gateway token of an agent: derived, never stored.
    ///
    /// # Errors
    /// `not_found`, also for a deleted agent.
    pub async fn token(&self, actor: &Actor, agent: &str) -> Result<Secret<String>> {
        let instance = alive(self.find(actor, agent).await?)?;
        Ok(self.context().key.gateway_token(&instance.id, &instance.token_salt))
    }

    /// Replaces the gateway token of an agent. What the former one opened ends, and nothing is done for its holder once
    /// this is committed. The same idempotency key replaces it once; a repeat is given the token as it is then.
    ///
    /// # Errors
    /// `not_found`, also for a deleted agent; `idempotency_mismatch`.
    pub async fn rotate_token(
        &self,
        actor: &Actor,
        agent: &str,
        idempotency: Option<Idempotency>,
    ) -> Result<Secret<String>> {
        let context = Arc::clone(self.context());
        let (actor, agent, salt, leases) = (actor.clone(), agent.to_owned(), new_salt()?, context.leases.clone());
        let of = Arc::clone(&context);
        let write = move |conn: &Connection| {
            let tenant = actor.tenant();
            let instance = alive(instances::find(conn, &tenant, &agent)?)?;
            if let Some(Idempotency { key, request }) = &idempotency {
                if let Some(seen) = idempotency::find(conn, &tenant, &actor.to_string(), key)? {
                    return if seen.request_hash == request { Ok((instance, None)) } else { Err(other_request()) };
                }
                idempotency::insert(conn, &tenant, &actor.to_string(), key, request, &Began::Rotation)?;
            }
            let former = instances::token_hash(conn, &instance.id)?;
            set(conn, &of.key, &instance.id, salt)?;
            let mut event = about(&instance, kind::TOKEN_ROTATED, json!({"agent": instance.name}));
            event.actor = Some(actor.to_string());
            append(conn, &event)?;
            Ok((Instance { token_salt: salt, ..instance }, former))
        };
        let revoke = move |(_, former): &(Instance, Option<CredentialHash>)| {
            former.iter().for_each(|hash| leases.revoke(hash));
        };
        let (instance, _) = context.store.write_then(write, revoke).await?;
        context.events.publish();
        Ok(context.key.gateway_token(&instance.id, &instance.token_salt))
    }

    /// Who shows this gateway token; `None` when it is nobody's.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn token_holder(&self, token: &str) -> Result<Option<Holder>> {
        let hash = credential_hash(token);
        // Before the look: see [`Lease`].
        let lease = self.context().leases.take(hash);
        let found = self.context().store.read(|conn| instances::token_holder(conn, &hash)).await?;
        Ok(found.map(|instance| Holder { actor: Actor::Gateway { instance, token: hash }, lease }))
    }
}

#[cfg(test)]
mod tests {
    use agentbot_wire::TenantId;

    use super::*;
    use crate::instance::test_support::a_new_instance;
    use crate::store::{Desired, StoreOptions, Wish, slots};

    fn wish(desired: Desired) -> Wish {
        Wish { desired, restart: false, rebuild: false, phase: agentbot_wire::Phase::Deleting }
    }

    #[tokio::test]
    async fn a_token_ends_with_its_agent_and_comes_back_as_another() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("agentbot.db"), StoreOptions::default()).unwrap().store;
        let key = Arc::new(DaemonKey::load_or_create(&dir.path().join("key"), true).unwrap());
        let id = store
            .write(|conn| {
                let now = crate::store::now();
                let slot = slots::allocate(conn, &TenantId::local(), (20_000, 20_001), 9, now)?;
                let instance = a_new_instance().housed(slot, now);
                instances::insert(conn, &instance)?;
                Ok(instance.id)
            })
            .await
            .unwrap();
        let hash = |salt| credential_hash(key.gateway_token(&id, &[salt; SALT_BYTES]).expose());

        // A row of a version that kept no hash: the token that its owner knows goes on.
        hash_tokens(&store, &key).await.unwrap();
        assert_eq!(store.read(|conn| instances::token_holder(conn, &hash(0))).await.unwrap(), Some(id.clone()));

        let (of, agent) = (Arc::clone(&key), id.clone());
        let (unasked, ended, back) = store
            .write(move |conn| {
                let seen = || Ok::<_, crate::error::Error>(instances::get(conn, &agent)?.unwrap());
                let unasked = follow(conn, &of, Some(&seen()?), [1; SALT_BYTES])?;
                instances::wish(conn, &seen()?, &wish(Desired::Deleted), crate::store::now())?;
                let ended = follow(conn, &of, Some(&seen()?), [2; SALT_BYTES])?;
                instances::revive(conn, &agent, &seen()?.name)?;
                instances::wish(conn, &seen()?, &wish(Desired::Running), crate::store::now())?;
                let back = follow(conn, &of, Some(&seen()?), [3; SALT_BYTES])?;
                Ok((unasked, ended, back))
            })
            .await
            .unwrap();
        assert_eq!((unasked, ended, back), (None, Some(hash(0)), None));
        let holder = |salt| {
            let hash = hash(salt);
            store.read(move |conn| instances::token_holder(conn, &hash))
        };
        assert_eq!((holder(0).await.unwrap(), holder(3).await.unwrap()), (None, Some(id.clone())));
    }
}
