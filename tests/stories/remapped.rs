//! Agents on an engine that remaps the ids of containers.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use agentbot_tests::{Daemon, PrivateDocker, REMAP_BASE, Setup};
use agentbot_wire::Phase;

const SOON: Duration = Duration::from_secs(60);

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_runs_and_writes_where_its_ids_are_remapped() {
    let docker = PrivateDocker::start_remapped().await;
    let mut daemon = Daemon::start(Setup::new().engine(&docker.socket())).await;

    let view = daemon.running("helper").await;

    let inside =
        daemon.inspect("helper").await["Config"]["User"].as_str().unwrap().split(':').next().unwrap().to_owned();
    let uid = REMAP_BASE + inside.parse::<u32>().unwrap();
    let workspace = daemon.workspace_file("helper", "").await;
    assert_eq!((workspace.metadata().unwrap().uid(), mode(&workspace)), (uid, 0o700));
    assert_eq!(daemon.run_dir(&view.slot).join("agentbot.sock").metadata().unwrap().gid(), uid);
    assert_eq!(daemon.probe("helper").await["workspace"]["write"], "ok");
    let state = daemon.home().state();
    let passed = [state.clone(), state.join("slots"), state.join("slots").join(view.slot.as_str())];
    for dir in &passed {
        assert_eq!(mode(dir), 0o711, "{}", dir.display());
    }
    for private in ["agentbot.db", "key", "lock"] {
        assert_eq!(mode(&state.join(private)), 0o600, "{private}");
    }

    // A start closes the state directory; a container made or started afterwards finds it open.
    daemon.sigterm().await;
    daemon.restart().await;
    daemon.wait_phase("helper", Phase::Running, SOON).await;
    daemon.act("helper", "restart").await;
    daemon.act("helper", "repair").await;
    daemon.wait_phase("helper", Phase::Running, SOON).await;
    assert!(passed.iter().all(|dir| mode(dir) == 0o711));
    daemon.purge("helper").await;
    daemon.finish().await;
}
