//! An agent from provision to purge.

use agentbot_tests::{Call, Daemon, Setup};
use agentbot_wire::{Phase, ProvisionReply};
use futures_util::future::join_all;
use serde_json::json;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn ten_agents_asked_for_at_once_all_run() {
    let daemon = Daemon::start(Setup::new()).await;
    let names: Vec<String> = (0..10).map(|number| format!("agent-{number}")).collect();

    join_all(names.iter().map(|name| daemon.provision(name))).await;

    join_all(names.iter().map(|name| daemon.wait_phase(name, Phase::Running, SOON * 2))).await;
    assert_eq!(daemon.agents().await.len(), 10);
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn running_means_that_the_agent_itself_said_so() {
    let daemon = Daemon::start(Setup::new()).await;

    let accepted: ProvisionReply = daemon.provision("helper").await;

    assert_eq!(accepted.agent.status, Phase::Provisioning);
    let done = daemon.succeeded(&accepted.operation.id).await;
    assert!(
        (done.progress - 1.0).abs() < f64::EPSILON && done.steps.iter().any(|step| step.name == "hello"),
        "{done:?}"
    );
    let view = daemon.agent("helper").await;
    assert_eq!((view.phase, view.health.process, view.health.link), (Phase::Running, Some(true), true));
    assert!(view.health.last_beat.is_some() && view.openclaw_version.is_some(), "{view:?}");
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_start_and_restart_keep_the_workspace() {
    let daemon = Daemon::start(Setup::new()).await;
    daemon.running("helper").await;
    let note = daemon.workspace_file("helper", "note").await;
    std::fs::write(&note, "keep me").unwrap();

    assert_eq!(daemon.act("helper", "stop").await["status"], "stopped");
    assert_eq!(daemon.inspect("helper").await["State"]["Running"], false);
    assert_eq!(daemon.act("helper", "start").await["status"], "running");
    let before = daemon.started_at("helper").await;
    assert_eq!(daemon.act("helper", "restart").await["status"], "running");

    assert_ne!(daemon.started_at("helper").await, before);
    assert_eq!(daemon.exec("helper", &["/agentbot-agent", "cat", "/workspace/note"]).await.text(), "keep me");
    assert_eq!(daemon.agent("helper").await.health.crashes, 0, "what was asked for is no crash");
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_for_what_is_already_so_changes_nothing() {
    let daemon = Daemon::start(Setup::new()).await;
    daemon.running("helper").await;
    let before = daemon.started_at("helper").await;

    daemon.act("helper", "start").await;
    assert_eq!(daemon.started_at("helper").await, before);
    daemon.act("helper", "stop").await;
    daemon.act("helper", "stop").await;

    assert_eq!(daemon.agent("helper").await.phase, Phase::Stopped);
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_after_a_removal_by_hand_brings_the_agent_back_with_its_workspace() {
    let daemon = Daemon::start(Setup::new()).await;
    daemon.running("helper").await;
    let note = daemon.workspace_file("helper", "note").await;
    std::fs::write(&note, "keep me").unwrap();
    let old = daemon.container("helper").await;

    daemon.engine().remove(&old.id).await;
    let reply = daemon.act("helper", "repair").await;

    assert!(reply["report"]["findings"].as_array().is_some_and(|found| !found.is_empty()), "{reply}");
    assert!(reply["report"]["left"].as_array().is_some_and(Vec::is_empty), "{reply}");
    let view = daemon.wait_phase("helper", Phase::Running, SOON).await;
    assert_ne!(view.container.unwrap().id, old.id);
    assert_eq!(std::fs::read_to_string(&note).unwrap(), "keep me");
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_removed_by_hand_comes_back_without_being_asked_for() {
    let daemon = Daemon::start(Setup::new()).await;
    let old = daemon.running("helper").await.container.unwrap();

    daemon.engine().remove(&old.id).await;

    let is_new = |view: &agentbot_wire::InstanceView| {
        view.phase == Phase::Running && view.container.as_ref().is_some_and(|container| container.id != old.id)
    };
    daemon.wait_agent("helper", "a new container", SOON, is_new).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_renamed_by_hand_gets_its_name_back() {
    let daemon = Daemon::start(Setup::new()).await;
    let container = daemon.running("helper").await.container.unwrap();
    let before = daemon.started_at("helper").await;

    daemon.engine().rename(&container.id, &format!("{}-mine-now", container.name)).await;

    agentbot_tests::eventually("the old name", SOON, async || {
        let name = daemon.inspect("helper").await["Name"].clone();
        if name == format!("/{}", container.name) { Ok(()) } else { Err(name.to_string()) }
    })
    .await;
    assert_eq!(daemon.started_at("helper").await, before, "a name is no reason to restart");
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_agent_comes_back_with_its_workspace() {
    let daemon = Daemon::start(Setup::new()).await;
    let view = daemon.running("helper").await;
    std::fs::write(daemon.workspace_file("helper", "note").await, "keep me").unwrap();

    daemon.delete_agent("helper").await;
    assert!(daemon.engine().inspect(&view.container.unwrap().id).await.is_none());
    assert_eq!(daemon.get("/api/agents").await.value()["count"], 0);
    assert_eq!(daemon.agents().await[0].status, Phase::Deleted);
    daemon.act("helper", "undelete").await;

    let back = daemon.wait_phase("helper", Phase::Running, SOON).await;
    assert_eq!((back.id, back.slot), (view.id, view.slot));
    assert_eq!(daemon.exec("helper", &["/agentbot-agent", "cat", "/workspace/note"]).await.text(), "keep me");
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_agent_does_not_hold_its_name() {
    let daemon = Daemon::start(Setup::new()).await;
    let old = daemon.running("helper").await;
    daemon.delete_agent("helper").await;
    let new = daemon.running("helper").await;
    assert_ne!(old.id, new.id);

    let undelete = format!("/api/instance/{}/undelete", old.id);
    daemon.post(&undelete).await.expect_error(409, "conflict");
    daemon.call(Call::post(undelete).json(&json!({ "as": "older" }))).await.expect(200);

    assert_eq!(daemon.wait_phase("older", Phase::Running, SOON).await.id, old.id);
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn undelete_by_a_name_that_is_taken_since_means_the_deleted_one() {
    let daemon = Daemon::start(Setup::new()).await;
    let old = daemon.running("helper").await;
    daemon.delete_agent("helper").await;
    let new = daemon.running("helper").await;

    let refused = daemon.post("/api/instance/helper/undelete").await.expect_error(409, "conflict");
    assert!(refused["hint"].as_str().is_some_and(|hint| hint.contains("--as")), "{refused}");
    let undelete = Call::post("/api/instance/helper/undelete").json(&json!({ "as": "older" }));
    daemon.call(undelete).await.expect(200);

    assert_eq!(daemon.wait_phase("older", Phase::Running, SOON).await.id, old.id);
    assert_eq!(daemon.agent("helper").await.id, new.id);
    // With no deleted one of the name left, the living one is not deleted.
    daemon.post("/api/instance/helper/undelete").await.expect_error(409, "conflict");
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_starts_only_on_a_host_that_has_room_for_it() {
    let mut daemon = Daemon::start(Setup::new()).await;
    daemon.running("stopped").await;
    daemon.act("stopped", "stop").await;
    daemon.running("deleted").await;
    daemon.delete_agent("deleted").await;
    daemon.running("running").await;

    daemon.sigterm().await;
    daemon.restart_with(|setup| setup.set("slots.memory_reserve", "\"900 GiB\"")).await;
    daemon.engine_reached().await;
    daemon.wait_phase("running", Phase::Running, SOON).await;

    for (name, verb) in [("stopped", "start"), ("stopped", "restart"), ("stopped", "repair"), ("deleted", "undelete")] {
        let refused = daemon.post(&format!("/api/instance/{name}/{verb}")).await.expect_error(400, "limit_reached");
        let message = refused["message"].as_str().unwrap_or_default();
        assert!(message.contains("256 MiB") && message.contains("921600 MiB"), "{verb}: {message}");
    }
    daemon.act("running", "restart").await;
    daemon.act("stopped", "stop").await;
    daemon.sigterm().await;
    daemon.restart_with(|setup| setup.set("slots.memory_reserve", "\"128 MiB\"")).await;
    daemon.engine_reached().await;
    daemon.act("stopped", "start").await;
    daemon.post("/api/instance/deleted/undelete").await.expect(200);
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_leaves_nothing() {
    let daemon = Daemon::start(Setup::new()).await;
    daemon.running("first").await;
    daemon.running("second").await;
    daemon.delete_agent("second").await;

    daemon.purge("first").await;
    daemon.purge("second").await;

    assert_eq!(daemon.agents().await.len(), 0);
    daemon.nothing_left().await;
    daemon.get("/api/instance/first").await.expect_error(404, "not_found");
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_vanished_is_said_and_never_replaced_in_silence() {
    let daemon = Daemon::start(Setup::new()).await;
    let view = daemon.running("helper").await;
    daemon.act("helper", "stop").await;
    std::fs::remove_dir_all(daemon.work_dir(&view.slot)).unwrap();

    daemon.begin("helper", "start").await;

    let lost = daemon.wait_phase("helper", Phase::DataLost, SOON).await;
    assert!(lost.reason.is_some(), "{lost:?}");
    daemon.purge("helper").await;
    daemon.nothing_left().await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_token_can_be_shown_again_and_differs_between_agents() {
    let mut daemon = Daemon::start(Setup::new()).await;
    daemon.running("one").await;
    daemon.running("two").await;
    let token = async |daemon: &Daemon, name: &str| {
        daemon.get(&format!("/api/instance/{name}/token")).await.expect(200).value()["token"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let first = token(&daemon, "one").await;

    daemon.kill9().await;
    daemon.restart().await;

    assert_eq!(token(&daemon, "one").await, first);
    assert_ne!(token(&daemon, "two").await, first);
    assert!(first.len() == 64 && first.bytes().all(|byte| byte.is_ascii_hexdigit()), "{first}");
    assert!(!daemon.log_since_start().contains(&first), "no secret in the log");
    daemon.finish().await;
}
