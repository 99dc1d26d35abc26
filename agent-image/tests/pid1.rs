//! The agent as PID 1 of its own namespace.

use std::fs;
use std::process::{Command as Blocking, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use tokio::process::Command;
use tokio::time::sleep;

use crate::daemon::{Agent, Link, PATIENCE, Slot};

/// A thousand processes whose parent ends before them.
const ORPHANS: &str = "i=0; while [ $i -lt 1000 ]; do (true &); i=$((i + 1)); done";

fn unshare() -> Vec<&'static str> {
    let own = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let mapped = ["--user", "--map-root-user"];
    own.into_iter().chain(mapped.into_iter().filter(|_| !Uid::effective().is_root())).collect()
}

/// Whether this host lets the test make a PID namespace.
#[allow(clippy::print_stderr)] // a skipped test says so
fn namespaces_are_allowed() -> bool {
    let words = unshare();
    let tried = Blocking::new(words[0]).args(&words[1..]).arg("true").stderr(Stdio::null()).status();
    let allowed = tried.is_ok_and(|status| status.success());
    if !allowed {
        eprintln!("skipped: this host does not let its user make a PID namespace");
    }
    allowed
}

/// Ids and states of the children of a process.
fn children(parent: u32) -> Vec<(u32, char)> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        (fields.next()?.parse() == Ok(parent)).then_some((pid, state))
    })
    .collect()
}

#[tokio::test]
async fn a_thousand_orphans_leave_no_zombie_and_sigterm_still_ends_it() {
    if !namespaces_are_allowed() {
        return;
    }
    let slot = Slot::new();
    let listener = slot.listen();
    let words = unshare();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(slot.command().as_std().get_program()).env("AGENTBOT_SOCKET", slot.socket());
    let mut agent = Agent::watch(command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap());
    let mut link = Link::greet(&listener, 20).await;
    let [(pid1, _)] = children(agent.pid())[..] else { panic!("no agent in the namespace") };

    let pid = pid1.to_string();
    let mut enter = Command::new("nsenter");
    enter.args(["--target", &pid, "--pid", "--mount"]);
    if !Uid::effective().is_root() {
        enter.args(["--user", "--preserve-credentials"]);
    }
    assert!(enter.args(["sh", "-c", ORPHANS]).status().await.unwrap().success());
    let begun = Instant::now();
    while children(pid1).iter().any(|(_, state)| *state == 'Z') {
        assert!(begun.elapsed() < PATIENCE, "{} children are left", children(pid1).len());
        sleep(Duration::from_millis(10)).await;
    }
    link.beat().await;

    kill(Pid::from_raw(pid1.try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(agent.exit().await.code(), Some(0));
}
