//! Agents and models as the daemon shows them.

use std::collections::BTreeMap;

use agentbot_wire::{
    AgentName, ContainerView, InstanceHealth, InstanceId, InstanceView, ModelList, ModelView, Phase, Plan,
    ProviderView, SlotId,
};
use jiff::Timestamp;

/// The builtin model, and a provider that does not answer.
pub fn models() -> ModelList {
    let provider = |name: &str, kind: &str, base_url: Option<&str>, error: Option<&str>| ProviderView {
        name: name.to_owned(),
        kind: kind.to_owned(),
        base_url: base_url.map(str::to_owned),
        reachable: base_url.map(|_| error.is_none()),
        error: error.map(str::to_owned),
    };
    ModelList {
        models: vec![ModelView {
            id: "builtin/basic".to_owned(),
            provider: "builtin".to_owned(),
            aliases: vec!["basic".to_owned()],
            default: true,
        }],
        count: 1,
        aliases: BTreeMap::from([("basic".to_owned(), "builtin/basic".to_owned())]),
        default: "builtin/basic".to_owned(),
        providers: vec![
            provider("builtin", "builtin", None, None),
            provider("local", "openai", Some("http://127.0.0.1:11434/v1"), Some("connection refused: is it running?")),
        ],
    }
}

/// An agent as the daemon shows it.
pub fn agent(name: &str, phase: Phase) -> InstanceView {
    let id = InstanceId::mint();
    let now = Timestamp::now();
    InstanceView {
        user_id: id.clone(),
        status: phase,
        started_at: Some(now),
        subdomain: None,
        url: None,
        plan: "small".to_owned(),
        openclaw_version: Some("0.1.0".to_owned()),
        id,
        name: name.parse::<AgentName>().unwrap(),
        model: "builtin/basic".to_owned(),
        phase,
        phase_since: now,
        reason: None,
        limits: Plan { memory: 256 << 20, cpus: 0.5, pids: 128, disk: 1 << 30 },
        health: InstanceHealth {
            process: Some(true),
            link: true,
            last_beat: Some(now),
            crashes: 0,
            last_crash: None,
            last_lines: None,
            next_start: None,
        },
        slot: SlotId::mint(),
        container: Some(ContainerView {
            id: "3f2a".repeat(16),
            name: "ab-slot-1".to_owned(),
            image: "sha256:0".to_owned(),
        }),
        generation: 1,
        operation: None,
        created_at: now,
        deleted_at: None,
    }
}
