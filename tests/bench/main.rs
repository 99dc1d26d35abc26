//! `make bench`: figures as ratios against a yardstick that runs in turn with us, in one run, on this machine.
//!
//! It only prints. The exit code is 1 when a measurement itself failed, never because a figure is high.

// A measurement that fails ends the run, and its cleanup runs while it unwinds.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod agent;
mod chat;
mod figures;
mod known;
mod lifecycle;
mod load;
mod partners;

use std::io::Write;
use std::path::Path;
use std::process::Command;

use agentbot_tests::{Daemon, Setup};
use figures::Table;

/// The argument that measures the rows about chat alone.
const CHAT: &str = "chat";

/// Says on stderr what is being done.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "bench: {text}");
}

/// Builds what is measured the way it is shipped: optimised, and without fault points.
fn build() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let agent = ["build", "--profile", "agent", "--target", &triple, "-p", "agentbot-agent"];
    for arguments in [&["build", "--release", "-p", "agentbotd", "-p", "agentbotctl"][..], &agent] {
        let status = Command::new(&cargo)
            .args(arguments)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace"))
            .status()
            .expect("cargo can be started");
        assert!(status.success(), "cargo {arguments:?} failed");
    }
}

async fn measure() -> Table {
    let mut table = Table::default();
    say("agent: size, memory, start to hello");
    agent::start_to_hello(&mut table).await;

    let setup = Setup::new()
        .uids(400)
        .set("log.level", "\"warn\"")
        .set("beat.period", "\"5s\"")
        .set("engine.list_period", "\"5s\"");
    let nowhere = setup.clone().engine(Path::new("/nonexistent/engine.sock"));
    let mut daemon = Daemon::start(nowhere).await;
    say("200 agents known to the database, with no container");
    known::agents(&mut daemon, setup).await;
    known::start_to_first_answer(&mut daemon, &mut table).await;
    known::idle_memory(&daemon, &mut table).await;

    say("provision, restart, repair and stop against the raw engine");
    lifecycle::pairs(&daemon, &mut table).await;
    say("reads and writes at 32 connections");
    load::reads_and_writes(&daemon, &mut table).await;
    say("50 agents that run");
    known::with_running_agents(&daemon, &mut table).await;
    known::list_against_docker_ps(&daemon, &mut table).await;
    daemon.finish().await;
    say("chat against a bare WebSocket echo, 100 pairs, 1000 idle connections");
    chat::rows(&mut table).await;
    table
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let part = arguments.next().unwrap_or_default();
    let mut socket = || arguments.next().expect("a socket to serve at");
    match part.as_str() {
        load::HELLO => return load::serve_hello(socket().as_ref()),
        partners::ECHO => return partners::serve_echo(socket().as_ref()),
        partners::AGENT => return partners::serve_agent(),
        _ => {}
    }
    if cfg!(debug_assertions) {
        say("unoptimised, only to try the bench itself: the figures mean nothing, and nothing is built");
    } else {
        build();
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let table = runtime.block_on(async {
        if part == CHAT {
            let mut table = Table::default();
            chat::rows(&mut table).await;
            return table;
        }
        measure().await
    });
    let _ = std::io::stdout().write_all(table.to_string().as_bytes());
}
