//! What an administrator does to the engine loses nothing.

use std::time::Duration;

use agentbot_tests::{Daemon, PrivateDocker, Setup, eventually};
use agentbot_wire::Phase;

const SOON: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn pruning_everything_loses_no_stopped_agent() {
    let docker = PrivateDocker::start().await;
    let daemon = Daemon::start(Setup::new().engine(&docker.socket())).await;
    for name in ["one", "two"] {
        daemon.running(name).await;
        std::fs::write(daemon.workspace_file(name, "note").await, name).unwrap();
        daemon.act(name, "stop").await;
    }

    docker.engine().prune_everything().await;
    assert!(docker.engine().images("agentbot/agent").await.is_empty(), "even the image is gone");
    for name in ["one", "two"] {
        daemon.act(name, "start").await;
    }

    for name in ["one", "two"] {
        assert_eq!(daemon.agent(name).await.phase, Phase::Running);
        assert_eq!(daemon.exec(name, &["/agentbot-agent", "cat", "/workspace/note"]).await.text(), name);
    }
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_engine_brings_every_agent_back_and_counts_no_crash() {
    let mut docker = PrivateDocker::start().await;
    let daemon = Daemon::start(Setup::new().engine(&docker.socket())).await;
    daemon.running("runs").await;
    daemon.running("rests").await;
    daemon.act("rests", "stop").await;
    let before = daemon.agent("runs").await.started_at;

    docker.stop().await;
    assert_eq!(daemon.get("/api/health").await.status, 200);
    docker.resume().await;

    let back = daemon.wait_agent("runs", "a new process", SOON, |view| {
        view.phase == Phase::Running && view.health.process == Some(true) && view.started_at > before
    });
    assert_eq!(back.await.health.crashes, 0);
    assert_eq!(daemon.agent("rests").await.phase, Phase::Stopped);
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_dies_under_live_restore_costs_no_agent_its_process() {
    let mut docker = PrivateDocker::start_with(&["--live-restore"]).await;
    let daemon = Daemon::start(Setup::new().engine(&docker.socket())).await;
    daemon.running("helper").await;
    let before = daemon.started_at("helper").await;

    docker.kill9().await;
    docker.resume().await;

    daemon.wait_agent("helper", "a live process", SOON, |view| view.health.process == Some(true)).await;
    assert_eq!(daemon.started_at("helper").await, before);
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_agent_binary_is_for_new_agents_and_the_old_image_goes_with_its_last_one() {
    let docker = PrivateDocker::start().await;
    let mut daemon = Daemon::start(Setup::new().engine(&docker.socket())).await;
    daemon.running("helper").await;
    let old = daemon.container("helper").await.image;
    // Bytes after the last section change nothing that runs, and everything that is hashed.
    let newer = daemon.home().path().join("agentbot-agent");
    let mut bytes = std::fs::read(agentbot_tests::agent_binary()).unwrap();
    bytes.extend_from_slice(b"newer");
    std::fs::write(&newer, bytes).unwrap();
    std::fs::set_permissions(&newer, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();

    daemon.sigterm().await;
    daemon.restart_with(|setup| setup.agent(&newer)).await;
    daemon.engine_reached().await;
    daemon.act("helper", "repair").await;
    assert_eq!(daemon.container("helper").await.image, old, "another image is an update, and nobody asked for one");
    daemon.running("newer").await;
    let new = daemon.container("newer").await.image;
    assert_ne!(new, old);
    daemon.purge("helper").await;

    eventually("the old image to be gone", SOON, async || {
        let images = docker.engine().try_call("GET", "/images/json?all=true", None).await?.value();
        let ids: Vec<_> = images.as_array().into_iter().flatten().filter_map(|image| image["Id"].as_str()).collect();
        if ids == [new.as_str()] { Ok(()) } else { Err(format!("{ids:?}")) }
    })
    .await;
    daemon.finish().await;
}
