//! A daemon that is away, slow, foreign or dying: a clear error each, and nothing lost.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use agentbot_wire::Code;
use serde_json::json;

use crate::run::{Run, command, ctl};
use crate::twin::{Raw, Twin, error, nowhere};

#[test]
fn without_a_socket_the_hint_says_how_to_start_the_daemon() {
    let directory = tempfile::tempdir().unwrap();
    for words in [&["list"][..], &["start", "a"], &["status"], &["operation", "list"], &["provision", "a"]] {
        let run = ctl(&nowhere(directory.path()), words).exits(6);
        assert!(run.stderr.contains("agentbotd is not running: there is no socket at"), "{run:?}");
        assert!(run.stderr.contains("systemctl start agentbotd") && run.stderr.contains("make quickstart"), "{run:?}");
    }
    let run = ctl(&nowhere(directory.path()), &["list", "-o", "json"]).exits(6);
    assert_eq!(run.json()["ok"], false);
    assert_eq!(run.json()["error"]["code"], "daemon_unreachable");
}

#[test]
fn a_socket_that_nobody_listens_at_is_called_that() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let run = ctl(&socket, &["list"]).exits(6);
    assert!(run.stderr.contains("nobody listens at"), "{run:?}");
}

#[test]
fn who_may_not_open_the_socket_is_told_about_the_group() {
    if !nix::unistd::geteuid().is_root() {
        // Only root can become somebody who is refused.
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let shared = tempfile::tempdir().unwrap();
    let program = shared.path().join("agentbotctl");
    std::fs::copy(env!("CARGO_BIN_EXE_agentbotctl"), &program).unwrap();
    let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    mode(directory.path(), 0o700);
    mode(shared.path(), 0o755);
    let run: Run = std::process::Command::new(program)
        .env("AGENTBOT_SOCKET", nowhere(directory.path()))
        .current_dir("/")
        .arg("list")
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap()
        .into();
    let run = run.exits(3);
    assert!(run.stderr.contains("may not open") && run.stderr.contains("usermod -aG agentbot"), "{run:?}");
}

#[test]
fn a_daemon_that_refuses_the_user_ends_with_not_allowed() {
    let twin = Twin::with(&["helper"]);
    twin.state().refusal = Some(error(403, Code::Forbidden, "your user is no operator", "join the group agentbot"));
    let run = ctl(&twin.socket(), &["stop", "helper"]).exits(3);
    assert!(run.stderr.contains("error: your user is no operator\nhint: join the group agentbot"), "{run:?}");
}

#[test]
fn an_internal_error_names_the_request_for_the_log() {
    let twin = Twin::with(&["helper"]);
    twin.state().refusal = Some(error(500, Code::Internal, "something broke", "report it"));
    assert!(ctl(&twin.socket(), &["list"]).exits(1).stderr.contains("req-1"));
}

#[test]
fn answers_that_are_not_the_daemons_are_called_that() {
    let http =
        |length: usize, body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes();
    for (bytes, part) in [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(), "it is not HTTP"),
        (http(5, "hello"), "the answer is not agentbotd's"),
        (http(2, "{}"), "the answer is not agentbotd's"),
        (b"HTTP/1.1 502 Bad\r\ncontent-length: 2\r\n\r\nno".to_vec(), "status 502 without a JSON body"),
    ] {
        let raw = Raw::answering(Some(bytes));
        let run = ctl(&raw.socket(), &["list", "-o", "json"]).exits(1);
        assert_eq!(run.json()["error"]["code"], "bad_reply");
        assert!(run.stderr.contains(part), "{part}: {run:?}");
    }
}

#[test]
fn a_truncated_answer_is_asked_for_again_and_then_given_up() {
    let raw = Raw::answering(Some(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"agents\"".to_vec()));
    let run = ctl(&raw.socket(), &["list"]).exits(6);
    assert!(run.stderr.contains("closed the connection before its answer was complete"), "{run:?}");
}

#[test]
fn an_answer_is_read_up_to_8_mib_and_no_further() {
    let document = |length: usize| {
        let body = json!({"agents": [], "count": 0, "x": ""}).to_string();
        let body = body.replace("\"x\":\"\"", &format!("\"x\":\"{}\"", "y".repeat(length - body.len())));
        assert_eq!(body.len(), length);
        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
    };
    let raw = Raw::answering(Some(document(8 << 20)));
    ctl(&raw.socket(), &["list"]).exits(0);
    let raw = Raw::answering(Some(document((8 << 20) + 1)));
    assert!(ctl(&raw.socket(), &["list"]).exits(1).stderr.contains("larger than 8 MiB"));
}

#[test]
fn a_daemon_that_hangs_is_left_after_the_time_given() {
    let raw = Raw::answering(None);
    let began = Instant::now();
    let run = ctl(&raw.socket(), &["list", "--timeout", "300ms", "-o", "json"]).exits(7);
    assert_eq!(run.json()["error"]["code"], "timed_out");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn an_operation_that_outlasts_the_time_given_goes_on() {
    let twin = Twin::with(&["helper"]);
    twin.state().step = Duration::from_secs(60);
    let run = ctl(&twin.socket(), &["restart", "helper", "--timeout", "400ms"]).exits(7);
    assert!(run.stderr.contains("has not ended after 0.4s") && run.stderr.contains("agentbotctl operation wait op_"));
    assert!(!twin.changes().iter().any(|change| change.path.contains("cancel")));
}

#[test]
fn a_lost_answer_is_asked_for_again_with_the_same_key() {
    let twin = Twin::with(&[]);
    twin.state().lose_answers = 2;
    ctl(&twin.socket(), &["provision", "helper"]).exits(0);
    let changes = twin.changes();
    assert_eq!(changes.len(), 3);
    assert!(changes.iter().all(|change| change.key == changes[0].key));
    assert_eq!(twin.state().agents.len(), 1);
    ctl(&twin.socket(), &["restart", "helper"]).exits(0);
    assert_ne!(twin.changes().last().unwrap().key, changes[0].key);
}

#[test]
fn a_daemon_that_restarts_meanwhile_is_waited_for() {
    let mut twin = Twin::with(&["helper"]);
    twin.state().step = Duration::from_secs(1);
    let mut child = command(&twin.socket()).args(["restart", "helper"]).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    until(|| !twin.changes().is_empty());
    twin.away();
    assert!(said.any(|line| line == "helper: agentbotd is away, waiting for it"));
    twin.serve();
    let rest: Vec<_> = said.collect();
    assert!(rest.last().is_some_and(|line| line.starts_with("✓ helper is running")), "{rest:?}");
    assert!(!rest.iter().any(|line| line.contains("away")), "told once: {rest:?}");
    assert!(child.wait().unwrap().success());
}

/// Waits for something that another process brings about.
pub fn until(mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(10), "it did not come about");
        std::thread::yield_now();
    }
}
