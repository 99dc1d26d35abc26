//! Clients that nobody of this project wrote: see `tests/foreign` and `scripts/ensure-foreign-clients.sh`.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use super::binaries::{target, workspace};

const LIMIT: Duration = Duration::from_secs(60);

/// Runs one of the programs of `tests/foreign` and gives the JSON document that it prints. A token goes in by the
/// environment: command lines can be seen by everybody.
///
/// # Panics
/// When it cannot be started, fails, or does not end in time; the message says what it said.
pub async fn foreign(program: &str, arguments: &[&str], token: Option<&str>) -> Value {
    let home = target().join("foreign");
    assert!(
        home.join("made-from").is_file(),
        "no foreign clients in {}; run scripts/ensure-foreign-clients.sh",
        home.display()
    );
    let interpreter = if program.ends_with(".py") { home.join("venv/bin/python") } else { PathBuf::from("node") };
    let mut command = Command::new(interpreter);
    command
        .arg(workspace().join("tests/foreign").join(program))
        .args(arguments)
        .env("NODE_PATH", home.join("node_modules"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // The daemon is asked itself, whatever the machine reaches others by.
        .env("NO_PROXY", "*")
        .env("no_proxy", "*")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if let Some(token) = token {
        command.env("AGENTBOT_TOKEN", token);
    }
    let ended = tokio::time::timeout(LIMIT, command.output()).await.expect("the foreign client ends");
    let output = ended.expect("the foreign client can be started");
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{said}\n{complained}", output.status);
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{program}: {error} in {said:?}\n{complained}"))
}
