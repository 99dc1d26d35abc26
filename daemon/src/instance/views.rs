//! Agents as their owners see them.

use std::collections::BTreeMap;

use agentbot_wire::{AgentEntry, ContainerView, InstanceHealth, InstanceView, Phase, Plan, ProvisionedAgent};

use super::admission::cores;
use super::requests::Instances;
use crate::error::Result;
use crate::identity::Actor;
use crate::store::instances::{self, Instance};
use crate::store::operations;

/// Where clients chat with an agent.
fn websocket_url(instance: &Instance) -> String {
    format!("/api/chat/ws?agent={}", instance.id)
}

/// An agent as a row of a list.
#[must_use]
pub fn entry(instance: &Instance) -> AgentEntry {
    AgentEntry {
        id: instance.id.clone(),
        name: instance.name.clone(),
        model: instance.model.clone(),
        status: instance.phase,
        websocket_url: websocket_url(instance),
        created_at: instance.created_at,
        updated_at: instance.updated_at,
        plan: instance.plan.clone(),
        phase_since: instance.phase_since,
        reason: instance.reason.clone(),
        deleted_at: instance.deleted_at,
    }
}

/// An agent in the answer to its provision.
#[must_use]
pub fn provisioned(instance: &Instance) -> ProvisionedAgent {
    ProvisionedAgent {
        id: instance.id.clone(),
        name: instance.name.clone(),
        status: instance.phase,
        websocket_url: websocket_url(instance),
        model: instance.model.clone(),
        created_at: instance.created_at,
    }
}

fn limits(instance: &Instance) -> Plan {
    Plan { memory: instance.memory, cpus: cores(instance.nano_cpus), pids: instance.pids, disk: instance.disk }
}

impl Instances {
    /// Everything that is known of an agent.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn view(&self, actor: &Actor, agent: &str) -> Result<InstanceView> {
        let (tenant, agent) = (actor.tenant(), agent.to_owned());
        let (instance, operation) = self
            .context()
            .store
            .read(move |conn| {
                let instance = instances::find(conn, &tenant, &agent)?;
                let operation = operations::open(conn, &instance.id)?;
                Ok((instance, operation))
            })
            .await?;
        let health = self.health(&instance);
        let slot = &instance.slot;
        let container = slot.container_id.as_ref().map(|id| ContainerView {
            id: id.clone(),
            name: slot.container_name(),
            image: slot.image_id.clone().unwrap_or_default(),
        });
        Ok(InstanceView {
            user_id: instance.id.clone(),
            status: instance.phase,
            started_at: instance.started_at,
            subdomain: None,
            url: None,
            plan: instance.plan.clone(),
            openclaw_version: instance.runtime_version.clone(),
            id: instance.id.clone(),
            name: instance.name.clone(),
            model: instance.model.clone(),
            phase: instance.phase,
            phase_since: instance.phase_since,
            reason: instance.reason.clone(),
            limits: limits(&instance),
            health,
            slot: slot.id.clone(),
            container,
            generation: slot.container_gen,
            operation,
            created_at: instance.created_at,
            deleted_at: instance.deleted_at,
        })
    }

    fn health(&self, instance: &Instance) -> InstanceHealth {
        let link = self.context().links.state(&instance.slot.id);
        // The link is the fresher witness; without one the phase says what the last look at the engine saw.
        let process = match (&link, self.context().presence.facts()) {
            (Some(_), _) => Some(true),
            (None, Err(_)) => None,
            (None, Ok(_)) => Some(matches!(instance.phase, Phase::Running | Phase::Unhealthy)),
        };
        InstanceHealth {
            process,
            link: link.is_some(),
            last_beat: link.and_then(|link| link.last_beat),
            crashes: u64::from(instance.crashes),
            last_crash: instance.last_crash.clone(),
            next_start: instance.next_start_at,
        }
    }

    /// Agents by phase, and how many operations are open.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn census(&self) -> Result<(BTreeMap<String, usize>, usize)> {
        self.context()
            .store
            .read(|conn| {
                let agents = instances::count_by_phase(conn)?.into_iter().collect();
                Ok((agents, operations::count_open(conn)?))
            })
            .await
    }
}
