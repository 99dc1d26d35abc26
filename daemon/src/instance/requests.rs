//! What may be asked of agents, by whoever is allowed to: each call is one transaction and a wake-up.

use std::sync::Arc;
use std::time::Duration;

use agentbot_wire::{Code, InstanceId, Operation, OperationId, OperationKind, OperationStatus, ProvisionRequest};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::accept::{Accepted, Ask, Idempotency, Provisioned, accept, cancel, find_provisioned, new_instance, record};
use super::admission::{Host, admit as check};
use super::context::Context;
use super::operation;
use super::recent::Recent;
use super::token;
use crate::error::{Error, Result};
use crate::identity::{Actor, CredentialHash, new_salt};
use crate::store::instances::{self, Instance};
use crate::store::operations::{self, Filter};
use crate::store::{Connection, slots};

/// The agents.
#[derive(Clone)]
pub struct Instances {
    context: Arc<Context>,
    recent: Arc<Recent>,
    stop: CancellationToken,
}

impl Instances {
    /// On a context. Once `stop` is cancelled nobody is kept waiting.
    #[must_use]
    pub fn new(context: Arc<Context>, stop: CancellationToken) -> Self {
        Self { context, recent: Arc::default(), stop }
    }

    /// Cancelled when the daemon ends.
    #[must_use]
    pub fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    pub(super) fn recent(&self) -> &Recent {
        &self.recent
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Takes a new agent in. It is `provisioning` when this answers.
    ///
    /// # Errors
    /// `invalid`, `limit_reached`, `conflict` when the name is taken, `idempotency_mismatch`.
    pub async fn provision(
        &self,
        actor: &Actor,
        request: &ProvisionRequest,
        host: Host,
        idempotency: Option<Idempotency>,
    ) -> Result<Provisioned> {
        let config = self.context.config.load();
        // A repeat is answered as the first time, even if the request would be refused today.
        if let Some(repeat) = self.repeated_provision(actor, idempotency.as_ref()).await? {
            return Ok(repeat);
        }
        let admitted = check(request, &config, host)?;
        if let Some(reference) = &admitted.image {
            self.check_image(reference).await?;
        }
        let (uids, max) = ((config.slots.uid_range.first, config.slots.uid_range.last), config.slots.max);
        let salt = new_salt()?;
        let (actor, context) = (actor.clone(), Arc::clone(&self.context));
        let accepted = self
            .context
            .store
            .write(move |conn| {
                if let Some(repeat) = find_provisioned(conn, &actor, idempotency.as_ref())? {
                    return Ok(repeat);
                }
                let now = crate::store::now();
                let tenant = actor.tenant();
                let slot = slots::allocate(conn, &tenant, uids, max, now)?;
                let instance = new_instance(admitted, tenant, salt).housed(slot, now);
                instances::insert(conn, &instance)?;
                token::set(conn, &context.key, &instance.id, salt)?;
                let operation =
                    operation::new(OperationKind::Provision, &instance.id, instance.name.as_str(), &actor, now);
                record(conn, &actor, &instance, &operation, idempotency.as_ref())?;
                super::fault::point("provision", "accept", "before");
                Ok(Provisioned { operation, instance })
            })
            .await?;
        super::fault::point("provision", "accept", "after");
        self.wake(Some(&accepted.instance));
        Ok(accepted)
    }

    async fn check_image(&self, reference: &str) -> Result<()> {
        // With the engine away nobody can say; the step `image` will.
        if self.context.presence.facts().is_err() {
            return Ok(());
        }
        match self.context.presence.engine().image_id(reference).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Error::invalid("image", format!("the engine has no image `{reference}`"))
                .hint(format!("`docker pull {reference}` first; nothing is pulled by itself"))),
            Err(error) if error.code() == Code::EngineUnavailable => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn repeated_provision(
        &self,
        actor: &Actor,
        idempotency: Option<&Idempotency>,
    ) -> Result<Option<Provisioned>> {
        let (actor, idempotency) = (actor.clone(), idempotency.cloned());
        if idempotency.is_none() {
            return Ok(None);
        }
        self.context.store.read(move |conn| find_provisioned(conn, &actor, idempotency.as_ref())).await
    }

    /// Asks something of an agent.
    ///
    /// # Errors
    /// `not_found`, `conflict` with what stands in the way, `limit_reached` when the host has no room for the agent,
    /// `idempotency_mismatch`.
    pub async fn ask(&self, actor: &Actor, ask: Ask) -> Result<Accepted> {
        let (actor, config) = (actor.clone(), self.context.config.load());
        let kind = ask.kind.as_str();
        let (salt, context, leases) = (new_salt()?, Arc::clone(&self.context), self.context.leases.clone());
        let write = move |conn: &Connection| {
            let accepted = accept(conn, &actor, &ask, &config)?;
            let ended = token::follow(conn, &context.key, accepted.instance.as_ref(), salt)?;
            super::fault::point(kind, "accept", "before");
            Ok((accepted, ended))
        };
        let revoke = move |(_, ended): &(Accepted, Option<CredentialHash>)| {
            ended.iter().for_each(|hash| leases.revoke(hash));
        };
        let (accepted, _) = self.context.store.write_then(write, revoke).await?;
        super::fault::point(kind, "accept", "after");
        // What was so already leaves nothing to do.
        let changed = !accepted.operation.status.is_ended();
        self.wake(accepted.instance.as_ref().filter(|_| changed));
        Ok(accepted)
    }

    fn wake(&self, instance: Option<&Instance>) {
        self.context.events.publish();
        if let Some(instance) = instance {
            self.context.asks.mark(instance.slot.id.clone());
        }
    }

    /// Ends an open operation on its caller's wish.
    ///
    /// # Errors
    /// `not_found`; `conflict` when it has ended or cannot be ended; `idempotency_mismatch`.
    pub async fn cancel(&self, actor: &Actor, id: &OperationId, idempotency: Option<Idempotency>) -> Result<Operation> {
        let (actor, id) = (actor.clone(), id.clone());
        let Accepted { operation, instance } =
            self.context.store.write(move |conn| cancel(conn, &actor, &id, idempotency.as_ref())).await?;
        self.wake(instance.as_ref());
        Ok(operation)
    }

    /// One agent by id or name.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn find(&self, actor: &Actor, agent: &str) -> Result<Instance> {
        let (tenant, named) = (actor.tenant(), agent.to_owned());
        let found = self.context.store.read(move |conn| instances::find(conn, &tenant, &named)).await?;
        match actor.only_agent() {
            Some(own) if *own != found.id => Err(instances::missing(agent)),
            _ => Ok(found),
        }
    }

