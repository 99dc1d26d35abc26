//! `show`: all that is known of an agent on one sheet.

use agentbot_wire::InstanceView;
use jiff::Timestamp;
use serde_json::json;

use crate::api::Api;
use crate::args::Target;
use crate::exit::Failure;
use crate::output::table::Sheet;
use crate::output::{Outcome, style, text};

/// Shows an agent.
///
/// # Errors
/// When there is none of that name.
pub async fn run(api: &Api, target: &Target) -> Result<Outcome, Failure> {
    let view = api.instance(target.as_str()).await?;
    let sheet = sheet(&view, Timestamp::now());
    Ok(Outcome::ok(json!(view), sheet))
}

fn sheet(view: &InstanceView, now: Timestamp) -> String {
    let colour = style::phase(view.phase);
    let ago = |at: Timestamp| format!("{} ago", text::age(at, now));
    let limits = &view.limits;
    let health = &view.health;
    let link = match (health.link, health.last_beat) {
        (true, Some(beat)) => format!("connected, last beat {}", ago(beat)),
        (true, None) => "connected, no beat yet".to_owned(),
        (false, Some(beat)) => format!("not connected, last beat {}", ago(beat)),
        (false, None) => "not connected".to_owned(),
    };
    let version = view.openclaw_version.as_ref().map(|version| format!(", version {}", text::line(version)));
    let operation = view.operation.as_ref().map(|operation| {
        format!("{} {}, {} ({})", operation.kind, operation.status, ago(operation.created_at), operation.id)
    });
    let container = view.container.as_ref();
    let next = view.phase.way_out().map(|verb| {
        let line = format!("agentbotctl {verb} {}", view.name);
        format!("{}{line}{:#}", style::HINT, style::HINT)
    });
    Sheet::default()
        .with("name", view.name.as_str())
        .with("id", view.id.as_str())
        .with("status", format!("{colour}{}{colour:#} for {}", view.phase, text::age(view.phase_since, now)))
        .with("reason", view.reason.as_deref().map(text::block).unwrap_or_default())
        .with("model", text::line(&view.model))
        .with(
            "plan",
            format!(
                "{}: {} memory, {} cores, {} processes, {} disk",
                text::line(&view.plan),
                text::bytes(limits.memory),
                limits.cpus,
                limits.pids,
                text::bytes(limits.disk)
            ),
        )
        .with("agent", format!("{link}{}", version.unwrap_or_default()))
        .with("crashes", if health.crashes == 0 { "none".to_owned() } else { health.crashes.to_string() })
        .with("last crash", health.last_crash.as_deref().map(text::block).unwrap_or_default())
        .with("last lines", health.last_lines.as_deref().map(text::block).unwrap_or_default())
        .with("next start", health.next_start.map(|at| format!("in {}", text::age(now, at))).unwrap_or_default())
        .with(
            "container",
            container.map(|it| format!("{} ({})", text::line(&it.name), short_id(&it.id))).unwrap_or_default(),
        )
        .with("image", container.map(|it| text::line(&it.image)).unwrap_or_default())
        .with("slot", format!("{}, generation {}", view.slot, view.generation))
        .with("started", view.started_at.map(ago).unwrap_or_default())
        .with("created", ago(view.created_at))
        .with("deleted", view.deleted_at.map(ago).unwrap_or_default())
        .with("operation", operation.unwrap_or_default())
        .with("next:", next.unwrap_or_default())
        .render()
}

/// The twelve characters by which container engines show an id.
fn short_id(id: &str) -> String {
    text::line(id).chars().take(12).collect()
}
