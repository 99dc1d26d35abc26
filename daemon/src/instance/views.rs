//! Agents as their owners see them.

use std::collections::BTreeMap;

use agentbot_wire::{
    AgentEntry, ContainerView, InstanceHealth, InstanceId, InstanceView, Phase, Plan, ProvisionedAgent,
};

use super::admission::cores;
use super::meant::meant;
use super::requests::Instances;
use crate::error::Result;
use crate::identity::Actor;
use crate::store::instances::{self, Instance};
use crate::store::operations;
use crate::store::summaries::{self, Summary};

/// Where clients chat with an agent.
fn websocket_url(instance: &InstanceId) -> String {
    format!("/api/chat/ws?agent={instance}")
}

/// An agent as a row of a list.
fn entry(summary: Summary) -> AgentEntry {
    let Summary { id, name, plan, model, phase, phase_since, reason, created_at, updated_at, deleted_at } = summary;
    let websocket_url = websocket_url(&id);
    AgentEntry {
        id,
        name,
        model,
        status: phase,
        websocket_url,
        created_at,
        updated_at,
        plan,
        phase_since,
        reason,
        deleted_at,
    }
}

/// An agent in the answer to its provision.
#[must_use]
pub fn provisioned(instance: &Instance) -> ProvisionedAgent {
    ProvisionedAgent {
        id: instance.id.clone(),
        name: instance.name.clone(),
        status: instance.phase,
        websocket_url: websocket_url(&instance.id),
        model: instance.model.clone(),
        created_at: instance.created_at,
    }
}

/// Lines of a crash that are shown.
const LINES: usize = 5;
/// Bytes of them.
const LINES_BYTES: usize = 1024;

/// The end of what an agent wrote, bounded, and without what would command a terminal; `None` when nothing is left.
fn last_lines(written: &str) -> Option<String> {
    let printable =
        |line: &str| line.chars().map(|c| if c == '\t' { ' ' } else { c }).filter(|c| !c.is_control()).collect();
    let lines: Vec<String> = written.lines().map(printable).collect();
    let shown: Vec<&str> = lines.iter().map(|line| line.trim_end()).filter(|line| !line.is_empty()).collect();
    let text = shown[shown.len().saturating_sub(LINES)..].join("\n");
    let start = text.ceil_char_boundary(text.len().saturating_sub(LINES_BYTES));
    (!text.is_empty()).then(|| text[start..].to_owned())
}

fn limits(instance: &Instance) -> Plan {
    Plan { memory: instance.memory, cpus: cores(instance.nano_cpus), pids: instance.pids, disk: instance.disk }
}

impl Instances {
    /// The living agents by name, or the deleted ones, newest first.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn list(&self, actor: &Actor, deleted: bool) -> Result<Vec<AgentEntry>> {
        let tenant = actor.tenant();
        let found = self.context().store.read(move |conn| summaries::list(conn, &tenant, deleted)).await?;
        Ok(found.into_iter().map(entry).collect())
    }

    /// The living agent that is meant: the named one, or without a name the only one that the actor has.
    ///
    /// # Errors
    /// As [`meant`].
    pub async fn meant(&self, actor: &Actor, agent: Option<&str>) -> Result<Instance> {
        let (actor, agent) = (actor.clone(), agent.map(str::to_owned));
        self.context().store.read(move |conn| meant(conn, &actor, agent.as_deref())).await
    }

    /// Everything that is known of an agent.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn view(&self, actor: &Actor, agent: &str) -> Result<InstanceView> {
        let seen = self.recent().read(&self.context().store, actor.tenant(), agent).await?;
        let instance = &seen.instance;
        let health = self.health(instance, seen.last_lines.as_deref());
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
            limits: limits(instance),
            health,
            slot: slot.id.clone(),
            container,
            generation: slot.container_gen,
            operation: seen.operation.clone(),
            created_at: instance.created_at,
            deleted_at: instance.deleted_at,
        })
    }

    fn health(&self, instance: &Instance, written: Option<&str>) -> InstanceHealth {
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
            last_lines: written.and_then(last_lines),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_five_lines_that_say_something_are_shown() {
        assert_eq!(last_lines("1\n2\n\n3\n4\n5\n6\n \n").as_deref(), Some("2\n3\n4\n5\n6"));
        assert_eq!(last_lines("one\r\n"), Some("one".to_owned()));
        assert_eq!(last_lines("\n\x1b\n"), None);
        assert_eq!(last_lines(""), None);
    }

    #[test]
    fn what_is_shown_has_at_most_a_kibibyte_and_cannot_command_a_terminal() {
        assert_eq!(last_lines(&"x".repeat(LINES_BYTES)).unwrap().len(), LINES_BYTES);
        assert_eq!(last_lines(&format!("y{}", "x".repeat(LINES_BYTES))).unwrap(), "x".repeat(LINES_BYTES));
        let wide = last_lines(&"é".repeat(LINES_BYTES)).unwrap();
        assert!(wide.len() <= LINES_BYTES && wide.chars().all(|c| c == 'é'));
        assert_eq!(last_lines("a\tb\x1b[31mc\u{9b}d").unwrap(), "a b[31mcd");
    }
}