    /// One operation.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn operation(&self, actor: &Actor, id: &OperationId) -> Result<Operation> {
        let (tenant, id) = (actor.tenant(), id.clone());
        self.context.store.read(move |conn| operations::find(conn, &tenant, &id)).await
    }

    /// Operations, newest first.
    ///
    /// # Errors
    /// `not_found` when they are asked of an agent that there is not.
    pub async fn operations(
        &self,
        actor: &Actor,
        agent: Option<String>,
        status: Option<OperationStatus>,
        limit: u32,
    ) -> Result<Vec<Operation>> {
        let tenant = actor.tenant();
        self.context
            .store
            .read(move |conn| {
                let instance = match agent {
                    // An id stays askable after a purge: its operations outlive it.
                    Some(agent) => Some(match agent.parse::<InstanceId>() {
                        Ok(id) => id,
                        Err(_) => instances::find(conn, &tenant, &agent)?.id,
                    }),
                    None => None,
                };
                operations::list(conn, &tenant, &Filter { instance, status, limit })
            })
            .await
    }

    /// Waits until an operation has ended, at most so long, and gives it as it then is. While the engine is away it
    /// answers at once if `engine_needed`, and when the daemon ends in any case: the operation goes on at its next
    /// start.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn wait(
        &self,
        actor: &Actor,
        id: &OperationId,
        limit: Duration,
        engine_needed: bool,
    ) -> Result<Operation> {
        let deadline = Instant::now() + limit;
        let mut news = self.context.events.subscribe();
        loop {
            let operation = self.operation(actor, id).await?;
            let hopeless = engine_needed && self.context.presence.is_away();
            if operation.status.is_ended() || hopeless {
                return Ok(operation);
            }
            tokio::select! {
                changed = news.changed() => {
                    if changed.is_err() {
                        return Ok(operation);
                    }
                }
                () = self.context.presence.changed() => {}
                () = self.stop.cancelled() => return Ok(operation),
                () = tokio::time::sleep_until(deadline) => return Ok(operation),
            }
        }
    }
}
