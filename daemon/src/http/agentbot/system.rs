//! `/api/health` and `/api/status`.

use std::collections::BTreeMap;

use agentbot_wire::{DaemonStatus, Health};
use axum::extract::State as From;
use axum::response::Response;

use super::envelope::{Refusal, ok};
use super::request::Tag;
use crate::http::{DaemonView, State};
use crate::instance::Host;
use crate::stats::grade;

impl DaemonView {
    /// What the host has to give right now.
    #[must_use]
    pub fn host(&self) -> Host {
        let cpus = self.context.presence.last_facts().map(|facts| facts.cpus);
        Host {
            available_memory: self.host.memory().free,
            cpus: cpus.unwrap_or_else(|| u32::try_from(self.host.cores()).unwrap_or(u32::MAX)),
        }
    }

    fn uptime(&self) -> u64 {
        u64::try_from(jiff::Timestamp::now().duration_since(self.started_at).as_secs()).unwrap_or(0)
    }
}

/// `GET /api/health`: 200 whenever this can be answered.
pub async fn health(From(state): From<State>) -> Response {
    let daemon = &state.daemon;
    let (cpu, memory, engine) = (daemon.host.cpu(), daemon.host.memory(), daemon.context.presence.status());
    ok(Health {
        status: "ok".to_owned(),
        health: grade(cpu.usage, memory.usage, engine.available),
        timestamp: jiff::Timestamp::now(),
        cpu,
        memory,
        uptime: daemon.uptime(),
        engine,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// What was refused, dropped or closed since the start.
fn drops(state: &State) -> BTreeMap<String, u64> {
    let (refused, unread) = state.daemon.context.links.dropped();
    let (behind, stray) = state.chat.dropped();
    let agents = [("agent_refused", refused), ("agent_slow", unread), ("agent_stray_events", stray)];
    let clients = state.clients.drops().into_iter().map(|(name, count)| (format!("client_{name}"), count));
    let listeners = std::iter::once(("client_behind".to_owned(), behind));
    agents.into_iter().map(|(name, count)| (name.to_owned(), count)).chain(listeners).chain(clients).collect()
}

/// `GET /api/status`.
pub async fn status(From(state): From<State>, Tag(tag): Tag) -> Result<Response, Refusal> {
    let (agents, operations_open) = state.instances.census().await.map_err(|error| Refusal::new(error, tag))?;
    let daemon = &state.daemon;
    let mut warnings = daemon.warnings.clone();
    warnings.extend(state.config.warnings());
    warnings.extend(state.config.last_error());
    Ok(ok(DaemonStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: daemon.started_at,
        state_dir: daemon.state_dir.clone(),
        daemon_id: daemon.context.daemon_id.clone(),
        engine: daemon.context.presence.status(),
        agents,
        operations_open,
        unknown_containers: daemon.audit.unknown(),
        tasks: daemon.driver.status(),
        warnings,
        safe_mode: daemon.audit.mismatch(),
        drops: drops(&state),
    }))
}
