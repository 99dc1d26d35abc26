//! `kill -9` of the daemon at each border of each step, then another start.

use std::process::Command;
use std::time::Duration;

use agentbot_tests::{Call, Daemon, Setup, daemon_binary, http};
use agentbot_wire::Phase;
use serde_json::json;

const SOON: Duration = Duration::from_secs(60);
const WITNESS: &str = "witness";

/// The daemon's own list of fault points, those of one kind of operation.
fn points(kind: &str) -> Vec<String> {
    let output = Command::new(daemon_binary()).arg("fault-points").output().expect("the daemon can be started");
    assert!(output.status.success(), "built without the feature `fault`: {}", String::from_utf8_lossy(&output.stderr));
    let list = String::from_utf8(output.stdout).expect("a list of words");
    list.lines().filter(|point| point.split('.').next() == Some(kind)).map(str::to_owned).collect()
}

#[test]
fn there_are_at_least_twelve_points_and_some_in_each_kind() {
    let kinds = ["provision", "start", "stop", "delete"];
    assert!(kinds.iter().all(|kind| !points(kind).is_empty()));
    assert!(kinds.iter().map(|kind| points(kind).len()).sum::<usize>() >= 12);
}

/// The one point before the operation is committed: whoever asked was never answered, and nothing has changed.
fn is_before_commit(point: &str) -> bool {
    point.ends_with(".accept.before")
}

/// What leads up to an operation, the operation, and what must be true once the daemon is back.
struct Plot {
    kind: &'static str,
    before: Before,
    call: fn(&str) -> Call,
    after: Phase,
}

enum Before {
    Running,
    Stopped,
    Deleted,
}

async fn survive(plot: Plot) {
    let mut daemon = Daemon::start(Setup::new()).await;
    daemon.running(WITNESS).await;
    let witnessed = daemon.started_at(WITNESS).await;
    for (number, point) in points(plot.kind).iter().enumerate() {
        let name = format!("agent-{number}");
        if plot.kind != "provision" {
            daemon.running(&name).await;
        }
        match plot.before {
            Before::Running => {}
            Before::Stopped => drop(daemon.act(&name, "stop").await),
            Before::Deleted => drop(daemon.delete_agent(&name).await),
        }
        daemon.kill9().await;
        daemon.restart_with(|setup| setup.fail_at(point)).await;

        // Whether the answer comes before the end is up to chance.
        let _ = http::send(&daemon.home().socket(), (plot.call)(&name).respond_async()).await;
        assert!(daemon.dies_at(point).await, "{point} was passed by");
        daemon.restart_with(Setup::without_faults).await;
        daemon.engine_reached().await;

        daemon.quiet().await;
        let committed = !is_before_commit(point);
        let exists = daemon.get(&format!("/api/instance/{name}")).await.status == 200;
        assert_eq!(exists, committed || plot.kind != "provision", "{point}");
        if committed {
            daemon.wait_phase(&name, plot.after, SOON).await;
        }
        daemon.invariants().await;
        assert_eq!(daemon.started_at(WITNESS).await, witnessed, "{point} restarted a bystander");
        if exists {
            daemon.purge(&name).await;
        }
    }
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provision_survives_the_daemons_death_at_every_point() {
    let call = |name: &str| Call::post("/api/agents/provision").json(&json!({ "name": name }));
    survive(Plot { kind: "provision", before: Before::Running, call, after: Phase::Running }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_survives_the_daemons_death_at_every_point() {
    let call = |name: &str| Call::post(format!("/api/instance/{name}/start"));
    survive(Plot { kind: "start", before: Before::Stopped, call, after: Phase::Running }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_survives_the_daemons_death_at_every_point() {
    let call = |name: &str| Call::post(format!("/api/instance/{name}/stop"));
    survive(Plot { kind: "stop", before: Before::Running, call, after: Phase::Stopped }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_survives_the_daemons_death_at_every_point() {
    let call = |name: &str| Call::post(format!("/api/instance/{name}/restart"));
    survive(Plot { kind: "restart", before: Before::Running, call, after: Phase::Running }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_survives_the_daemons_death_at_every_point() {
    let call = |name: &str| Call::post(format!("/api/instance/{name}/repair"));
    survive(Plot { kind: "repair", before: Before::Running, call, after: Phase::Running }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_survives_the_daemons_death_at_every_point() {
    let call = |name: &str| Call::delete(format!("/api/instance/{name}"));
    survive(Plot { kind: "delete", before: Before::Running, call, after: Phase::Deleted }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undelete_survives_the_daemons_death_at_every_point() {
    let call = |name: &str| Call::post(format!("/api/instance/{name}/undelete"));
    survive(Plot { kind: "undelete", before: Before::Deleted, call, after: Phase::Running }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_survives_the_daemons_death_at_every_point() {
    let mut daemon = Daemon::start(Setup::new()).await;
    daemon.running(WITNESS).await;
    let witnessed = daemon.started_at(WITNESS).await;
    for (number, point) in points("purge").iter().enumerate() {
        let name = format!("agent-{number}");
        daemon.running(&name).await;
        daemon.kill9().await;
        daemon.restart_with(|setup| setup.fail_at(point)).await;

        let call = Call::delete(format!("/api/instance/{name}?purge=true")).respond_async();
        let _ = http::send(&daemon.home().socket(), call).await;
        assert!(daemon.dies_at(point).await, "{point} was passed by");
        daemon.restart_with(Setup::without_faults).await;
        daemon.engine_reached().await;

        daemon.quiet().await;
        if is_before_commit(point) {
            daemon.purge(&name).await;
        }
        daemon.get(&format!("/api/instance/{name}")).await.expect_error(404, "not_found");
        assert_eq!(daemon.started_at(WITNESS).await, witnessed, "{point} restarted a bystander");
    }
    daemon.purge(WITNESS).await;
    daemon.nothing_left().await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_daemon_again_and_again_leaves_running_agents_alone() {
    let mut daemon = Daemon::start(Setup::new()).await;
    daemon.running(WITNESS).await;
    let witnessed = daemon.started_at(WITNESS).await;

    for _ in 0..5 {
        daemon.kill9().await;
        daemon.restart().await;
    }

    daemon.wait_phase(WITNESS, Phase::Running, SOON).await;
    assert_eq!(daemon.started_at(WITNESS).await, witnessed);
    daemon.finish().await;
}
