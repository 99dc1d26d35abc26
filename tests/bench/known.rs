//! Rows 6, 7 and 8: a daemon that knows many agents.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agentbot_tests::{Call, Daemon, Setup, ctl_binary, http};
use agentbot_wire::Phase;
use futures_util::{StreamExt, stream};

use crate::figures::{PAIRS, Pairs, Table, Target, median, ms};

const KNOWN: usize = 200;
const RUNNING: usize = 50;
const SOON: Duration = Duration::from_secs(120);

/// Makes agents that were asked for while there was no engine, and stopped before there was one: rows without
/// containers. From then on the daemon has an engine.
pub async fn agents(daemon: &mut Daemon, setup: Setup) {
    for number in 0..KNOWN {
        let name = format!("known-{number}");
        daemon.provision(&name).await;
        daemon.begin(&name, "stop").await;
    }
    daemon.sigterm().await;
    daemon.restart_with(|_| setup).await;
    daemon.look_at(agentbot_tests::Engine::of_machine());
    daemon.quiet().await;
    assert_eq!(daemon.agents().await.len(), KNOWN);
}

pub async fn start_to_first_answer(daemon: &mut Daemon, table: &mut Table) {
    let mut times = Vec::new();
    for _ in 0..PAIRS {
        daemon.sigterm().await;
        let begun = Instant::now();
        daemon.launch();
        let socket = daemon.home().socket();
        while !http::send(&socket, Call::get("/api/health")).await.is_ok_and(|reply| reply.status == 200) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        times.push(ms(begun.elapsed()));
    }
    let what = format!("exec to first 200, {KNOWN} agents known");
    table.figure(7, &what, median(times), "ms", Target::AtMost(100.0));
}

/// Resident memory of a process in MiB.
pub fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process that runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number of kB") / 1024.0
}

pub async fn idle_memory(daemon: &Daemon, table: &mut Table) {
    daemon.quiet().await;
    let what = format!("RSS idle, {KNOWN} agents known");
    table.figure(8, &what, resident(daemon.pid().expect("it runs")), "MiB", Target::AtMost(30.0));
}

pub async fn with_running_agents(daemon: &Daemon, table: &mut Table) {
    let names: Vec<String> = (0..RUNNING).map(|number| format!("busy-{number}")).collect();
    let begun = Instant::now();
    let all = stream::iter(&names).for_each_concurrent(None, async |name| {
        daemon.provision(name).await;
    });
    all.await;
    for name in &names {
        daemon.wait_phase(name, Phase::Running, SOON).await;
    }
    let rate = names.len() as f64 / begun.elapsed().as_secs_f64();
    table.note(2, &format!("{RUNNING} provisions asked for at once"), format!("{rate:.1} agents/s"));
    let what = format!("RSS, {RUNNING} agents run, {KNOWN} more known");
    table.note(8, &what, format!("{:.1} MiB", resident(daemon.pid().expect("it runs"))));
    // One that nobody asked anything of for a while.
    let inspected = daemon.inspect(&names[0]).await;
    let pid = inspected["State"]["Pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a pid");
    table.figure(15, "RSS of an idle agent", resident(pid), "MiB", Target::AtMost(4.0));
}

fn whole_process(mut command: Command) -> f64 {
    let begun = Instant::now();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let time = ms(begun.elapsed());
    assert!(status.expect("the program can be started").success(), "{command:?} failed");
    time
}

pub async fn list_against_docker_ps(daemon: &Daemon, table: &mut Table) {
    let mut pairs = Pairs::default();
    if Command::new("docker").arg("--version").stdout(Stdio::null()).status().is_err() {
        table.note(6, "list against docker ps", "no docker program here".to_owned());
        return;
    }
    // The same number on both sides: docker does not know the agents that have no container.
    for number in 0..KNOWN {
        daemon.call(Call::delete(format!("/api/instance/known-{number}?purge=true")).respond_async()).await.expect(202);
    }
    daemon.quiet().await;
    assert_eq!(daemon.agents().await.len(), RUNNING);
    for _ in 0..PAIRS {
        let mut list = Command::new(ctl_binary());
        list.arg("list").env("AGENTBOT_SOCKET", daemon.home().socket());
        let mut ps = Command::new("docker");
        ps.args(["--host", &format!("unix://{}", daemon.engine().socket().display()), "ps"]);
        // Whole processes, off the runtime's threads.
        let pair = tokio::task::spawn_blocking(|| (whole_process(list), whole_process(ps))).await;
        let (ours, theirs) = pair.expect("both ran");
        pairs.add(ours, theirs);
    }
    let what = format!("list of {RUNNING} agents, whole process");
    let yardstick = format!("docker ps of {RUNNING}");
    table.ratio(6, &what, "ms", pairs, &yardstick, Target::AtMost(0.2));
}
