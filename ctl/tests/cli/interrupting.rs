//! Ctrl-C ends the waiting, never the work.

use std::process::Child;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::broken_daemon::until;
use crate::run::{Run, command};
use crate::twin::Twin;

fn interrupt(child: &Child) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
}

/// A twin whose operations do not end, and a command that follows some of them.
fn waiting(twin: &Twin, words: &[&str], operations: usize) -> Child {
    twin.state().step = Duration::from_secs(60);
    let child = command(&twin.socket()).args(words).spawn().unwrap();
    let looks =
        |twin: &Twin| twin.state().seen.iter().filter(|seen| seen.path.starts_with("/api/operations/op_")).count();
    until(|| twin.changes().len() == operations && looks(twin) >= operations);
    child
}

#[test]
fn an_interrupted_command_says_how_to_follow_and_cancel_what_goes_on() {
    let twin = Twin::with(&["helper"]);
    let child = waiting(&twin, &["restart", "helper"], 1);
    interrupt(&child);
    let run = Run::from(child.wait_with_output().unwrap()).exits(130);
    assert!(run.stderr.contains("interrupted; the restart of helper goes on"), "{run:?}");
    assert!(run.stderr.contains("operation wait op_") && run.stderr.contains("operation cancel op_"), "{run:?}");
    assert_eq!(twin.changes().len(), 1);
}

#[test]
fn an_interrupted_program_still_gets_one_document() {
    let twin = Twin::with(&["a", "b"]);
    let child = waiting(&twin, &["restart", "a", "b", "-o", "json"], 2);
    interrupt(&child);
    let run = Run::from(child.wait_with_output().unwrap()).exits(130);
    let error = &run.json()["error"];
    assert_eq!(error["code"], "interrupted");
    assert_eq!(error["message"].as_str().unwrap().matches("op_").count(), 2, "{error}");
}
