//! `provision`: make agents.

use agentbot_wire::{Phase, ProvisionRequest};
use serde_json::json;
use tokio::time::Instant;

use super::{Work, distinct, each, settle};
use crate::cli::Provision;
use crate::exit::Failure;
use crate::follow::Follower;
use crate::output::Outcome;

/// Makes agents and waits until they run.
///
/// # Errors
/// When the only agent could not be made.
pub async fn run(follower: &Follower, arguments: Provision) -> Result<Outcome, Failure> {
    let Provision { names, model, plan, memory, cpus, pids, image, config, stay } = arguments;
    let template = ProvisionRequest { model, plan, memory, cpus, pids, image, config, ..ProvisionRequest::default() };
    let work = distinct(&names).into_iter().map(|name| {
        let request = ProvisionRequest { name: Some(name.to_string()), ..template.clone() };
        let one: Work<'_> = Box::pin(async move {
            let began = Instant::now();
            let reply = follower.api.provision(&request).await?;
            let mut agent = reply.agent;
            let accepted = json!({"success": true, "operation": reply.operation});
            let mut done = settle(follower, stay, began, accepted).await?;
            if let Some(phase) = done.document["status"].as_str().and_then(Phase::from_word) {
                agent.status = phase;
            }
            done.document["agent"] = json!(agent);
            Ok(done)
        });
        (name.to_string(), one)
    });
    each(follower, work.collect()).await
}
