//! Stop and delete win over what is under way.

use std::time::{Duration, Instant};

use agentbot_tests::{Call, Daemon, Engine, EngineProxy, Fault, Home, Rule, Scratch, Setup, agent_binary};
use agentbot_wire::{Operation, OperationStatus, Phase, ProvisionReply};
use serde_json::json;

const SOON: Duration = Duration::from_secs(60);
/// One second after the border of the step, and what a busy machine adds to it.
const AT_THE_NEXT_BORDER: Duration = Duration::from_secs(3);

/// A daemon that reaches the machine's engine through a proxy.
async fn proxied() -> (Daemon, EngineProxy) {
    let home = Home::new();
    let machine = Engine::of_machine();
    let proxy = EngineProxy::start(&home.path().join("engine.sock"), machine.socket());
    let mut daemon = Daemon::start_in(home, Setup::new().engine(proxy.socket())).await;
    daemon.look_at(machine);
    (daemon, proxy)
}

/// A daemon whose provision of `helper` hangs in the engine's create.
async fn hanging_provision() -> (Daemon, EngineProxy, Rule, ProvisionReply) {
    let (daemon, proxy) = proxied().await;
    let rule = proxy.on("POST", "/containers/create", 1, Fault::HangAfter);
    let accepted = daemon.provision("helper").await;
    rule.met(1, SOON).await;
    (daemon, proxy, rule, accepted)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_wins_over_a_hanging_provision_at_the_next_step() {
    let (daemon, proxy, rule, provision) = hanging_provision().await;

    let stop = daemon.begin("helper", "stop").await;
    let begun = Instant::now();
    rule.release();
    daemon.wait_phase("helper", Phase::Stopped, AT_THE_NEXT_BORDER).await;

    assert!(begun.elapsed() < AT_THE_NEXT_BORDER);
    daemon.succeeded(&stop.id).await;
    let lost = daemon.ended(&provision.operation.id, SOON).await;
    assert_eq!(lost.status, OperationStatus::Cancelled, "{lost:?}");
    assert_eq!(lost.error.map(|error| error.code), Some(agentbot_wire::Code::Superseded));
    assert!(proxy.calls("/start").is_empty(), "it was never started");
    daemon.act("helper", "start").await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_wins_over_a_hanging_provision_at_the_next_step() {
    let (daemon, proxy, rule, provision) = hanging_provision().await;

    let call = Call::delete("/api/instance/helper?purge=true").respond_async();
    daemon.call(call).await.expect(202);
    let begun = Instant::now();
    rule.release();
    agentbot_tests::eventually("the agent to be gone", AT_THE_NEXT_BORDER, async || {
        let reply = daemon.get("/api/instance/helper").await;
        if reply.status == 404 { Ok(()) } else { Err(reply.to_string()) }
    })
    .await;

    assert!(begun.elapsed() < AT_THE_NEXT_BORDER);
    let lost = daemon.ended(&provision.operation.id, SOON).await;
    assert_eq!(lost.status, OperationStatus::Cancelled, "{lost:?}");
    assert!(proxy.calls("/start").is_empty(), "it was never started");
    daemon.quiet().await;
    daemon.nothing_left().await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_does_not_win_over_a_hanging_stop() {
    let (daemon, proxy) = proxied().await;
    daemon.running("helper").await;
    let rule = proxy.on("POST", "/stop", 1, Fault::HangBefore);
    let stop = daemon.begin("helper", "stop").await;
    rule.met(1, SOON).await;

    let refused = daemon.call(Call::post("/api/instance/helper/start").respond_async()).await;

    refused.expect_error(409, "conflict");
    rule.release();
    daemon.succeeded(&stop.id).await;
    daemon.wait_phase("helper", Phase::Stopped, SOON).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hung_call_does_not_hold_up_other_agents() {
    let (daemon, _proxy, rule, _) = hanging_provision().await;

    daemon.running("other").await;
    daemon.act("other", "stop").await;

    assert_eq!(daemon.agent("helper").await.phase, Phase::Provisioning);
    rule.release();
    daemon.wait_phase("helper", Phase::Running, SOON).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_can_be_cancelled_by_its_caller_and_the_same_key_gets_the_same_answer() {
    let (daemon, _proxy, rule, provision) = hanging_provision().await;
    let path = format!("/api/operations/{}/cancel", provision.operation.id);
    let cancel = || Call::post(path.clone()).key("cancel-key");

    let strange = daemon.call(Call::post(path.clone()).json(&serde_json::json!({ "force": true }))).await;
    strange.expect_error(400, "invalid");
    let first: Operation = daemon.call(cancel()).await.expect(200).json();
    let again: Operation = daemon.call(cancel()).await.expect(200).json();

    assert_eq!((first.id.clone(), first.status), (provision.operation.id.clone(), OperationStatus::Cancelled));
    assert_eq!(again, first);
    daemon.post(&path).await.expect_error(409, "conflict");
    let other = Call::post("/api/instance/helper/stop").key("cancel-key");
    daemon.call(other).await.expect_error(422, "idempotency_mismatch");
    rule.release();
    let ended = daemon.ended(&provision.operation.id, SOON).await;
    assert_eq!(ended.status, OperationStatus::Cancelled, "{ended:?}");
    daemon.purge("helper").await;
    daemon.nothing_left().await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_hangs_holds_up_nobody() {
    let (daemon, proxy) = proxied().await;
    daemon.running("helper").await;
    let rule = proxy.on("GET", "/containers/json", usize::MAX, Fault::HangAfter);
    rule.met(1, SOON).await;

    let begun = Instant::now();
    daemon.act("helper", "stop").await;
    daemon.act("helper", "start").await;

    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    rule.release();
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_hardened_is_given_up_and_tried_at_leisure() {
    let (daemon, proxy) = proxied().await;
    let scratch = Scratch::on(daemon.engine());
    let reference = format!("{}:1", Scratch::name("volume"));
    scratch.import_changed(&reference, &agent_binary(), "program", &["ENTRYPOINT /program", "VOLUME /data"]).await;

    let reply = daemon.try_provision(&json!({ "name": "helper", "image": reference })).await.expect(201);
    let operation: ProvisionReply = serde_json::from_value(reply.value()).unwrap();
    let failed = daemon.ended(&operation.operation.id, SOON).await;

    assert_eq!(failed.error.map(|error| error.code), Some(agentbot_wire::Code::NotHardened));
    let before = proxy.calls("/containers/create").len();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let tries = proxy.calls("/containers/create").len() - before;
    assert!(tries <= 6, "{tries} tries in five seconds");
    daemon.purge("helper").await;
    drop(scratch);
    daemon.nothing_left().await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_missing_at_its_start_fails_no_operation() {
    let (daemon, proxy) = proxied().await;
    let rule = proxy.on("POST", "/start", 1, Fault::Status(404));

    let accepted = daemon.provision("helper").await;
    rule.met(1, SOON).await;

    daemon.succeeded(&accepted.operation.id).await;
    daemon.wait_phase("helper", Phase::Running, SOON).await;
    daemon.finish().await;
}
