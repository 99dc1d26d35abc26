//! `conversations`: what an agent is talked with about.

use agentbot_wire::ConversationView;
use jiff::Timestamp;
use serde_json::json;

use crate::api::Api;
use crate::args::Target;
use crate::exit::Failure;
use crate::output::table::{Field, Width, table, terminal_width};
use crate::output::{Outcome, text};

/// Lists an agent's conversations, most recently used first.
///
/// # Errors
/// When there is no such agent.
pub async fn run(api: &Api, target: &Target) -> Result<Outcome, Failure> {
    let list = api.conversations(target.as_str()).await?;
    let text = if list.conversations.is_empty() {
        format!("No conversations yet. Begin one: agentbotctl chat {}\n", target.as_str())
    } else {
        rows(&list.conversations, Timestamp::now(), terminal_width())
    };
    Ok(Outcome::ok(json!(list), text))
}

fn rows(all: &[ConversationView], now: Timestamp, width: Option<u16>) -> String {
    let header = [
        ("TOPIC", Width::Cut),
        ("MESSAGES", Width::Whole),
        ("LAST", Width::Whole),
        ("BEGAN", Width::Whole),
        ("ID", Width::Whole),
    ];
    let row = |one: &ConversationView| {
        vec![
            Field::plain(&one.topic),
            Field::plain(&one.seq.to_string()),
            Field::plain(&format!("{} ago", text::age(one.updated_at, now))),
            Field::plain(&format!("{} ago", text::age(one.created_at, now))),
            Field::plain(one.id.as_str()),
        ]
    };
    table(&header, all.iter().map(row).collect(), width)
}
