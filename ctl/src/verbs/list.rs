//! `list`: agents in a table.

use agentbot_wire::AgentEntry;
use jiff::Timestamp;
use serde_json::json;

use crate::api::Api;
use crate::exit::Failure;
use crate::output::table::{Field, Width, table, terminal_width};
use crate::output::{Outcome, style, text};

/// Lists the living, or the deleted.
///
/// # Errors
/// When the daemon does not answer.
pub async fn run(api: &Api, deleted: bool) -> Result<Outcome, Failure> {
    let list = api.agents(deleted).await?;
    let now = Timestamp::now();
    let text = match (list.agents.is_empty(), deleted) {
        (true, true) => "No deleted agents.\n".to_owned(),
        (true, false) => "No agents yet. Make one: agentbotctl provision helper\n".to_owned(),
        (false, true) => graves(&list.agents, now, terminal_width()),
        (false, false) => rows(&list.agents, now, terminal_width()),
    };
    Ok(Outcome::ok_with(move || json!(list), text))
}

fn rows(agents: &[AgentEntry], now: Timestamp, width: Option<u16>) -> String {
    let header = [
        ("NAME", Width::Whole),
        ("STATUS", Width::Cut),
        ("MODEL", Width::Cut),
        ("PLAN", Width::Cut),
        ("AGE", Width::Whole),
    ];
    let row = |agent: &AgentEntry| {
        let status = match &agent.reason {
            Some(reason) => format!("{}: {}", agent.status, text::shorten(&text::line(first_line(reason)), 40)),
            None => agent.status.to_string(),
        };
        vec![
            Field::plain(agent.name.as_str()),
            Field::coloured(&status, style::phase(agent.status)),
            Field::plain(&agent.model),
            Field::plain(&agent.plan),
            Field::plain(&text::age(agent.created_at, now)),
        ]
    };
    table(&header, agents.iter().map(row).collect(), width)
}

/// What a row has room for; the rest is for `show`.
fn first_line(text: &str) -> &str {
    text.trim().lines().next().unwrap_or_default()
}

fn graves(agents: &[AgentEntry], now: Timestamp, width: Option<u16>) -> String {
    let header = [("NAME", Width::Whole), ("ID", Width::Whole), ("MODEL", Width::Cut), ("DELETED", Width::Whole)];
    let row = |agent: &AgentEntry| {
        let deleted = agent.deleted_at.map(|at| format!("{} ago", text::age(at, now)));
        vec![
            Field::plain(agent.name.as_str()),
            Field::plain(agent.id.as_str()),
            Field::plain(&agent.model),
            Field::plain(&deleted.unwrap_or_default()),
        ]
    };
    table(&header, agents.iter().map(row).collect(), width)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use agentbot_wire::{InstanceId, Phase};

    fn entry(name: &str, status: Phase, reason: Option<&str>) -> AgentEntry {
        let then: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        AgentEntry {
            id: InstanceId::mint(),
            name: name.parse().unwrap(),
            model: "builtin/basic".to_owned(),
            status,
            websocket_url: String::new(),
            created_at: then,
            updated_at: then,
            plan: "collective".to_owned(),
            phase_since: then,
            reason: reason.map(str::to_owned),
            deleted_at: None,
        }
    }

    #[test]
    fn ordinary_rows_fit_80_columns_with_their_reason() {
        let agents = [
            entry("helper", Phase::Running, None),
            entry(
                "night-watch",
                Phase::CrashLoop,
                Some("out of memory\nlast words of the agent that only `show` has room for"),
            ),
        ];
        let now = "2026-01-03T00:00:00Z".parse().unwrap();
        let text = anstream::adapter::strip_str(&rows(&agents, now, Some(80))).to_string();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("crash_loop: out of memory ") && text.contains("builtin/basic"), "{text}");
        assert!(text.contains("collective") && text.contains("2d"), "{text}");
    }
}
