//! Starts that must be refused, clearly and without touching anything.

use std::os::unix::net::UnixListener;

use agentbot_tests::{Daemon, Exited, Home, Setup, SmallDisk};
use agentbot_wire::Phase;

const MIB: u64 = 1024 * 1024;

/// It ended by itself, not in success, and says each of these words.
fn refused(exited: &Exited, words: &[&str]) {
    assert!(!exited.status.success() && exited.signal().is_none(), "{exited:?}");
    assert!(!exited.stderr.contains("panicked"), "{}", exited.stderr);
    for word in words {
        assert!(exited.stderr.contains(word), "`{word}` is wanted in: {}", exited.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_names_the_first_and_leaves_it_alone() {
    let daemon = Daemon::start(Setup::new()).await;
    daemon.running("helper").await;
    let before = daemon.started_at("helper").await;

    let second = daemon.second().await;

    refused(&second, &[&daemon.pid().unwrap().to_string()]);
    assert_eq!(daemon.started_at("helper").await, before);
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_mistakes_of_a_configuration_are_told_at_once() {
    let text = "[beat]\nperiod = \"never\"\n\n[nosuch]\nx = 1\n\n[restart]\nbase = -1\n";

    let (exited, home) = Daemon::refused(Home::new(), Setup::new().config_text(text)).await;

    let file = home.config().display().to_string();
    refused(&exited, &[&file, ":2", "beat.period", ":4", "nosuch", ":8", "restart.base"]);
    assert!(!home.state().join("agentbot.db").exists(), "nothing is half made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_is_no_toml_or_no_text_is_refused() {
    let (broken, _) = Daemon::refused(Home::new(), Setup::new().config_text("[beat\nperiod")).await;
    refused(&broken, &[":1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_refuses_an_engine_that_start_refuses() {
    let home = Home::new();
    std::fs::write(home.config(), "").unwrap();
    let check = |host: &str| {
        let mut command = std::process::Command::new(agentbot_tests::daemon_binary());
        command.arg("check").arg("--config").arg(home.config()).env("DOCKER_HOST", host).output().unwrap()
    };
    let refused = check("tcp://10.0.0.1:2375");
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("DOCKER_HOST"), "{refused:?}");
    assert_eq!(check("unix:///var/run/docker.sock").status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_has_its_longest_path() {
    const BEYOND: usize = 107;

    let (exited, _) = Daemon::refused(Home::new().with_state_path_of(BEYOND), Setup::new()).await;
    refused(&exited, &["--state-dir", "107 bytes", "socket"]);
    let longest = exited.stderr.split("at most ").nth(1).and_then(|rest| rest.split(' ').next()).expect("the limit");
    let longest: usize = longest.parse().expect("a number of bytes");

    let (exited, _) = Daemon::refused(Home::new().with_state_path_of(longest + 1), Setup::new()).await;
    refused(&exited, &["--state-dir", "socket"]);
    let daemon = Daemon::start_in(Home::new().with_state_path_of(longest), Setup::new()).await;
    daemon.running("helper").await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_somebody_serves_is_not_taken_from_him() {
    let home = Home::new();
    std::fs::create_dir_all(home.runtime()).unwrap();
    let somebody = UnixListener::bind(home.socket()).unwrap();

    let (exited, home) = Daemon::refused(home, Setup::new()).await;

    refused(&exited, &["agentbot.sock"]);
    assert!(std::os::unix::net::UnixStream::connect(home.socket()).is_ok(), "he still serves");
    drop(somebody);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_nobody_serves_any_more_is_replaced() {
    let home = Home::new();
    std::fs::create_dir_all(home.runtime()).unwrap();
    drop(UnixListener::bind(home.socket()).unwrap());
    assert!(home.socket().exists());

    let daemon = Daemon::start_in(home, Setup::new()).await;

    daemon.get("/api/health").await.expect(200);
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_state_directory_is_refused() {
    let home = Home::new();
    let disk = SmallDisk::mount(&home.state(), MIB);
    disk.read_only(true);

    let (exited, home) = Daemon::refused(home, Setup::new()).await;

    refused(&exited, &[&home.state().display().to_string()]);
    drop(disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_state_directory_is_refused_at_start() {
    let home = Home::new();
    let disk = SmallDisk::mount(&home.state(), MIB);
    disk.fill();

    let (exited, _home) = Daemon::refused(home, Setup::new()).await;

    refused(&exited, &[]);
    drop(disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_refuses_new_agents_and_loses_no_old_one() {
    let home = Home::new();
    let disk = SmallDisk::mount(&home.state(), 16 * MIB);
    let daemon = Daemon::start_in(home, Setup::new()).await;
    daemon.running("helper").await;
    let filler = disk.fill();

    // What the journal has room for already may still be accepted.
    let config = serde_json::json!({ "ballast": "x".repeat(60_000) });
    let mut accepted = Vec::new();
    let refusal = loop {
        let name = format!("more-{}", accepted.len());
        let reply = daemon.try_provision(&serde_json::json!({ "name": name, "config": config })).await;
        if reply.status != 201 {
            break reply;
        }
        accepted.push(name);
        assert!(accepted.len() < 200, "a full disk takes no more");
    };

    refusal.expect_error(507, "storage_full");
    daemon.get("/api/health").await.expect(200);
    assert_eq!(daemon.agent("helper").await.phase, Phase::Running);
    std::fs::remove_file(filler).unwrap();
    assert_eq!(daemon.agents().await.len(), accepted.len() + 1, "what was accepted is there, what was refused is not");
    for name in &accepted {
        daemon.purge(name).await;
    }
    daemon.running("after").await;
    for name in ["after", "helper"] {
        daemon.purge(name).await;
    }
    let home = daemon.finish().await;
    drop(disk);
    drop(home);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_somebody_else_is_refused_untouched() {
    let home = Home::new();
    std::fs::create_dir_all(home.state()).unwrap();
    let path = home.state().join("agentbot.db");
    std::fs::write(&path, b"this is no database, and it is somebody's").unwrap();

    let (exited, _home) = Daemon::refused(home, Setup::new()).await;

    refused(&exited, &["agentbot.db"]);
    assert_eq!(std::fs::read(&path).unwrap(), b"this is no database, and it is somebody's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_key_stops_everything_and_the_restored_key_heals_it() {
    let mut daemon = Daemon::start(Setup::new()).await;
    daemon.running("helper").await;
    let before = daemon.started_at("helper").await;
    let container = daemon.container("helper").await.id;
    daemon.sigterm().await;
    let key = daemon.home().state().join("key");
    let aside = daemon.home().path().join("key");
    std::fs::rename(&key, &aside).unwrap();

    // Either it refuses to start, or it looks and touches nothing.
    daemon.launch();
    let served = agentbot_tests::eventually("a refusal or safe mode", std::time::Duration::from_secs(20), async || {
        if agentbot_tests::http::send(&daemon.home().socket(), agentbot_tests::Call::get("/api/status")).await.is_ok() {
            return Ok(true);
        }
        if daemon.log_since_start().contains("key") { Ok(false) } else { Err("neither yet".to_owned()) }
    })
    .await;
    if served {
        assert!(daemon.status().await.safe_mode.is_some());
        daemon.sigterm().await;
    } else {
        refused(&daemon.exited(std::time::Duration::from_secs(20)).await, &["key"]);
    }
    assert!(daemon.engine().inspect(&container).await.is_some(), "nothing is removed on doubt");
    assert!(!key.exists(), "no other key is made in its place");

    std::fs::rename(&aside, &key).unwrap();
    daemon.restart().await;
    daemon.wait_phase("helper", Phase::Running, std::time::Duration::from_secs(60)).await;
    assert_eq!(daemon.started_at("helper").await, before);
    daemon.finish().await;
}
