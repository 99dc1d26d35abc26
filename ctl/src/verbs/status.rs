//! `status`: the daemon on one sheet.

use agentbot_wire::{DaemonStatus, EngineStatus, TaskStatus};
use jiff::Timestamp;
use serde_json::json;

use crate::api::Api;
use crate::exit::Failure;
use crate::output::table::{Field, Sheet, Width, table, terminal_width};
use crate::output::{Outcome, style, text};

/// Shows the daemon.
///
/// # Errors
/// When it does not answer.
pub async fn run(api: &Api) -> Result<Outcome, Failure> {
    let status = api.status().await?;
    let now = Timestamp::now();
    let mut sheet = sheet(&status, now);
    if !status.tasks.is_empty() {
        sheet.push('\n');
        sheet.push_str(&tasks(&status.tasks, now, terminal_width()));
    }
    Ok(Outcome::ok(json!(status), sheet))
}

fn sheet(status: &DaemonStatus, now: Timestamp) -> String {
    let agents = if status.agents.is_empty() {
        "none".to_owned()
    } else {
        let each = status.agents.iter().map(|(phase, count)| format!("{count} {}", text::line(phase)));
        each.collect::<Vec<_>>().join(", ")
    };
    let lines = |items: &[String]| items.iter().map(|item| text::line(item)).collect::<Vec<_>>().join("\n");
    let alarm = |text: String| if text.is_empty() { text } else { format!("{}{text}{:#}", style::BAD, style::BAD) };
    Sheet::default()
        .with(
            "agentbotd",
            format!("{}, pid {}, up {}", text::line(&status.version), status.pid, text::age(status.started_at, now)),
        )
        .with("safe mode", alarm(status.safe_mode.as_deref().map(text::line).unwrap_or_default()))
        .with("engine", engine(&status.engine, now))
        .with("agents", agents)
        .with("operations", format!("{} open", status.operations_open))
        .with("state", text::line(&status.state_dir))
        .with("id", text::line(&status.daemon_id))
        .with("unknown", lines(&status.unknown_containers))
        .with("drops", drops(status))
        .with("warnings", lines(&status.warnings))
        .render()
}

/// What was refused, dropped or closed, where there was anything.
fn drops(status: &DaemonStatus) -> String {
    let some = status.drops.iter().filter(|(_, count)| **count > 0);
    some.map(|(name, count)| format!("{} {count}", text::line(name).replace('_', " "))).collect::<Vec<_>>().join(", ")
}

fn engine(engine: &EngineStatus, now: Timestamp) -> String {
    let since = text::age(engine.since, now);
    if engine.available {
        let word = |value: &Option<String>| value.as_deref().map_or_else(|| "unknown".to_owned(), text::line);
        return format!(
            "{}available{:#} for {since}, version {}, API {}",
            style::GOOD,
            style::GOOD,
            word(&engine.version),
            word(&engine.api_version)
        );
    }
    let why = engine.error.as_deref().map(|why| format!(": {}", text::line(why))).unwrap_or_default();
    format!("{}unavailable{:#} for {since}{why}", style::BAD, style::BAD)
}

fn tasks(tasks: &[TaskStatus], now: Timestamp, width: Option<u16>) -> String {
    let header = [
        ("TASK", Width::Whole),
        ("RUNS", Width::Whole),
        ("LAST", Width::Whole),
        ("TOOK", Width::Whole),
        ("RESULT", Width::Cut),
    ];
    let row = |task: &TaskStatus| {
        let last = if task.running {
            "now".to_owned()
        } else {
            task.started_at.map(|at| format!("{} ago", text::age(at, now))).unwrap_or_else(|| "never".to_owned())
        };
        vec![
            Field::plain(&task.name),
            Field::plain(&task.runs.to_string()),
            Field::plain(&last),
            Field::plain(&task.duration_ms.map(|millis| format!("{millis} ms")).unwrap_or_default()),
            Field::plain(task.result.as_deref().unwrap_or_default()),
        ]
    };
    table(&header, tasks.iter().map(row).collect(), width)
}
