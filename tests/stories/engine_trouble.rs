//! An engine that goes, lies, breaks off or is too old; containers of somebody else.

use std::time::Duration;

use agentbot_tests::{Call, Daemon, Engine, EngineProxy, Fault, Home, Scratch, Setup, eventually, syscalls_binary};
use agentbot_wire::{LifecycleReply, Phase};
use serde_json::json;

const SOON: Duration = Duration::from_secs(60);

async fn behind_proxy() -> (Daemon, EngineProxy) {
    let home = Home::new();
    let machine = Engine::of_machine();
    let proxy = EngineProxy::start(&home.path().join("engine.sock"), machine.socket());
    let mut daemon = Daemon::start_in(home, Setup::new().engine(proxy.socket())).await;
    daemon.look_at(machine);
    (daemon, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_engine_is_away_a_call_is_kept_and_done_later() {
    let (daemon, mut proxy) = behind_proxy().await;
    daemon.running("helper").await;
    let before = daemon.started_at("helper").await;
    proxy.down();
    eventually("the daemon to notice", SOON, async || {
        let health = daemon.get("/api/health").await.expect(200).value();
        if health["engine"]["available"] == false { Ok(()) } else { Err(health.to_string()) }
    })
    .await;

    let reply = daemon.post("/api/instance/helper/stop").await.expect(202);
    let stop: LifecycleReply = reply.json();
    assert_eq!(reply.header("location"), Some(format!("/api/operations/{}", stop.operation.id).as_str()));
    let new = daemon.try_provision(&json!({ "name": "new" })).await;
    assert!(matches!(new.status, 201 | 202), "{new}");
    assert_eq!(daemon.started_at("helper").await, before, "nothing happened yet");
    proxy.up();

    daemon.succeeded(&stop.operation.id).await;
    assert_eq!(daemon.agent("helper").await.phase, Phase::Stopped);
    daemon.wait_phase("new", Phase::Running, SOON).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_started_before_its_engine_serves_and_catches_up() {
    let home = Home::new();
    let machine = Engine::of_machine();
    let mut proxy = EngineProxy::start(&home.path().join("engine.sock"), machine.socket());
    proxy.down();
    let mut daemon = Daemon::start_in(home, Setup::new().engine(proxy.socket())).await;
    daemon.look_at(machine);

    let health = daemon.get("/api/health").await.expect(200).value();
    assert_eq!(health["engine"]["available"], false, "{health}");
    let accepted = daemon.try_provision(&json!({ "name": "helper" })).await;
    assert!(matches!(accepted.status, 201 | 202), "{accepted}");
    proxy.up();

    daemon.wait_phase("helper", Phase::Running, SOON).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_fault_in_any_call_of_a_provision_costs_time_and_nothing_else() {
    let (daemon, proxy) = behind_proxy().await;
    daemon.running("first").await;
    let faults = || {
        [
            Fault::DropReply,
            Fault::Status(500),
            Fault::Truncate,
            Fault::Answer("{\"Id\": 7, [".to_owned()),
            Fault::Answer("<html>nonsense</html>".to_owned()),
            Fault::Answer("{}".to_owned()),
        ]
    };

    for (method, path) in [("POST", "/containers/create"), ("POST", "/start"), ("GET", "/json")] {
        for (number, fault) in faults().into_iter().enumerate() {
            let name = format!("agent-{number}");
            let shown = format!("{method} {path} {fault:?}");
            let rule = proxy.on(method, path, 1, fault);
            daemon.provision(&name).await;
            rule.met(1, SOON).await;
            let view = daemon.wait_phase(&name, Phase::Running, SOON).await;
            assert!(view.container.is_some(), "{shown}");
            daemon.invariants().await;
            daemon.purge(&name).await;
        }
    }
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_fault_in_any_call_of_a_stop_or_removal_costs_time_and_nothing_else() {
    let (daemon, proxy) = behind_proxy().await;

    for (method, path) in [("POST", "/stop"), ("DELETE", "/containers/")] {
        for fault in [Fault::DropReply, Fault::Status(500)] {
            daemon.running("helper").await;
            let rule = proxy.on(method, path, 1, fault);
            daemon.purge("helper").await;
            rule.met(1, SOON).await;
            daemon.nothing_left().await;
        }
    }
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_talks_nonsense_all_the_time_harms_no_agent() {
    let (daemon, proxy) = behind_proxy().await;
    daemon.running("helper").await;
    let before = daemon.started_at("helper").await;
    let container = daemon.container("helper").await.id;

    let rules = [Fault::Answer("[]".to_owned()), Fault::Answer("{\"Id\":".to_owned())]
        .map(|fault| proxy.always("GET", "/json", fault));
    rules[0].met(5, SOON).await;
    rules[0].release();
    rules[1].met(5, SOON).await;
    rules[1].release();

    daemon.wait_phase("helper", Phase::Running, SOON).await;
    assert_eq!(daemon.container("helper").await.id, container, "an empty list is no proof that a container is gone");
    assert_eq!(daemon.started_at("helper").await, before);
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_too_old_is_said_to_be_so() {
    let home = Home::new();
    let machine = Engine::of_machine();
    let proxy = EngineProxy::start(&home.path().join("engine.sock"), machine.socket());
    let rule = proxy.always("GET", "/version", Fault::Rewrite("/ApiVersion".to_owned(), json!("1.40")));
    let mut daemon = Daemon::start_in(home, Setup::new().engine(proxy.socket())).await;
    daemon.look_at(machine);

    let said = eventually("the engine's version to be refused", SOON, async || {
        let health = daemon.get("/api/health").await.expect(200).value();
        let error = health["engine"]["error"].as_str().unwrap_or_default().to_owned();
        if error.contains("1.41") { Ok(health) } else { Err(health.to_string()) }
    })
    .await;
    assert_eq!(said["engine"]["available"], false);
    let accepted = daemon.try_provision(&json!({ "name": "helper" })).await;
    assert!(matches!(accepted.status, 201 | 202), "{accepted}");
    assert!(proxy.calls("/containers/create").is_empty(), "nothing is made on an engine too old");
    rule.release();

    daemon.wait_phase("helper", Phase::Running, SOON).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_hangs_ends_at_its_deadline() {
    let home = Home::new();
    let machine = Engine::of_machine();
    let proxy = EngineProxy::start(&home.path().join("engine.sock"), machine.socket());
    let setup = Setup::new()
        .engine(proxy.socket())
        .set("engine.create_timeout", "\"2s\"")
        .set("engine.start_timeout", "\"2s\"")
        .set("engine.call_timeout", "\"2s\"");
    let mut daemon = Daemon::start_in(home, setup).await;
    daemon.look_at(machine);
    let rule = proxy.on("POST", "/containers/create", 1, Fault::HangAfter);

    daemon.provision("helper").await;

    rule.met(1, SOON).await;
    daemon.wait_phase("helper", Phase::Running, SOON).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_container_with_our_name_is_reported_and_never_touched() {
    let (daemon, proxy) = behind_proxy().await;
    let scratch = Scratch::on(&Engine::of_machine());
    let image = scratch.import("agentbot-test/foreign:1", &syscalls_binary()).await;
    let rule = proxy.on("POST", "/containers/create", 1, Fault::HangBefore);
    daemon.provision("helper").await;
    let call = rule.met(1, SOON).await;
    let name = call.split("name=").nth(1).expect("a name is asked for").split('&').next().unwrap().to_owned();
    assert!(name.starts_with("ab-slt_"), "{name}");

    let foreign = scratch.create(&name, &Scratch::program(&image)).await;
    rule.release();

    let view = daemon
        .wait_agent("helper", "a way around or an error", SOON, |view| {
            view.phase == Phase::Running || view.reason.as_ref().is_some_and(|reason| reason.contains(&name))
        })
        .await;
    assert!(daemon.engine().inspect(&foreign).await.is_some(), "it is somebody else's");
    if view.phase != Phase::Running {
        daemon.engine().remove(&foreign).await;
        daemon.act("helper", "repair").await;
        daemon.wait_phase("helper", Phase::Running, SOON).await;
    }
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_copies_our_labels_is_reported_and_never_touched() {
    let daemon = Daemon::start(Setup::new()).await;
    daemon.running("helper").await;
    let ours = daemon.inspect("helper").await;
    let scratch = Scratch::on(daemon.engine());
    let image = scratch.import("agentbot-test/copied:1", &syscalls_binary()).await;
    let mut body = Scratch::program(&image);
    body["Labels"] = ours["Config"]["Labels"].clone();
    let copy = scratch.create(&Scratch::name("copied"), &body).await;

    eventually("the copy to be reported", SOON, async || {
        let unknown = daemon.status().await.unknown_containers;
        let named = |text: &String| {
            copy.starts_with(text.as_str()) || text.contains("abtest-copied") || text.contains(&copy[..12])
        };
        if unknown.iter().any(named) { Ok(()) } else { Err(format!("{unknown:?}")) }
    })
    .await;
    daemon.act("helper", "restart").await;
    daemon.act("helper", "repair").await;

    assert!(daemon.engine().inspect(&copy).await.is_some());
    daemon.purge("helper").await;
    assert!(daemon.engine().inspect(&copy).await.is_some());
    drop(scratch);
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_beside_running_agents_removes_none_of_them() {
    let mut daemon = Daemon::start(Setup::new()).await;
    daemon.running("helper").await;
    let container = daemon.container("helper").await.id;
    daemon.sigterm().await;
    for file in ["agentbot.db", "agentbot.db-wal", "agentbot.db-shm"] {
        let path = daemon.home().state().join(file);
        if path.exists() {
            std::fs::rename(&path, daemon.home().path().join(file)).unwrap();
        }
    }

    daemon.restart().await;
    daemon.call(Call::get("/api/agents")).await.expect(200);

    let kept = daemon.engine().inspect(&container).await.expect("never destroyed on doubt");
    assert_eq!(kept["State"]["Running"], true);
    daemon.abandon().await;
}
