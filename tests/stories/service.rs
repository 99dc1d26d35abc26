//! The daemon as a service: it says how it is, and ends when asked.

use std::time::Duration;

use agentbot_tests::{Call, Daemon, Engine, EngineProxy, Fault, Home, NotifySocket, Setup, http};
use agentbot_wire::{Operation, Phase};

const SOON: Duration = Duration::from_secs(60);
const DRAIN: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_hears_ready_watchdog_and_stopping() {
    let home = Home::new();
    let notify = NotifySocket::bind(&home.path().join("notify"));
    let setup = Setup::new().env("NOTIFY_SOCKET", notify.address()).env("WATCHDOG_USEC", "1000000");
    let mut daemon = Daemon::start_in(home, setup).await;

    notify.wait_for("READY=1", SOON).await;
    notify.wait_for("WATCHDOG=1", SOON).await;
    notify.wait_for("WATCHDOG=1", SOON).await;
    daemon.sigterm().await;
    notify.wait_for("STOPPING=1", SOON).await;

    daemon.change(|setup| setup.without_env("NOTIFY_SOCKET").without_env("WATCHDOG_USEC"));
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_core_file_carries_the_key() {
    let nowhere = Setup::new().engine(std::path::Path::new("/nonexistent/engine.sock"));
    let daemon = Daemon::start(nowhere).await;

    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid().unwrap())).unwrap();

    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    daemon.abandon().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_grace_for_stops_leaves_running_agents_alone() {
    let mut daemon = Daemon::start(Setup::new()).await;
    daemon.running("helper").await;
    let (before, container) = (daemon.started_at("helper").await, daemon.container("helper").await.id);

    daemon.sigterm().await;
    daemon.restart_with(|setup| setup.set("restart.stop_grace", "\"7s\"")).await;
    daemon.wait_phase("helper", Phase::Running, SOON).await;
    daemon.act("helper", "start").await;

    assert_eq!((daemon.started_at("helper").await, daemon.container("helper").await.id), (before, container));
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_is_said_while_the_engine_is_away() {
    let home = Home::new();
    let notify = NotifySocket::bind(&home.path().join("notify"));
    let nowhere = home.path().join("no-engine.sock");
    let setup = Setup::new().env("NOTIFY_SOCKET", notify.address()).env("WATCHDOG_USEC", "1000000").engine(&nowhere);
    let daemon = Daemon::start_in(home, setup).await;

    notify.wait_for("READY=1", SOON).await;
    notify.wait_for("WATCHDOG=1", SOON).await;

    daemon.abandon().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_ends_leaves_its_agents_running() {
    let mut daemon = Daemon::start(Setup::new()).await;
    daemon.running("helper").await;
    let before = daemon.started_at("helper").await;
    let id = daemon.container("helper").await.id;

    let exited = daemon.sigterm().await;

    assert!(exited.status.success() && exited.after < DRAIN, "{exited:?}");
    assert_eq!(daemon.engine().inspect(&id).await.unwrap()["State"]["Running"], true);
    assert!(!daemon.home().socket().exists(), "its own door is gone");
    daemon.restart().await;
    daemon.wait_phase("helper", Phase::Running, SOON).await;
    assert_eq!(daemon.started_at("helper").await, before);
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_hangs_does_not_hold_up_the_end_and_is_resumed() {
    let home = Home::new();
    let machine = Engine::of_machine();
    let proxy = EngineProxy::start(&home.path().join("engine.sock"), machine.socket());
    let mut daemon = Daemon::start_in(home, Setup::new().engine(proxy.socket())).await;
    daemon.look_at(machine);
    let rule = proxy.on("POST", "/containers/create", 1, Fault::HangAfter);
    let accepted = daemon.provision("helper").await;
    rule.met(1, SOON).await;

    let exited = daemon.sigterm().await;
    assert!(exited.status.success() && exited.after < DRAIN, "{exited:?}");
    rule.release();
    daemon.restart().await;

    daemon.succeeded(&accepted.operation.id).await;
    daemon.wait_phase("helper", Phase::Running, SOON).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_is_answered_when_the_daemon_ends() {
    let home = Home::new();
    let nowhere = home.path().join("no-engine.sock");
    let mut daemon = Daemon::start_in(home, Setup::new().engine(&nowhere)).await;
    let accepted = daemon.provision("helper").await;
    let socket = daemon.home().socket();
    let wait = format!("/api/operations/{}/wait?timeout=120", accepted.operation.id);
    // The second request of a connection that ends is not begun.
    let two =
        format!("GET {wait} HTTP/1.1\r\nHost: x\r\n\r\nPOST /api/instance/helper/stop HTTP/1.1\r\nHost: x\r\n\r\n");
    let stalled = b"POST /api/agents/provision HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{";

    let end = async {
        // Nothing tells when a request is being waited on; one that is not yet is answered at once all the same.
        tokio::time::sleep(Duration::from_millis(500)).await;
        daemon.sigterm().await
    };
    let (waited, pipelined, stalled, exited) = tokio::join!(
        http::send(&socket, Call::get(wait.clone())),
        http::raw(&socket, two.as_bytes(), DRAIN),
        http::raw(&socket, stalled, DRAIN),
        end
    );

    assert!(exited.status.success() && exited.after < Duration::from_secs(5), "{exited:?}");
    let operation: Operation = waited.expect("an answer").expect(200).json();
    assert_eq!(operation.id, accepted.operation.id);
    assert!(!operation.status.is_ended(), "{operation:?}");
    let pipelined = String::from_utf8_lossy(&pipelined.unwrap()).into_owned();
    assert!(pipelined.starts_with("HTTP/1.1 200 ") && pipelined.matches("HTTP/1.1").count() == 1, "{pipelined}");
    assert_eq!(http::raw_status(&stalled.unwrap()), Some(503));
    daemon.restart().await;
    assert_eq!(daemon.operation(&accepted.operation.id).await.id, accepted.operation.id);
    daemon.abandon().await;
}
