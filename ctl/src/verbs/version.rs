//! `version`: this program's and the daemon's.

use std::time::Duration;

use serde_json::json;

use crate::api::Api;
use crate::exit::Failure;
use crate::output::table::Sheet;
use crate::output::{Outcome, text};

const OURS: &str = env!("CARGO_PKG_VERSION");
/// Nobody waits long for a version.
const PATIENCE: Duration = Duration::from_secs(2);

/// Prints both versions; a daemon that does not answer is part of the answer.
///
/// # Errors
/// Never: it works without a daemon.
pub async fn run(api: &Api) -> Result<Outcome, Failure> {
    let health = match tokio::time::timeout(PATIENCE, api.health()).await {
        Ok(health) => health.map_err(|failure| (failure.message.clone(), failure.to_value())),
        Err(_) => Err(("it does not answer".to_owned(), json!({"code": "timed_out", "message": "it does not answer"}))),
    };
    let sheet = Sheet::default().with("agentbotctl", OURS);
    Ok(match health {
        Ok(health) => Outcome::ok(
            json!({"ctl": OURS, "daemon": health.version}),
            sheet.with("agentbotd", text::line(&health.version)).render(),
        ),
        Err((why, error)) => Outcome::ok(
            json!({"ctl": OURS, "daemon": null, "daemon_error": error}),
            sheet.with("agentbotd", format!("unreachable: {}", text::line(&why))).render(),
        ),
    })
}
