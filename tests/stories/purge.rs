//! A purge removes whatever an agent made of its workspace.

use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use agentbot_tests::{Call, Daemon, Setup, eventually};
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};

const SOON: Duration = Duration::from_secs(60);

/// Directories in one another, deeper than any path can name.
fn nest(at: &Path, depth: usize) {
    let mut dir: OwnedFd = open(at, OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..depth {
        mkdirat(&dir, "d", Mode::S_IRWXU).unwrap();
        dir = openat(&dir, "d", OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_nests_directories_without_end_is_purged_and_the_daemon_lives() {
    let daemon = Daemon::start(Setup::new()).await;
    daemon.running("helper").await;
    let workspace = daemon.workspace_file("helper", "").await;
    let victim = daemon.home().path().join("victim");
    std::fs::create_dir(&victim).unwrap();
    std::fs::write(victim.join("note"), "keep me").unwrap();
    symlink(&victim, workspace.join("link")).unwrap();
    nest(&workspace, 30_000);
    let pid = daemon.pid();

    daemon.purge("helper").await;

    daemon.nothing_left().await;
    assert_eq!(daemon.pid(), pid);
    assert_eq!(std::fs::read_to_string(victim.join("note")).unwrap(), "keep me");
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_is_cut_off_while_it_removes_is_finished_after_the_next_start() {
    let mut daemon = Daemon::start(Setup::new()).await;
    daemon.running("helper").await;
    let workspace = daemon.workspace_file("helper", "").await;
    for outer in 0..200 {
        let dir = workspace.join(outer.to_string());
        std::fs::create_dir(&dir).unwrap();
        (0..200).for_each(|inner| std::fs::write(dir.join(inner.to_string()), "").unwrap());
    }
    daemon.call(Call::delete("/api/instance/helper?purge=true").respond_async()).await.expect(202);
    eventually("the removal to begin", SOON, async || {
        if workspace.exists() { Err("the workspace is in its place".to_owned()) } else { Ok(()) }
    })
    .await;

    daemon.kill9().await;
    daemon.restart().await;

    eventually("the end of the purge", SOON, async || {
        if daemon.agents().await.is_empty() { Ok(()) } else { Err("it is there".to_owned()) }
    })
    .await;
    daemon.nothing_left().await;
    daemon.finish().await;
}
