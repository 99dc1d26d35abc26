//! `operation list|show|wait|cancel`.

use agentbot_wire::{Operation, OperationId, OperationStatus, StepStatus};
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use crate::api::{Api, operation_in};
use crate::args::Target;
use crate::exit::Failure;
use crate::follow::Follower;
use crate::output::table::{Field, Sheet, Width, table, terminal_width};
use crate::output::{Outcome, style, text};
use crate::progress::sentence;

/// Lists operations, newest first.
///
/// # Errors
/// When the daemon does not answer, or knows no such agent.
pub async fn list(
    api: &Api,
    agent: Option<&Target>,
    status: Option<OperationStatus>,
    limit: u32,
) -> Result<Outcome, Failure> {
    let mut query = format!("?limit={limit}");
    if let Some(agent) = agent {
        query.push_str(&format!("&agent={}", agent.as_str()));
    }
    if let Some(status) = status {
        query.push_str(&format!("&status={status}"));
    }
    let list = api.operations(&query).await?;
    let text = if list.operations.is_empty() {
        "No operations.\n".to_owned()
    } else {
        rows(&list.operations, Timestamp::now(), terminal_width())
    };
    Ok(Outcome::ok(json!(list), text))
}

/// Shows an operation with its steps.
///
/// # Errors
/// When there is none of that id.
pub async fn show(api: &Api, id: &OperationId) -> Result<Outcome, Failure> {
    let operation = api.operation(id).await?;
    let text = sheet(&operation, Timestamp::now());
    Ok(Outcome::ok(json!(operation), text))
}

/// Waits for an operation and ends as it did.
///
/// # Errors
/// When it failed, was cancelled, or is not over in time.
pub async fn wait(follower: &Follower, id: &OperationId) -> Result<Outcome, Failure> {
    let began = Instant::now();
    let operation = follower.api.operation(id).await?;
    let operation = follower.follow(operation).await?;
    let (kind, name, took) = (operation.kind, text::line(&operation.agent_name), text::took(began.elapsed()));
    follower.progress.say(&super::good(&format!("{kind} of {name} has succeeded ({took})")));
    Ok(Outcome::ok(json!(operation), String::new()))
}

/// Cancels an operation.
///
/// # Errors
/// When it has ended, or can no longer be cancelled.
pub async fn cancel(follower: &Follower, id: &OperationId) -> Result<Outcome, Failure> {
    let reply = follower.api.cancel(id).await?;
    let operation = operation_in(&reply)?;
    let (kind, name, status) = (operation.kind, text::line(&operation.agent_name), operation.status);
    let line = match status {
        OperationStatus::Cancelled => format!("{kind} of {name} is cancelled"),
        status if status.is_ended() => format!("{kind} of {name} had ended before: {status}"),
        status => format!("{kind} of {name} will be cancelled at its next step (now {status})"),
    };
    follower.progress.say(&super::good(&line));
    Ok(Outcome::ok(json!(operation), String::new()))
}

fn rows(operations: &[Operation], now: Timestamp, width: Option<u16>) -> String {
    let header = [
        ("ID", Width::Whole),
        ("KIND", Width::Whole),
        ("AGENT", Width::Cut),
        ("STATUS", Width::Whole),
        ("AGE", Width::Whole),
    ];
    let row = |operation: &Operation| {
        vec![
            Field::plain(operation.id.as_str()),
            Field::plain(operation.kind.as_str()),
            Field::plain(&operation.agent_name),
            Field::coloured(operation.status.as_str(), style::operation(operation.status)),
            Field::plain(&text::age(operation.created_at, now)),
        ]
    };
    table(&header, operations.iter().map(row).collect(), width)
}

fn sheet(operation: &Operation, now: Timestamp) -> String {
    let colour = style::operation(operation.status);
    let steps = operation.steps.iter().map(|step| match step.status {
        StepStatus::Pending | StepStatus::Running => format!("{} {}", text::line(&step.name), step.status),
        _ => sentence(step),
    });
    let error = operation.error.as_ref();
    let hint = error.and_then(|error| error.hint.as_deref()).map(text::line);
    let next = (!operation.status.is_ended()).then(|| format!("agentbotctl operation wait {}", operation.id));
    let next = next.map(|line| format!("{}{line}{:#}", style::HINT, style::HINT));
    Sheet::default()
        .with("id", operation.id.as_str())
        .with("kind", operation.kind.as_str())
        .with("agent", format!("{} ({})", text::line(&operation.agent_name), operation.agent))
        .with("status", format!("{colour}{}{colour:#}", operation.status))
        .with(
            "error",
            error.map(|error| format!("{} ({})", text::line(&error.message), error.code)).unwrap_or_default(),
        )
        .with("hint", hint.unwrap_or_default())
        .with("steps", steps.collect::<Vec<_>>().join("\n"))
        .with("actor", text::line(&operation.actor))
        .with("created", format!("{} ago", text::age(operation.created_at, now)))
        .with("changed", format!("{} ago", text::age(operation.updated_at, now)))
        .with("next:", next.unwrap_or_default())
        .render()
}
