//! `start`, `stop`, `restart`, `repair`.

use agentbot_wire::RepairReport;
use tokio::time::Instant;

use super::{Work, distinct, each, settle};
use crate::cli::Many;
use crate::exit::Failure;
use crate::follow::Follower;
use crate::output::table::Sheet;
use crate::output::{Outcome, text};

/// Asks for a change of every agent and waits for it.
///
/// # Errors
/// When it failed for the only agent.
pub async fn run(follower: &Follower, verb: &'static str, many: &Many) -> Result<Outcome, Failure> {
    let work = distinct(&many.names).into_iter().map(|target| {
        let one: Work<'_> = Box::pin(async move {
            let began = Instant::now();
            let reply = follower.api.lifecycle(target, verb).await?;
            let mut done = settle(follower, many.stay, began, reply).await?;
            if let Ok(report) = serde_json::from_value::<RepairReport>(done.document["report"].clone()) {
                done.text.push_str(&sheet(&report));
            }
            Ok(done)
        });
        (target.as_str().to_owned(), one)
    });
    each(follower, work.collect()).await
}

fn sheet(report: &RepairReport) -> String {
    let lines = |items: &[String]| items.iter().map(|item| text::line(item)).collect::<Vec<_>>().join("\n");
    let found = if report.findings.is_empty() { "nothing was wrong".to_owned() } else { lines(&report.findings) };
    Sheet::default()
        .with("found", found)
        .with("done", lines(&report.actions))
        .with("left", lines(&report.left))
        .render()
}
