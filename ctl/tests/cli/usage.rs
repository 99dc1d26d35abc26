//! The command line itself: help, suggestions, bad values.

use crate::run::ctl;
use crate::twin::{Twin, nowhere};

#[test]
fn without_a_verb_there_is_help() {
    let directory = tempfile::tempdir().unwrap();
    let none: [&str; 0] = [];
    let run = ctl(&nowhere(directory.path()), &none).exits(0);
    for verb in ["provision", "list", "repair", "undelete", "operation", "completion", "Exit codes"] {
        assert!(run.stdout.contains(verb), "{verb}");
    }
}

#[test]
fn every_verb_has_help_with_an_example() {
    let directory = tempfile::tempdir().unwrap();
    for verb in [
        "provision",
        "list",
        "show",
        "start",
        "stop",
        "restart",
        "repair",
        "delete",
        "undelete",
        "token",
        "chat",
        "conversations",
        "messages",
        "status",
        "version",
        "completion",
    ] {
        let run = ctl(&nowhere(directory.path()), &[verb, "--help"]).exits(0);
        assert!(
            run.stdout.contains(&format!("agentbotctl {verb}")) && run.stdout.contains("Examples:"),
            "{verb}: {run:?}"
        );
        assert!(run.stdout.lines().all(|line| line.chars().count() <= 100), "{verb}: {}", run.stdout);
    }
}

#[test]
fn a_mistyped_verb_or_option_gets_a_suggestion_and_a_document() {
    let directory = tempfile::tempdir().unwrap();
    let socket = nowhere(directory.path());
    assert!(ctl(&socket, &["strat", "a"]).exits(2).stderr.contains("'start'"));
    assert!(ctl(&socket, &["start", "a", "--detatch"]).exits(2).stderr.contains("--detach"));
    let run = ctl(&socket, &["-o", "json", "strat", "a"]).exits(2);
    assert_eq!((&run.json()["ok"], &run.json()["error"]["code"]), (&false.into(), &"usage".into()));
    assert!(run.json()["error"]["hint"].as_str().unwrap().contains("start"));
    assert_eq!(ctl(&socket, &["start", "-o", "json"]).exits(2).json()["error"]["code"], "usage");
}

#[test]
fn values_that_break_a_rule_are_refused_before_anything_is_asked() {
    let twin = Twin::with(&["helper"]);
    for (words, part) in [
        (&["provision", "Bad_Name"][..], "lower-case"),
        (&["provision", "v1"], "reserved"),
        (&["show", "../agents"], "lower-case"),
        (&["provision", "a", "--memory", "lots"], "256m"),
        (&["provision", "a", "--cpus", "0"], "above 0"),
        (&["provision", "a", "--pids", "0"], "0"),
        (&["provision", "a", "--config", "[]"], "JSON object"),
        (&["list", "--timeout", "25h"], "24h"),
        (&["list", "-o", "xml"], "table"),
        (&["operation", "show", "nope"], "op_"),
        (&["operation", "list", "--limit", "0"], "1..=500"),
        (&["operation", "list", "--status", "done"], "succeeded"),
        (&["completion", "csh"], "bash"),
        (&["chat", "helper", "hi", "--topic", ""], "at least one"),
        (&["chat", "helper", "hi", "--idempotency-key", "a b"], "visible ASCII"),
        (&["chat", "helper"], "no text"),
        (&["chat", "helper", "hi", "--lines"], "standard input"),
        (&["messages", "helper", "--limit", "0"], "1..=10000"),
        (&["messages", "helper", "--conversation", "x"], "cnv_"),
        (&["memory", "get", "helper", ""], "at least one"),
        (&["chat"], "NAME"),
        (&["start"], "NAME"),
    ] {
        let run = ctl(&twin.socket(), words).exits(2);
        assert!(run.stderr.contains(part), "{words:?} should speak of {part}: {run:?}");
    }
    let long = format!("/{}", "s".repeat(107));
    assert!(ctl(&twin.socket(), &["--socket", &long, "list"]).exits(2).stderr.contains("107 bytes"));
    assert!(twin.state().seen.is_empty());
}
