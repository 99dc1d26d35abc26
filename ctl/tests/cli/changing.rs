//! Verbs that change something: each is followed to its end.

use agentbot_wire::{ApiError, Code, Phase};
use serde_json::{Value, json};

use crate::run::ctl;
use crate::twin::{Twin, agent};

#[test]
fn provision_follows_its_steps_until_the_agent_runs() {
    let twin = Twin::with(&[]);
    let run = ctl(&twin.socket(), &["provision", "helper"]).exits(0);
    assert_eq!(run.stdout, "");
    for line in ["helper: image done", "helper: create done", "helper: hello done", "✓ helper is running ("] {
        assert!(run.stderr.contains(line), "{line} is missing:\n{}", run.stderr);
    }
    let change = &twin.changes()[0];
    assert_eq!((change.method.as_str(), change.path.as_str()), ("POST", "/api/agents/provision"));
    assert_eq!(change.prefer.as_deref(), Some("respond-async"));
    assert!(change.key.as_ref().is_some_and(|key| key.len() > 20));
}

#[test]
fn provision_sends_what_was_asked_for_and_answers_with_the_agent() {
    let twin = Twin::with(&[]);
    let words = [
        "provision",
        "helper",
        "--plan",
        "solo",
        "--model",
        "builtin/basic",
        "--memory",
        "512m",
        "--cpus",
        "0.5",
        "--pids",
        "64",
        "--image",
        "mine:1",
        "--config",
        r#"{"persona":"terse"}"#,
        "-o",
        "json",
    ];
    let document = ctl(&twin.socket(), &words).exits(0).json();
    assert_eq!(document["agent"]["name"], "helper");
    assert_eq!(document["agent"]["status"], "running");
    assert_eq!(document["status"], "running");
    assert_eq!(document["operation"]["status"], "succeeded");
    let sent: Value = serde_json::from_str(&twin.changes()[0].body).unwrap();
    let wanted = json!({"name": "helper", "plan": "solo", "model": "builtin/basic", "memory": 536_870_912, "cpus": 0.5,
                        "pids": 64, "image": "mine:1", "config": {"persona": "terse"}});
    assert_eq!(sent, wanted);
}

