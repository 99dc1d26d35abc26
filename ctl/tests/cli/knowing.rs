//! What was said, what is remembered, and which models there are.

use std::io::{BufRead as _, BufReader};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agentbot_wire::{Discovered, Platform, Sender};
use serde_json::{Value, json};

use crate::broken_daemon::until;
use crate::run::{Run, command, ctl};
use crate::twin::Twin;

/// An agent with two conversations.
fn talked() -> Twin {
    let twin = Twin::with(&["helper"]);
    {
        let mut state = twin.state();
        let agent = state.agents[0].id.clone();
        for topic in ["main", "work"] {
            let conversation = state.chats.conversation(&agent, topic);
            state.chats.store(&conversation, Sender::User, Platform::Http, &format!("about {topic}"), None);
            state.chats.store(&conversation, Sender::Agent, Platform::Agent, "- so\n- `it` is\x1b[2J", None);
            state.chats.store(&conversation, Sender::System, Platform::Agent, "aborted", None);
        }
    }
    twin
}

#[test]
fn conversations_are_a_table_or_a_document_and_none_says_how_to_begin() {
    let twin = talked();
    let run = ctl(&twin.socket(), &["conversations", "helper"]).exits(0);
    let lines: Vec<_> = run.stdout.lines().collect();
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["TOPIC", "MESSAGES", "LAST", "BEGAN", "ID"]);
    assert!(lines[1].starts_with("main   3") && lines[1].contains("cnv_"), "{run:?}");
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{run:?}");
    let document = ctl(&twin.socket(), &["conversations", "helper", "-o", "json"]).exits(0).json();
    assert_eq!(document["conversations"][1]["topic"], "work");
    let twin = Twin::with(&["helper"]);
    assert!(ctl(&twin.socket(), &["conversations", "helper"]).exits(0).stdout.contains("agentbotctl chat helper"));
    assert!(ctl(&twin.socket(), &["conversations", "nobody"]).exits(4).stderr.contains("nobody"));
}

#[test]
fn messages_read_like_a_transcript() {
    let twin = talked();
    let run = ctl(&twin.socket(), &["messages", "helper", "--topic", "work"]).exits(0);
    assert_eq!(
        run.stdout,
        "user via http  0s ago\nabout work\n\nhelper  0s ago\n• so\n• `it` is\n\n! aborted  0s ago\n"
    );
    let all = ctl(&twin.socket(), &["messages", "helper"]).exits(0).stdout;
    assert!(all.starts_with("── main ──\nuser") && all.contains("\n── work ──\nuser"), "{all}");
    let few = ctl(&twin.socket(), &["messages", "helper", "--limit", "2"]).exits(0).stdout;
    assert!(few.starts_with("4 earlier messages; --limit shows more\n") && !few.contains("about"), "{few}");
}

#[test]
fn messages_are_one_document_oldest_first() {
    let twin = talked();
    let document = ctl(&twin.socket(), &["messages", "helper", "-o", "json"]).exits(0).json();
    assert_eq!((&document["count"], &document["total"]), (&json!(6), &json!(6)));
    assert_eq!(document["messages"][0]["content"], "about main");
    let id = twin.state().chats.conversations[1].id.to_string();
    let document = ctl(&twin.socket(), &["messages", "helper", "--conversation", &id, "-o", "json"]).exits(0).json();
    assert_eq!(document["messages"][0]["content"], "about work");
}

#[test]
fn long_histories_are_fetched_page_by_page() {
    let twin = Twin::with(&["helper"]);
    {
        let mut state = twin.state();
        let agent = state.agents[0].id.clone();
        let conversation = state.chats.conversation(&agent, "main");
        for number in 1..=250 {
            state.chats.store(&conversation, Sender::User, Platform::Http, &format!("number {number}"), None);
        }
    }
    for words in [&["messages", "helper"][..], &["messages", "helper", "--topic", "main"]] {
        let words = [words, &["--limit", "230", "-o", "json"]].concat();
        let document = ctl(&twin.socket(), &words).exits(0).json();
        let numbers: Vec<_> = document["messages"].as_array().unwrap().iter().map(|one| one["seq"].as_u64()).collect();
        assert_eq!(numbers, (21..=250).map(Some).collect::<Vec<_>>(), "{words:?}");
    }
}

