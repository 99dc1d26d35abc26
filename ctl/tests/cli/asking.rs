//! Verbs that only ask: `list`, `show`, `token`, `status`, `version`, `operation`, `completion`.

use agentbot_wire::Phase;

use crate::run::{command, ctl};
use crate::twin::{Twin, agent};

#[test]
fn list_shows_a_row_for_each_agent_and_is_one_document_for_programs() {
    let twin = Twin::with(&["helper", "scout"]);
    let run = ctl(&twin.socket(), &["list"]).exits(0);
    let lines: Vec<_> = run.stdout.lines().collect();
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["NAME", "STATUS", "MODEL", "PLAN", "AGE"]);
    assert!(lines[1].starts_with("helper  running  builtin/basic  small"), "{run:?}");
    assert_eq!(lines.len(), 3);
    let document = ctl(&twin.socket(), &["-o", "json", "list"]).exits(0).json();
    assert_eq!(document["count"], 2);
    assert_eq!(document["agents"][1]["name"], "scout");
}

#[test]
fn an_empty_list_says_how_to_begin() {
    let twin = Twin::with(&[]);
    assert!(ctl(&twin.socket(), &["list"]).exits(0).stdout.contains("agentbotctl provision"));
    assert_eq!(ctl(&twin.socket(), &["list", "-o", "json"]).exits(0).json()["count"], 0);
    assert!(ctl(&twin.socket(), &["list", "--deleted"]).exits(0).stdout.contains("No deleted agents"));
}

#[test]
fn show_names_phase_limits_and_the_way_out() {
    let twin = Twin::with(&[]);
    let mut sick = agent("helper", Phase::CrashLoop);
    sick.reason = Some("out of memory".to_owned());
    sick.health.crashes = 5;
    sick.health.last_crash = Some("exit 137".to_owned());
    sick.health.last_lines = Some("first words\nlast words".to_owned());
    twin.state().agents.push(sick);
    let text = ctl(&twin.socket(), &["show", "helper"]).exits(0).stdout;
    for part in ["crash_loop", "out of memory", "256 MiB memory, 0.5 cores", "exit 137", "first words", "last words"] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    let next = text.lines().last().unwrap();
    assert_eq!(next.split_whitespace().collect::<Vec<_>>(), ["next:", "agentbotctl", "start", "helper"]);
    assert_eq!(ctl(&twin.socket(), &["show", "helper", "-o", "json"]).exits(0).json()["phase"], "crash_loop");
}

#[test]
fn an_agent_is_found_by_its_id_too() {
    let twin = Twin::with(&["helper"]);
    let id = twin.state().agents[0].id.to_string();
    assert!(ctl(&twin.socket(), &["show", &id]).exits(0).stdout.contains("helper"));
}

#[test]
fn token_prints_the_token_and_nothing_else() {
    let twin = Twin::with(&["helper"]);
    let run = ctl(&twin.socket(), &["token", "helper"]).exits(0);
    assert_eq!(run.stdout, format!("{}\n", "0123456789abcdef".repeat(4)));
    assert_eq!(run.stderr, "");
    let document = ctl(&twin.socket(), &["token", "helper", "-o", "json"]).exits(0).json();
    assert_eq!(document["token"].as_str().unwrap().len(), 64);
}

#[test]
fn status_shows_engine_agents_and_warnings() {
    let twin = Twin::with(&["helper"]);
    let text = ctl(&twin.socket(), &["status"]).exits(0).stdout;
    for part in ["9.9.9, pid 42", "available", "20.10.24", "1 running", "clock is not synchronised"] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    twin.state().engine_down = true;
    let text = ctl(&twin.socket(), &["status"]).exits(0).stdout;
    assert!(text.contains("unavailable") && text.contains("connection refused"), "{text}");
    assert_eq!(ctl(&twin.socket(), &["status", "-o", "json"]).exits(0).json()["engine"]["available"], false);
}

#[test]
fn version_names_both_and_works_without_a_daemon() {
    let mut twin = Twin::with(&[]);
    let ours = env!("CARGO_PKG_VERSION");
    let document = ctl(&twin.socket(), &["version", "-o", "json"]).exits(0).json();
    assert_eq!((document["ctl"].as_str(), document["daemon"].as_str()), (Some(ours), Some("9.9.9")));
    twin.away();
    let run = ctl(&twin.socket(), &["version"]).exits(0);
    assert!(run.stdout.contains(ours) && run.stdout.contains("unreachable"), "{run:?}");
    let document = ctl(&twin.socket(), &["version", "-o", "json"]).exits(0).json();
    assert!(document["daemon"].is_null());
    assert_eq!(document["daemon_error"]["code"], "daemon_unreachable");
}

#[test]
fn operations_are_listed_shown_waited_for_and_cancelled() {
    let twin = Twin::with(&["helper"]);
    twin.state().step = std::time::Duration::from_secs(60);
    let id = ctl(&twin.socket(), &["restart", "helper", "--detach"]).exits(0).stdout.trim().to_owned();
    let text = ctl(&twin.socket(), &["operation", "list", "--agent", "helper", "--status", "running"]).exits(0).stdout;
    assert!(text.contains(&id) && text.contains("restart"), "{text}");
    assert!(twin.state().seen.iter().any(|seen| seen.path == "/api/operations?limit=50&agent=helper&status=running"));
    let text = ctl(&twin.socket(), &["operation", "show", &id]).exits(0).stdout;
    assert!(text.contains("start running") && text.contains(&format!("agentbotctl operation wait {id}")), "{text}");
    twin.state().step = std::time::Duration::from_millis(20);
    let run = ctl(&twin.socket(), &["operation", "wait", &id, "-o", "json"]).exits(0);
    assert_eq!(run.json()["status"], "succeeded");

    twin.state().step = std::time::Duration::from_secs(60);
    let id = ctl(&twin.socket(), &["restart", "helper", "--detach"]).exits(0).stdout.trim().to_owned();
    let run = ctl(&twin.socket(), &["operation", "cancel", &id, "-o", "json"]).exits(0);
    assert_eq!(run.json()["status"], "cancelled");
    ctl(&twin.socket(), &["operation", "wait", &id]).exits(1);
    ctl(&twin.socket(), &["operation", "show", "op_01kak2m5v5e7qrf9v3n6m8t0zx"]).exits(4);
}

#[test]
fn completion_scripts_are_printed_and_names_are_completed() {
    let mut twin = Twin::with(&["helper", "scout"]);
    for shell in ["bash", "zsh", "fish"] {
        assert!(ctl(&twin.socket(), &["completion", shell]).exits(0).stdout.contains("agentbotctl"), "{shell}");
    }
    let complete = |socket: &std::path::Path, words: &[&str]| {
        let run = command(socket)
            .env("AGENTBOTCTL_COMPLETE", "bash")
            .env("_CLAP_IFS", "\n")
            .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
            .args(["--"])
            .args(words)
            .output()
            .unwrap();
        String::from_utf8(run.stdout).unwrap()
    };
    assert_eq!(
        complete(&twin.socket(), &["agentbotctl", "stop", ""]).lines().take(2).collect::<Vec<_>>(),
        ["helper", "scout"]
    );
    assert_eq!(complete(&twin.socket(), &["agentbotctl", "show", "sc"]).trim(), "scout");
    assert_eq!(complete(&twin.socket(), &["agentbotctl", "resta"]).trim(), "restart");
    twin.away();
    assert!(!complete(&twin.socket(), &["agentbotctl", "stop", ""]).contains("helper"));
}