#[test]
fn each_lifecycle_verb_says_where_the_agent_ended() {
    let twin = Twin::with(&["helper"]);
    for (words, path, said) in [
        (&["stop", "helper"][..], "/api/instance/helper/stop", "✓ helper is stopped"),
        (&["start", "helper"], "/api/instance/helper/start", "✓ helper is running"),
        (&["restart", "helper"], "/api/instance/helper/restart", "✓ helper is running"),
        (&["repair", "helper"], "/api/instance/helper/repair", "✓ helper is running"),
        (&["delete", "helper"], "/api/instance/helper", "✓ helper is deleted"),
        (&["undelete", "helper", "--as", "old"], "/api/instance/helper/undelete", "is running"),
        (&["delete", "old", "--purge", "--yes"], "/api/instance/old?purge=true", "✓ old is gone for good"),
    ] {
        let run = ctl(&twin.socket(), words).exits(0);
        assert!(run.stderr.contains(said), "{words:?}: {run:?}");
        assert_eq!(twin.changes().last().unwrap().path, path);
    }
    assert!(twin.changes().iter().any(|change| change.body == r#"{"as":"old"}"#));
}

#[test]
fn repair_reports_what_it_found_and_did() {
    let twin = Twin::with(&["helper"]);
    let text = ctl(&twin.socket(), &["repair", "helper"]).exits(0).stdout;
    assert!(text.contains("found  the container was gone") && text.contains("done   made it anew"), "{text}");
    let document = ctl(&twin.socket(), &["repair", "helper", "-o", "json"]).exits(0).json();
    assert_eq!(document["report"]["findings"][0], "the container was gone");
}

#[test]
fn detach_prints_the_operation_and_does_not_wait() {
    let twin = Twin::with(&["helper"]);
    twin.state().step = std::time::Duration::from_secs(60);
    let run = ctl(&twin.socket(), &["restart", "helper", "--detach"]).exits(0);
    assert!(run.stdout.starts_with("op_") && run.stdout.lines().count() == 1, "{run:?}");
    let document = ctl(&twin.socket(), &["restart", "helper", "--detach", "-o", "json"]).exits(0).json();
    assert_eq!(document["operation"]["status"], "running");
}

#[test]
fn quiet_says_nothing_when_all_is_well() {
    let twin = Twin::with(&["helper"]);
    let run = ctl(&twin.socket(), &["-q", "restart", "helper"]).exits(0);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
}

#[test]
fn of_several_agents_all_are_tried_and_the_worst_counts() {
    let twin = Twin::with(&["a", "b"]);
    let run = ctl(&twin.socket(), &["stop", "a", "nope", "b", "a"]).exits(4);
    for line in ["✓ a is stopped", "✓ b is stopped", "✗ nope: there is no agent nope"] {
        assert_eq!(run.stderr.matches(line).count(), 1, "{line}: {run:?}");
    }
    let document = ctl(&twin.socket(), &["start", "a", "nope", "-o", "json"]).exits(4).json();
    assert_eq!((&document["ok"], &document["error"]["code"]), (&json!(false), &json!("not_found")));
    assert_eq!(document["results"][0]["agent"], "a");
    assert_eq!(document["results"][0]["status"], "running");
    assert_eq!(document["results"][1]["error"]["code"], "not_found");
    let document = ctl(&twin.socket(), &["start", "a", "b", "-o", "json"]).exits(0).json();
    assert_eq!((&document["ok"], document["results"].as_array().unwrap().len()), (&json!(true), 2));
}

#[test]
fn several_agents_are_worked_on_side_by_side() {
    let twin = Twin::with(&["a", "b", "c", "d"]);
    twin.state().step = std::time::Duration::from_secs(1);
    let began = std::time::Instant::now();
    ctl(&twin.socket(), &["stop", "a", "b", "c", "d"]).exits(0);
    assert!(began.elapsed() < std::time::Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn errors_of_the_daemon_lead_to_their_exit_codes_with_hint() {
    let twin = Twin::with(&["helper"]);
    let run = ctl(&twin.socket(), &["provision", "helper"]).exits(5);
    assert!(run.stderr.contains("error: the name helper is taken") && run.stderr.contains("hint: choose"), "{run:?}");
    ctl(&twin.socket(), &["provision", "x", "--plan", "huge"]).exits(2);
    ctl(&twin.socket(), &["show", "nope"]).exits(4);
    let document = ctl(&twin.socket(), &["-o", "json", "show", "nope"]).exits(4).json();
    assert_eq!(document["ok"], false);
    assert_eq!(document["error"]["code"], "not_found");
    assert_eq!(document["error"]["hint"], "`agentbotctl list` shows all agents");
    assert_eq!(document["error"]["request_id"], "req-1");
}

#[test]
fn an_operation_that_fails_says_why_and_which_it_was() {
    let twin = Twin::with(&["helper"]);
    let failing =
        |code, message: &str| Some(ApiError { code, message: message.to_owned(), hint: Some("look".to_owned()) });
    twin.state().failing = failing(Code::EngineRefused, "no space left on device");
    let run = ctl(&twin.socket(), &["start", "helper"]).exits(1);
    assert!(run.stderr.contains("error: no space left on device\nhint: look"), "{run:?}");
    let document = ctl(&twin.socket(), &["start", "helper", "-o", "json"]).exits(1).json();
    assert_eq!(document["error"]["operation"]["status"], "failed");
    twin.state().failing = failing(Code::Superseded, "a stop won");
    ctl(&twin.socket(), &["start", "helper"]).exits(5);
}

#[test]
fn with_the_engine_down_the_operation_is_named_and_kept() {
    let twin = Twin::with(&["helper"]);
    twin.state().engine_down = true;
    let run = ctl(&twin.socket(), &["start", "helper"]).exits(6);
    assert!(run.stdout.starts_with("op_") && run.stdout.lines().count() == 1, "{run:?}");
    assert!(run.stderr.contains("engine does not answer: connection refused"), "{run:?}");
    assert!(run.stderr.contains(&format!("agentbotctl operation wait {}", run.stdout.trim())), "{run:?}");
    let document = ctl(&twin.socket(), &["provision", "new", "-o", "json"]).exits(6).json();
    assert_eq!(document["error"]["code"], "engine_unavailable");
    assert!(document["error"]["operation"]["id"].as_str().unwrap().starts_with("op_"));
    ctl(&twin.socket(), &["start", "helper", "--detach"]).exits(0);
}

#[test]
fn a_purge_is_refused_where_nobody_can_be_asked() {
    let twin = Twin::with(&["helper"]);
    let run = ctl(&twin.socket(), &["delete", "helper", "--purge"]).exits(2);
    assert!(run.stderr.contains("hint: add --yes"), "{run:?}");
    assert!(twin.changes().is_empty());
}

#[test]
fn a_dry_run_shows_what_would_go_and_changes_nothing() {
    let twin = Twin::with(&["helper"]);
    let text = ctl(&twin.socket(), &["delete", "helper", "--dry-run"]).exits(0).stdout;
    assert!(text.contains("container ab-slot-1") && text.contains("undelete helper"), "{text}");
    let document = ctl(&twin.socket(), &["delete", "helper", "--purge", "--dry-run", "-o", "json"]).exits(0).json();
    assert_eq!((&document["dry_run"], &document["purge"]), (&json!(true), &json!(true)));
    assert_eq!(document["removes"].as_array().unwrap().len(), 3);
    assert_eq!(document["keeps"], json!([]));
    assert!(twin.changes().is_empty());
}

#[test]
fn deleted_agents_are_listed_apart() {
    let twin = Twin::with(&["helper"]);
    let mut gone = agent("gone", Phase::Deleted);
    gone.deleted_at = Some(gone.created_at);
    let id = gone.id.to_string();
    twin.state().agents.push(gone);
    assert!(!ctl(&twin.socket(), &["list"]).exits(0).stdout.contains("gone"));
    let text = ctl(&twin.socket(), &["list", "--deleted"]).exits(0).stdout;
    assert!(text.contains("gone") && text.contains(&id) && text.contains("s ago"), "{text}");
}
