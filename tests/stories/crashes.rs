//! Agents that end unasked, hang, or are frozen.

use std::time::{Duration, Instant};

use agentbot_tests::{Daemon, Setup, eventually};
use agentbot_wire::Phase;

const SOON: Duration = Duration::from_secs(60);

/// Kills an agent's process, once there is one, and waits until the daemon has counted it.
async fn crash(daemon: &Daemon, name: &str) {
    let before = daemon.agent(name).await.health.crashes;
    eventually("a process to kill", SOON, async || {
        let Some(container) = daemon.agent(name).await.container else { return Err("no container".to_owned()) };
        let path = format!("/containers/{}/kill?signal=KILL", container.id);
        let reply = daemon.engine().try_call("POST", &path, None).await?;
        if reply.status == 204 { Ok(()) } else { Err(reply.to_string()) }
    })
    .await;
    daemon.wait_agent(name, "a crash more", SOON, |now| now.health.crashes > before).await;
}

/// Waits until an agent's container was started again after this time.
async fn started_again(daemon: &Daemon, name: &str, before: &str) {
    eventually("another start", SOON, async || {
        let state = daemon.inspect(name).await["State"].clone();
        let again = state["Running"] == true && state["StartedAt"] != before;
        if again { Ok(()) } else { Err(state.to_string()) }
    })
    .await;
    daemon.wait_phase(name, Phase::Running, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_crash_is_answered_at_once() {
    let daemon = Daemon::start(Setup::new().set("restart.base", "\"30s\"").set("restart.max", "\"60s\"")).await;
    daemon.running("helper").await;
    let before = daemon.started_at("helper").await;

    let begun = Instant::now();
    crash(&daemon, "helper").await;
    started_again(&daemon, "helper", &before).await;

    assert!(begun.elapsed() < Duration::from_secs(15), "no pause before the first restart: {:?}", begun.elapsed());
    let health = daemon.agent("helper").await.health;
    assert!(health.last_lines.is_some_and(|lines| !lines.is_empty()), "its last words are shown");
    let cause = health.last_crash.expect("a cause");
    assert!(cause.contains("137") || cause.contains("SIGKILL") || cause.contains("signal 9"), "{cause}");
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_crash_waits_for_its_pause() {
    let daemon = Daemon::start(Setup::new().set("restart.base", "\"20s\"").set("restart.max", "\"60s\"")).await;
    daemon.running("helper").await;
    crash(&daemon, "helper").await;
    crash(&daemon, "helper").await;

    let view = daemon.wait_agent("helper", "a pause", SOON, |view| view.health.next_start.is_some()).await;
    assert_ne!(view.phase, Phase::Running);

    let begun = Instant::now();
    daemon.act("helper", "start").await;
    assert!(begun.elapsed() < Duration::from_secs(15), "start does not wait for the pause: {:?}", begun.elapsed());
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_crashes_are_a_crash_loop_that_goes_on_trying_and_ends_with_start() {
    let daemon = Daemon::start(Setup::new().set("restart.base", "\"50ms\"").set("restart.max", "\"100ms\"")).await;
    daemon.running("helper").await;

    for _ in 0..5 {
        crash(&daemon, "helper").await;
    }

    let view = daemon.wait_phase("helper", Phase::CrashLoop, SOON).await;
    assert!(view.reason.is_some() && view.health.crashes >= 5, "{view:?}");
    daemon.wait_agent("helper", "another try", SOON, |view| view.health.process == Some(true)).await;
    daemon.act("helper", "start").await;
    daemon.wait_phase("helper", Phase::Running, SOON).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_hangs_is_unhealthy_and_then_restarted() {
    let daemon = Daemon::start(Setup::new()).await;
    let view = daemon.running("helper").await;
    let before = daemon.started_at("helper").await;

    daemon.engine().kill(&view.container.unwrap().id, "STOP").await;

    daemon.wait_phase("helper", Phase::Unhealthy, SOON).await;
    started_again(&daemon, "helper", &before).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_frozen_by_hand_runs_again() {
    let daemon = Daemon::start(Setup::new()).await;
    let view = daemon.running("helper").await;

    daemon.engine().pause(&view.container.unwrap().id).await;

    eventually("an unfrozen container", SOON, async || {
        let state = daemon.inspect("helper").await["State"].clone();
        if state["Paused"] == false && state["Running"] == true { Ok(()) } else { Err(state.to_string()) }
    })
    .await;
    daemon.wait_phase("helper", Phase::Running, SOON).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_ended_while_the_daemon_was_away_is_started_again() {
    let mut daemon = Daemon::start(Setup::new()).await;
    let view = daemon.running("helper").await;
    let before = daemon.started_at("helper").await;
    daemon.kill9().await;
    daemon.engine().kill(&view.container.unwrap().id, "KILL").await;

    daemon.restart().await;

    started_again(&daemon, "helper", &before).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_stopped_by_hand_is_running_again_as_wanted() {
    let daemon = Daemon::start(Setup::new()).await;
    let view = daemon.running("helper").await;
    let before = daemon.started_at("helper").await;

    daemon.engine().stop(&view.container.unwrap().id).await;

    started_again(&daemon, "helper", &before).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_connection_is_taken_over_and_dropped_is_neither_killed_nor_counted_as_crashed() {
    let daemon = Daemon::start(Setup::new().set("beat.hello_timeout", "\"300ms\"")).await;
    let view = daemon.running("helper").await;
    let before = daemon.started_at("helper").await;
    let run = daemon.home().state().join("slots").join(view.slot.as_str()).join("run");
    let nonce = std::fs::read_to_string(run.join("nonce")).unwrap();
    let uid = std::os::unix::fs::MetadataExt::gid(&run.metadata().unwrap());

    for _ in 0..3 {
        let mut other = agentbot_tests::FakeAgent::connect(&run, uid, uid, &nonce).await.unwrap();
        other.hello(&nonce).await.unwrap();
        // The agent itself may have come back already, and taken the connection over.
        let _ = other.beat().await;
        drop(other);
    }

    let back = daemon.wait_agent("helper", "its own connection", SOON, |view| {
        view.phase == Phase::Running && view.health.link && view.openclaw_version.as_deref() == Some("0.1.0")
    });
    assert_eq!(back.await.health.crashes, 0);
    assert_eq!(daemon.started_at("helper").await, before, "it was not started again");
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exits_that_nobody_saw_are_not_held_against_the_agent() {
    let mut daemon = Daemon::start(Setup::new()).await;
    let view = daemon.running("helper").await;
    let before = daemon.started_at("helper").await;
    daemon.kill9().await;
    daemon.engine().stop(&view.container.unwrap().id).await;

    daemon.restart().await;

    started_again(&daemon, "helper", &before).await;
    assert_eq!(daemon.agent("helper").await.health.crashes, 0);
    daemon.finish().await;
}
