//! Memory of agents, over HTTP.

use agentbot_tests::{Call, Daemon, Reply, Setup};
use agentbot_wire::{MAX_MEMORY_BULK, MAX_MEMORY_KEY, MAX_MEMORY_VALUE, MemoryView};
use serde_json::{Value, json};

async fn write(daemon: &Daemon, body: &Value) -> Reply {
    daemon.call(Call::post("/api/memory").json(body)).await
}

async fn memory(daemon: &Daemon, agent: &str) -> MemoryView {
    daemon.get(&format!("/api/memory?agentId={agent}")).await.expect(200).json()
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_written_read_and_outlives_the_daemon() {
    let mut daemon = Daemon::start(Setup::new()).await;
    daemon.get("/api/memory").await.expect_error(400, "invalid");
    let one = daemon.running("one").await.id;

    let saved = write(&daemon, &json!({"key": "colour", "memory": {"is": "green"}})).await.expect(200).value();
    assert_eq!(
        saved,
        json!({"success": true, "agentId": one, "key": "colour", "saved": true}),
        "the only agent is meant"
    );
    let saved = write(&daemon, &json!({"agentId": "one", "memory": {"a": 1, "b": [2]}})).await.expect(200).value();
    assert_eq!(saved, json!({"success": true, "agentId": one, "keysUpdated": 2, "saved": true}));

    daemon.running("two").await;
    let choices = daemon.get("/api/memory").await.expect_error(400, "invalid");
    assert!(choices["hint"].as_str().is_some_and(|hint| hint.contains("one, two")), "{choices}");
    assert_eq!(memory(&daemon, "two").await.count, 0);

    daemon.kill9().await;
    daemon.restart().await;
    let view = memory(&daemon, one.as_str()).await;
    assert_eq!((view.agent, view.count, view.last_updated.is_some()), (one, 3, true));
    assert_eq!(view.memory["colour"], json!({"is": "green"}));

    let forgotten =
        write(&daemon, &json!({"agentId": "one", "key": "colour", "memory": null})).await.expect(200).value();
    assert_eq!(forgotten["saved"], false);
    assert_eq!(memory(&daemon, "one").await.count, 2);

    daemon.delete_agent("one").await;
    daemon.get("/api/memory?agentId=one").await.expect_error(404, "not_found");
    write(&daemon, &json!({"agentId": "one", "key": "a", "memory": 1})).await.expect_error(404, "not_found");
    daemon.get("/api/memory?agentId=nobody").await.expect_error(404, "not_found");
    assert_eq!(daemon.get("/api/memory").await.expect(200).value()["count"], 0, "one living agent is left");
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_has_limits_on_both_sides() {
    let daemon = Daemon::start(Setup::new()).await;
    daemon.provision("one").await;
    let one = |key: &str, value: Value| json!({"key": key, "memory": value});
    let text = |bytes: usize| Value::String("v".repeat(bytes - 2));

    for (body, refusal) in [
        (one(&"k".repeat(MAX_MEMORY_KEY), text(MAX_MEMORY_VALUE)), None),
        (one(&"k".repeat(MAX_MEMORY_KEY + 1), json!(1)), Some((400, "invalid"))),
        (one("k", text(MAX_MEMORY_VALUE + 1)), Some((413, "too_large"))),
        (one("", json!(1)), Some((400, "invalid"))),
        (one("a\u{0}b", json!(1)), Some((400, "invalid"))),
        (json!({"memory": [1]}), Some((400, "invalid"))),
        (json!({}), Some((400, "invalid"))),
    ] {
        let reply = write(&daemon, &body).await;
        match refusal {
            None => drop(reply.expect(200)),
            Some((status, code)) => drop(reply.expect_error(status, code)),
        }
    }
    let some = |count: usize| json!({"memory": (0..count).map(|key| (key.to_string(), json!(key))).collect::<serde_json::Map<_, _>>()});
    write(&daemon, &some(MAX_MEMORY_BULK)).await.expect(200);
    write(&daemon, &some(MAX_MEMORY_BULK + 1)).await.expect_error(400, "limit_reached");
    assert_eq!(memory(&daemon, "one").await.count, MAX_MEMORY_BULK + 1);
    daemon.finish().await;
}
