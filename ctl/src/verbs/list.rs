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
    Ok(Outcome::ok(json!(list), text))
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
            Some(reason) => format!("{}: {}", agent.status, text::shorten(&text::line(reason), 40)),
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