#[test]
fn no_messages_and_no_such_conversation_say_what_to_do() {
    let twin = Twin::with(&["helper"]);
    assert!(ctl(&twin.socket(), &["messages", "helper"]).exits(0).stdout.contains("agentbotctl chat helper"));
    assert_eq!(ctl(&twin.socket(), &["messages", "helper", "-o", "json"]).exits(0).json()["messages"], json!([]));
    let run = ctl(&twin.socket(), &["messages", "helper", "--topic", "none"]).exits(4);
    assert!(run.stderr.contains("agentbotctl conversations helper"), "{run:?}");
}

#[test]
fn following_goes_on_with_what_is_said_and_survives_a_cut() {
    let twin = talked();
    let words = ["messages", "helper", "--topic", "main", "--follow", "-o", "json"];
    let mut child = command(&twin.socket()).args(words).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap()["seq"].clone();
    assert_eq!([next(), next(), next()], [1, 2, 3]);
    let say = |text: &str| {
        let mut state = twin.state();
        let conversation = state.chats.conversations[0].id.clone();
        state.chats.store(&conversation, Sender::User, Platform::Ws, text, None);
    };
    say("four");
    assert_eq!(next(), 4);
    twin.state().chats.cut();
    say("five");
    assert_eq!(next(), 5);
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).unwrap();
    let run = Run::from(child.wait_with_output().unwrap()).exits(130);
    assert!(!run.stderr.contains("error"), "it is the way to end it: {run:?}");
}

#[test]
fn what_is_said_while_pages_are_read_is_shown_after_them() {
    let twin = Twin::with(&["helper"]);
    {
        let mut state = twin.state();
        let agent = state.agents[0].id.clone();
        let conversation = state.chats.conversation(&agent, "main");
        for number in 1..=250 {
            state.chats.store(&conversation, Sender::User, Platform::Http, &format!("number {number}"), None);
        }
        state.chats.between = Some("between two pages".to_owned());
    }
    let words = ["messages", "helper", "--topic", "main", "--limit", "250", "--follow", "-o", "json"];
    let mut child = command(&twin.socket()).args(words).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&seen);
    let reads = std::thread::spawn(move || {
        for line in lines {
            let message: Value = serde_json::from_str(&line.unwrap()).unwrap();
            all.lock().unwrap().push(message["seq"].as_u64().unwrap());
        }
    });
    let saw = |count: usize| {
        let began = Instant::now();
        while seen.lock().unwrap().len() < count && began.elapsed() < Duration::from_secs(5) {
            std::thread::park_timeout(Duration::from_millis(5));
        }
    };
    saw(251);
    {
        let mut state = twin.state();
        let conversation = state.chats.conversations[0].id.clone();
        state.chats.store(&conversation, Sender::User, Platform::Http, "after them", None);
    }
    saw(252);
    child.kill().unwrap();
    child.wait().unwrap();
    reads.join().unwrap();
    assert_eq!(*seen.lock().unwrap(), (1..=252).collect::<Vec<_>>());
}

