//! A purge removes whatever an agent made of its workspace.

use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use agentbot_tests::{Call, Daemon, Home, Setup, SmallDisk, eventually};
use agentbot_wire::InstanceView;
use nix::fcntl::{OFlag, open, openat};
use nix::mount::{MntFlags, umount2};
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
    // In memory: some disks take a millisecond for each directory that goes.
    let home = Home::new();
    let disk = SmallDisk::mount(&home.state(), 64 * 1024 * 1024);
    let daemon = Daemon::start_in(home, Setup::new()).await;
    daemon.running("helper").await;
    let workspace = daemon.workspace_file("helper", "").await;
    let victim = daemon.home().path().join("victim");
    std::fs::create_dir(&victim).unwrap();
    std::fs::write(victim.join("note"), "keep me").unwrap();
    symlink(&victim, workspace.join("link")).unwrap();
    nest(&workspace, 30_000);
    let pid = daemon.pid();

    daemon.purge("helper").await;

    assert_eq!(std::fs::read_dir(daemon.home().state().join("slots")).unwrap().count(), 0, "slot directories");
    assert_eq!(daemon.pid(), pid);
    assert_eq!(std::fs::read_to_string(victim.join("note")).unwrap(), "keep me");
    let home = daemon.finish().await;
    drop(disk);
    drop(home);
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

/// Where file systems are mounted below a directory, by the kernel's own list: it follows a mount whose path moved.
fn mounts_below(dir: &Path) -> Vec<std::path::PathBuf> {
    let list = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = list.lines().filter_map(|line| line.split(' ').nth(4)).map(std::path::PathBuf::from);
    points.filter(|point| point.starts_with(dir)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_removed_is_said_holds_nothing_else_back_and_goes_once_it_can() {
    let daemon = Daemon::start(Setup::new()).await;
    let view = daemon.running("helper").await;
    let workspace = daemon.workspace_file("helper", "").await;
    for name in ["a", "z"] {
        std::fs::create_dir(workspace.join(name)).unwrap();
        std::fs::write(workspace.join(name).join("file"), "").unwrap();
    }
    let disk = SmallDisk::mount(&workspace.join("held"), 1024 * 1024);
    daemon.call(Call::delete("/api/instance/helper?purge=true").respond_async()).await.expect(202);

    let said = |view: &InstanceView| view.reason.as_ref().is_some_and(|reason| reason.contains("could not be removed"));
    daemon.wait_agent(view.id.as_str(), "a reason", SOON, said).await;

    let mounts = mounts_below(&daemon.home().state());
    let [held] = mounts.as_slice() else { panic!("one mount is held: {mounts:?}") };
    let beside = std::fs::read_dir(held.parent().unwrap()).unwrap().count();
    assert_eq!(beside, 1, "everything around {} is gone", held.display());
    umount2(held, MntFlags::MNT_DETACH).unwrap();
    drop(disk);
    eventually("the end of the purge", SOON, async || {
        if daemon.agents().await.is_empty() { Ok(()) } else { Err("it is there".to_owned()) }
    })
    .await;
    daemon.nothing_left().await;
    daemon.finish().await;
}
