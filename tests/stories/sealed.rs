//! Every container is locked down, by the engine's word and from inside, on every path to it.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use agentbot_tests::{Daemon, Setup, inspect_deviations, probe_deviations, syscalls_binary};
use serde_json::json;

async fn check(daemon: &Daemon, name: &str, after: &str) {
    let view = daemon.agent(name).await;
    let outside = inspect_deviations(&daemon.inspect(name).await, &view.limits);
    assert!(outside.is_empty(), "after {after}, from outside: {outside:#?}");
    let uid = daemon.workspace_file(name, ".").await.metadata().unwrap().uid();
    let inside = probe_deviations(&daemon.probe(name).await, &view.limits, uid);
    assert!(inside.is_empty(), "after {after}, from inside: {inside:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn probe_and_inspection_agree_with_the_table_after_every_path() {
    let daemon = Daemon::start(Setup::new()).await;

    daemon.running("helper").await;
    check(&daemon, "helper", "provision").await;
    daemon.act("helper", "restart").await;
    check(&daemon, "helper", "restart").await;
    daemon.act("helper", "repair").await;
    check(&daemon, "helper", "repair").await;
    daemon.act("helper", "stop").await;
    daemon.act("helper", "start").await;
    check(&daemon, "helper", "start").await;
    daemon.engine().remove(&daemon.container("helper").await.id).await;
    daemon.act("helper", "repair").await;
    check(&daemon, "helper", "repair of a removed container").await;
    daemon.delete_agent("helper").await;
    daemon.act("helper", "undelete").await;
    check(&daemon, "helper", "undelete").await;

    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_those_that_were_asked_for() {
    let daemon = Daemon::start(Setup::new()).await;

    let body = json!({ "name": "helper", "memory": 134_217_728, "cpus": 0.25, "pids": 64 });
    daemon.try_provision(&body).await.expect(201);
    daemon.wait_phase("helper", agentbot_wire::Phase::Running, std::time::Duration::from_secs(60)).await;

    let limits = daemon.agent("helper").await.limits;
    assert_eq!((limits.memory, limits.pids), (134_217_728, 64));
    check(&daemon, "helper", "provision with limits").await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forbidden_system_calls_are_refused() {
    let daemon = Daemon::start(Setup::new()).await;
    daemon.running("helper").await;
    let program = daemon.workspace_file("helper", "syscalls").await;
    std::fs::copy(syscalls_binary(), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();

    let output = daemon.exec("helper", &["/workspace/syscalls"]).await;

    assert_eq!(output.code, 0, "{output:?}");
    let refused = |line: &&str| {
        let errno = line.rsplit(' ').next().and_then(|number| number.parse::<i32>().ok());
        errno == Some(nix::libc::EPERM) || errno == Some(nix::libc::ENOSYS)
    };
    let text = output.text();
    let allowed: Vec<_> = text.lines().filter(|line| !refused(line)).collect();
    assert!(text.lines().count() >= 20, "every call was tried: {text}");
    assert!(allowed.is_empty(), "not refused: {allowed:?}");
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_weakened_behind_the_daemons_back_is_never_started() {
    let daemon = Daemon::start(Setup::new()).await;
    daemon.running("helper").await;
    daemon.act("helper", "stop").await;
    let container = daemon.container("helper").await;
    let weaker = json!({ "RestartPolicy": { "Name": "always" } });
    let path = format!("/containers/{}/update", container.id);
    daemon.engine().try_call("POST", &path, Some(&weaker)).await.unwrap().expect(200);

    daemon.act("helper", "start").await;

    check(&daemon, "helper", "a change by hand").await;
    assert_ne!(daemon.container("helper").await.id, container.id, "it was made anew");
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_the_container_or_in_the_log() {
    let daemon = Daemon::start(Setup::new()).await;
    let view = daemon.running("helper").await;
    let token = daemon.get("/api/instance/helper/token").await.value()["token"].as_str().unwrap().to_owned();
    let nonce = std::fs::read_to_string(daemon.run_dir(&view.slot).join("nonce")).unwrap().trim().to_owned();

    let inspected = daemon.inspect("helper").await.to_string();
    let environment = daemon.exec("helper", &["/agentbot-agent", "env"]).await.text();
    let processes = daemon.exec("helper", &["/agentbot-agent", "ps"]).await.text();

    for (what, secret) in [("token", &token), ("nonce", &nonce)] {
        for (place, text) in [
            ("the inspection", &inspected),
            ("the environment", &environment),
            ("the process list", &processes),
            ("the daemon's log", &daemon.log_since_start()),
        ] {
            assert!(!text.contains(secret.as_str()), "the {what} is in {place}");
        }
    }
    daemon.finish().await;
}