#[test]
fn a_reader_that_goes_away_ends_the_following() {
    let twin = talked();
    let mut child = command(&twin.socket()).args(["messages", "helper", "--follow"]).spawn().unwrap();
    until(|| !twin.state().chats.subscribes.is_empty());
    drop(child.stdout.take());
    until(|| {
        let mut state = twin.state();
        let conversation = state.chats.conversations[0].id.clone();
        state.chats.store(&conversation, Sender::User, Platform::Ws, "more", None);
        child.try_wait().unwrap().is_some()
    });
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_rotation_where_nobody_can_be_asked_wants_yes() {
    let twin = Twin::with(&["helper"]);
    let run = ctl(&twin.socket(), &["token", "helper", "--rotate"]).exits(2);
    assert!(run.stderr.contains("--yes"), "{run:?}");
    assert!(twin.changes().is_empty());
    let run = ctl(&twin.socket(), &["token", "helper", "--rotate", "--yes"]).exits(0);
    assert_eq!(run.stdout, format!("{}\n", "fedcba9876543210".repeat(4)));
    assert!(run.stderr.contains("helper has a new token"), "{run:?}");
    assert!(twin.changes()[0].path.ends_with("/api/instance/helper/token/rotate"));
}

#[test]
fn memory_is_set_as_json_or_text_listed_got_and_forgotten() {
    let twin = Twin::with(&["helper"]);
    let run = ctl(&twin.socket(), &["memory", "list", "helper"]).exits(0);
    assert_eq!(run.stdout, "helper remembers nothing yet.\n");
    for (key, value) in [("city", "Oslo"), ("limits", "{\"daily\": 5}"), ("zip", "\"0150\""), ("minus", "-3")] {
        ctl(&twin.socket(), &["memory", "set", "helper", key, value]).exits(0);
    }
    let stored = twin.state().memory.clone();
    assert_eq!(json!(stored), json!({"city": "Oslo", "limits": {"daily": 5}, "zip": "0150", "minus": -3}));
    let list = ctl(&twin.socket(), &["memory", "list", "helper"]).exits(0).stdout;
    assert!(list.starts_with("KEY     VALUE\ncity    Oslo\nlimits  {\"daily\":5}\n"), "{list}");
    assert_eq!(ctl(&twin.socket(), &["memory", "get", "helper", "city"]).exits(0).stdout, "Oslo\n");
    let document = ctl(&twin.socket(), &["memory", "get", "helper", "limits", "-o", "json"]).exits(0).json();
    assert_eq!(document, json!({"key": "limits", "value": {"daily": 5}}));
    ctl(&twin.socket(), &["memory", "forget", "helper", "city"]).exits(0);
    assert!(!twin.state().memory.contains_key("city"));
    assert!(ctl(&twin.socket(), &["memory", "get", "helper", "city"]).exits(4).stderr.contains("memory list helper"));
    assert!(ctl(&twin.socket(), &["memory", "set", "helper", "a", "null"]).exits(2).stderr.contains("forget"));
    let large = format!("\"{}\"", "a".repeat(100 * 1024));
    assert!(ctl(&twin.socket(), &["memory", "set", "helper", "a", &large]).exits(2).stderr.contains("100 KiB"));
}

#[test]
fn memory_cannot_command_the_terminal() {
    let twin = Twin::with(&["helper"]);
    twin.state().memory.insert("k\x1b[2J".to_owned(), json!("v\x1b]0;x\x07\u{202e}"));
    let list = ctl(&twin.socket(), &["memory", "list", "helper"]).exits(0).stdout;
    assert_eq!(list, "KEY  VALUE\nk    v\n");
}

#[test]
fn models_are_listed_with_their_providers() {
    let twin = Twin::with(&["helper"]);
    let run = ctl(&twin.socket(), &["model", "list"]).exits(0);
    for part in ["builtin/basic", "basic", "default", "PROVIDER", "127.0.0.1:11434", "connection refused"] {
        assert!(run.stdout.contains(part), "{part}: {run:?}");
    }
    assert_eq!(ctl(&twin.socket(), &["model", "list", "-o", "json"]).exits(0).json()["default"], "builtin/basic");
}

#[test]
fn a_model_is_tested_with_its_times() {
    let twin = Twin::with(&["helper"]);
    let run = ctl(&twin.socket(), &["model", "test"]).exits(0);
    let seen = "model        builtin/basic\nreply        Hello there\nfirst piece  after 0.0s\nwhole        after 1.2s\n\
                tokens       12 in, 5 out\n";
    assert_eq!(run.stdout, seen);
    assert!(ctl(&twin.socket(), &["model", "test", "no/such"]).exits(2).stderr.contains("models: builtin/basic"));
}

#[test]
fn what_is_found_comes_with_the_lines_that_add_it() {
    let twin = Twin::with(&["helper"]);
    assert!(ctl(&twin.socket(), &["model", "discover"]).exits(0).stdout.contains("Nothing found"));
    twin.state().discovered.push(Discovered {
        name: "ollama".to_owned(),
        base_url: "http://127.0.0.1:11434/v1".to_owned(),
        source: "loopback".to_owned(),
        models: vec!["llama".to_owned()],
        configured: false,
        config: "[models.providers.ollama]\nkind = \"openai\"\n".to_owned(),
    });
    let run = ctl(&twin.socket(), &["model", "discover"]).exits(0);
    assert!(run.stdout.contains("add to the configuration:\n  [models.providers.ollama]\n  kind = "), "{run:?}");
}
