//! The configuration file is changed while the daemon runs.

use std::time::Duration;

use agentbot_tests::{Daemon, Setup, eventually};
use agentbot_wire::{DaemonStatus, Phase};

const SOON: Duration = Duration::from_secs(30);

async fn warnings(daemon: &Daemon) -> Vec<String> {
    let reply = daemon.get("/api/status").await;
    serde_json::from_value::<DaemonStatus>(reply.value()).expect("a status").warnings
}

async fn said(daemon: &Daemon, words: &str) {
    eventually(words, SOON, async || {
        let warnings = warnings(daemon).await;
        if warnings.iter().any(|warning| warning.contains(words)) { Ok(()) } else { Err(warnings.join("; ")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_change_acts_at_once_a_frozen_key_is_named_and_a_broken_file_changes_nothing() {
    let daemon = Daemon::start(Setup::new().set("restart.stop_grace", "\"9s\"").set("store.readers", "3")).await;
    daemon.running("helper").await;
    let before = daemon.started_at("helper").await;
    let file = daemon.home().config();
    let text = std::fs::read_to_string(&file).unwrap();

    std::fs::write(&file, text.replace("\"9s\"", "\"8s\"").replace("readers = 3", "readers = 5")).unwrap();
    said(&daemon, "store.readers").await;
    std::fs::write(&file, format!("{text}\n[nonsense]\nx = 1\n")).unwrap();
    said(&daemon, "nonsense").await;
    assert_eq!(daemon.agent("helper").await.phase, Phase::Running);

    std::fs::write(&file, &text).unwrap();
    eventually("the warnings to go", SOON, async || {
        let left = warnings(&daemon).await;
        if left.iter().any(|warning| warning.contains("nonsense") || warning.contains("store.readers")) {
            return Err(left.join("; "));
        }
        Ok(())
    })
    .await;
    assert_eq!(daemon.started_at("helper").await, before, "no change of the file touched the agent");
    daemon.finish().await;
}
