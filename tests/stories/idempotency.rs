//! One key, one operation.

use agentbot_tests::{Call, Daemon, Setup};
use agentbot_wire::{LifecycleReply, Phase, ProvisionReply};
use futures_util::future::join_all;
use serde_json::json;
use std::time::Duration;

fn provision(key: &str, name: &str) -> Call {
    Call::post("/api/agents/provision").key(key).json(&json!({ "name": name }))
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_equal_requests_at_once_make_one_agent() {
    let daemon = Daemon::start(Setup::new()).await;

    let replies = join_all((0..64).map(|_| daemon.call(provision("the-key", "helper")))).await;

    let accepted: Vec<ProvisionReply> = replies.into_iter().map(|reply| reply.expect(201).json()).collect();
    assert!(accepted.iter().all(|reply| reply.operation.id == accepted[0].operation.id));
    assert!(accepted.iter().all(|reply| reply.agent.id == accepted[0].agent.id));
    assert_eq!(daemon.agents().await.len(), 1);
    daemon.wait_phase("helper", Phase::Running, Duration::from_secs(60)).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_another_request_is_refused_and_changes_nothing() {
    let daemon = Daemon::start(Setup::new()).await;
    daemon.call(provision("the-key", "helper")).await.expect(201);

    let reply = daemon.call(provision("the-key", "other")).await;

    reply.expect_error(422, "idempotency_mismatch");
    assert_eq!(daemon.agents().await.len(), 1);
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_outlives_the_daemon_that_took_it() {
    let mut daemon = Daemon::start(Setup::new()).await;
    let first: ProvisionReply = daemon.call(provision("the-key", "helper")).await.expect(201).json();
    daemon.succeeded(&first.operation.id).await;

    daemon.kill9().await;
    daemon.restart().await;

    let again: ProvisionReply = daemon.call(provision("the-key", "helper")).await.expect(201).json();
    assert_eq!(again.operation.id, first.operation.id);
    let stop = || Call::post("/api/instance/helper/stop").key("stop-key").respond_async();
    let one: LifecycleReply = daemon.call(stop()).await.expect(202).json();
    let two: LifecycleReply = daemon.call(stop()).await.json();
    assert_eq!(one.operation.id, two.operation.id);
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_its_longest_length() {
    let daemon = Daemon::start(Setup::new()).await;

    daemon.call(provision(&"k".repeat(255), "helper")).await.expect(201);
    let reply = daemon.call(provision(&"k".repeat(256), "other")).await;

    reply.expect_error(400, "invalid");
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_purge_is_answered_as_the_first_was() {
    let mut daemon = Daemon::start(Setup::new()).await;
    daemon.running("helper").await;
    let purge = || Call::delete("/api/instance/helper?purge=true").key("purge-key");

    let first: LifecycleReply = daemon.call(purge()).await.expect(200).json();
    let again: LifecycleReply = daemon.call(purge()).await.expect(200).json();
    daemon.kill9().await;
    daemon.restart().await;
    let later: LifecycleReply = daemon.call(purge()).await.expect(200).json();
    let unwaited: LifecycleReply = daemon.call(purge().respond_async()).await.expect(202).json();

    for reply in [&again, &later] {
        assert_eq!(reply.operation, first.operation);
        assert_eq!((reply.success, reply.status), (true, first.status));
    }
    assert_eq!(unwaited.operation.id, first.operation.id);
    daemon.delete("/api/instance/helper?purge=true").await.expect_error(404, "not_found");
    daemon.nothing_left().await;
    daemon.finish().await;
}
