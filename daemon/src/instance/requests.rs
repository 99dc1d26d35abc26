//! What may be asked of agents, by whoever is allowed to: each call is one transaction and a wake-up.

use std::sync::Arc;
use std::time::Duration;

use agentbot_wire::{
    AgentName, Code, InstanceId, Operation, OperationId, OperationKind, OperationStatus, ProvisionRequest,
};
use tokio::time::Instant;

use super::accept::{accept, denied, ended_event, find_repeat, new_instance, record};
use super::admission::{Host, admit as check};
use super::context::Context;
use super::operation;
use super::state::{self, Denied};
use crate::error::{Error, Result};
use crate::identity::{Actor, new_salt};
use crate::secret::Secret;
use crate::store::instances::{self, Instance};
use crate::store::operations::{self, Ending, Filter};
use crate::store::slots;

/// A caller's key for a request that may be sent twice, and what the request was.
#[derive(Clone, Debug)]
pub struct Idempotency {
    /// The key, at most 255 visible ASCII characters.
    pub key: String,
    /// SHA-256 of method, path and body.
    pub request: [u8; 32],
}

/// A request about one agent.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What is asked.
    pub kind: OperationKind,
    /// Id or name.
    pub agent: String,
    /// The new name of an undelete.
    pub new_name: Option<AgentName>,
    /// The caller's key.
    pub idempotency: Option<Idempotency>,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The operation, new or the one that does the same already.
    pub operation: Operation,
    /// The agent as it stands.
    pub instance: Instance,
}

/// The agents.
#[derive(Clone)]
pub struct Instances {
    context: Arc<Context>,
}

impl Instances {
    /// On a context.
    #[must_use]
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    pub(super) fn context(&self) -> &Context {
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
    ) -> Result<Accepted> {
        let config = self.context.config.load();
        // A repeat is answered as the first time, even if the request would be refused today.
        if let Some(repeat) = self.repeat(actor, idempotency.as_ref()).await? {
            return Ok(repeat);
        }
        let admitted = check(request, &config, host)?;
        if let Some(reference) = &admitted.image {
            self.check_image(reference).await?;
        }
        let (uids, max) = ((config.slots.uid_range.first, config.slots.uid_range.last), config.slots.max);
        let salt = new_salt()?;
        let actor = actor.clone();
        let accepted = self
            .context
            .store
            .write(move |conn| {
                if let Some(repeat) = find_repeat(conn, &actor, idempotency.as_ref())? {
                    return Ok(repeat);
                }
                let now = crate::store::now();
                let tenant = actor.tenant();
                let slot = slots::allocate(conn, &tenant, uids, max, now)?;
                let instance = new_instance(&admitted, slot, tenant, salt, now);
                instances::insert(conn, &instance)?;
                let operation =
                    operation::new(OperationKind::Provision, &instance.id, instance.name.as_str(), &actor, now);
                record(conn, &actor, &instance, &operation, idempotency.as_ref())?;
                super::fault::point("provision", "accept", "before");
                Ok(Accepted { operation, instance })
            })
            .await?;
        super::fault::point("provision", "accept", "after");
        self.wake(&accepted);
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

    async fn repeat(&self, actor: &Actor, idempotency: Option<&Idempotency>) -> Result<Option<Accepted>> {
        let (actor, idempotency) = (actor.clone(), idempotency.cloned());
        if idempotency.is_none() {
            return Ok(None);
        }
        self.context.store.read(move |conn| find_repeat(conn, &actor, idempotency.as_ref())).await
    }

    /// Asks something of an agent.
    ///
    /// # Errors
    /// `not_found`, `conflict` with what stands in the way, `idempotency_mismatch`.
    pub async fn ask(&self, actor: &Actor, ask: Ask) -> Result<Accepted> {
        let actor = actor.clone();
        let kind = ask.kind.as_str();
        let accepted = self
            .context
            .store
            .write(move |conn| {
                let accepted = accept(conn, &actor, &ask)?;
                super::fault::point(kind, "accept", "before");
                Ok(accepted)
            })
            .await?;
        super::fault::point(kind, "accept", "after");
        self.wake(&accepted);
        Ok(accepted)
    }

    fn wake(&self, accepted: &Accepted) {
        self.context.events.publish();
        self.context.wakes.mark(accepted.instance.slot.id.clone());
    }

    /// Ends an open operation on its caller's wish.
    ///
    /// # Errors
    /// `not_found`; `conflict` when it has ended or cannot be ended.
    pub async fn cancel(&self, actor: &Actor, id: &OperationId) -> Result<Operation> {
        let (actor, id) = (actor.clone(), id.clone());
        let (operation, slot) = self
            .context
            .store
            .write(move |conn| {
                let open = operations::find(conn, &actor.tenant(), &id)?;
                if open.status.is_ended() {
                    return Err(Error::conflict(format!("the operation has {} already", open.status))
                        .hint("there is nothing left to cancel"));
                }
                let wish = state::cancel(open.kind).ok_or_else(|| {
                    Error::conflict(format!("a `{}` cannot be cancelled", open.kind))
                        .hint("`start` or `undelete` brings the agent back afterwards")
                })?;
                let instance =
                    instances::get(conn, &open.agent)?.ok_or_else(|| instances::missing(open.agent.as_str()))?;
                let now = crate::store::now();
                instances::wish(conn, &instance, &wish, now)?;
                instances::settle_owed(conn, &instance.id)?;
                let error = Error::new(Code::Cancelled, format!("cancelled by {actor}"));
                operations::end(conn, &open, &Ending::Cancelled(error.to_api()), now)?;
                ended_event(conn, &instance, &open, OperationStatus::Cancelled)?;
                Ok((operations::find(conn, &actor.tenant(), &id)?, instance.slot.id))
            })
            .await?;
        self.context.events.publish();
        self.context.wakes.mark(slot);
        Ok(operation)
    }

    /// One agent by id or name.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn find(&self, actor: &Actor, agent: &str) -> Result<Instance> {
        let (tenant, agent) = (actor.tenant(), agent.to_owned());
        self.context.store.read(move |conn| instances::find(conn, &tenant, &agent)).await
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
    /// answers at once if `engine_needed`.
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
                () = tokio::time::sleep_until(deadline) => return Ok(operation),
            }
        }
    }

    /// The gateway token of an agent: derived, never stored.
    ///
    /// # Errors
    /// `not_found`, also for a deleted agent.
    pub async fn token(&self, actor: &Actor, agent: &str) -> Result<Secret<String>> {
        let instance = self.find(actor, agent).await?;
        if instance.desired.is_gone() {
            return Err(denied(Denied::Deleted, &instance));
        }
        Ok(self.context.key.gateway_token(&instance.id, &instance.token_salt))
    }
}
