//! Who is let in at which door.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use agentbot_tests::{Daemon, FakeAgent, Refusal, Setup, eventually, http, knock};
use agentbot_wire::{InstanceView, Phase};

const ROOT: u32 = 0;
const STRANGER: u32 = 61_234;
const SOON: Duration = Duration::from_secs(60);

/// An agent as its socket sees it.
struct Slot {
    view: InstanceView,
    run: std::path::PathBuf,
    uid: u32,
    nonce: String,
}

async fn slot(daemon: &Daemon, name: &str) -> Slot {
    let view = daemon.running(name).await;
    let run = daemon.run_dir(&view.slot);
    let nonce = std::fs::read_to_string(run.join("nonce")).expect("a slot has a nonce").trim().to_owned();
    let uid = daemon.workspace_file(name, ".").await.metadata().expect("a workspace").uid();
    Slot { view, run, uid, nonce }
}

/// Comes as this uid and gid with this nonce, as far as it gets.
async fn come(run: &Path, uid: u32, gid: u32, nonce: &str) -> Result<agentbot_wire::Welcome, Refusal> {
    FakeAgent::connect(run, uid, gid, nonce).await?.hello(nonce).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_let_in_by_listener_uid_and_nonce_together() {
    let daemon = Daemon::start(Setup::new()).await;
    let own = slot(&daemon, "own").await;
    let neighbour = slot(&daemon, "neighbour").await;
    assert_ne!(own.nonce, neighbour.nonce);
    assert_ne!(own.uid, neighbour.uid);

    let welcome = come(&own.run, own.uid, own.uid, &own.nonce).await.expect("all three proofs");
    assert_eq!(welcome.instance, Some(own.view.id.clone()));

    let wrong = "0".repeat(own.nonce.len());
    let cases = [
        ("a wrong nonce", own.uid, own.uid, wrong.as_str()),
        ("no nonce", own.uid, own.uid, ""),
        ("the neighbour's nonce", own.uid, own.uid, neighbour.nonce.as_str()),
        ("root", ROOT, ROOT, own.nonce.as_str()),
        ("the neighbour", neighbour.uid, neighbour.uid, own.nonce.as_str()),
        ("the neighbour in our group", neighbour.uid, own.uid, own.nonce.as_str()),
        ("the neighbour with its own nonce", neighbour.uid, own.uid, neighbour.nonce.as_str()),
        ("a stranger in our group", STRANGER, own.uid, own.nonce.as_str()),
    ];
    for (who, uid, gid, nonce) in cases {
        let outcome = come(&own.run, uid, gid, nonce).await;
        assert!(outcome.is_err(), "{who} was let in: {outcome:?}");
    }
    daemon.wait_phase("own", Phase::Running, SOON).await;
    daemon.wait_phase("neighbour", Phase::Running, SOON).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_directory_that_somebody_removed_is_made_again() {
    let daemon = Daemon::start(Setup::new()).await;
    let running = slot(&daemon, "running").await;
    let stopped = slot(&daemon, "stopped").await;
    daemon.act("stopped", "stop").await;

    for run in [&running.run, &stopped.run] {
        std::fs::remove_dir_all(run).unwrap();
    }
    daemon.engine().remove(&daemon.container("running").await.id).await;

    let gone = running.view.container.expect("a running agent has a container").id;
    let another = |view: &InstanceView| view.container.as_ref().is_some_and(|container| container.id != gone);
    daemon.wait_agent("running", "another container", SOON, another).await;
    let back = daemon.wait_phase("running", Phase::Running, SOON).await;
    assert!(back.health.link, "{back:?}");
    daemon.act("stopped", "start").await;
    for run in [&running.run, &stopped.run] {
        assert!(run.join("agentbot.sock").exists() && run.join("nonce").exists(), "{}", run.display());
    }
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_socket_serves_agents_verbs_only() {
    let daemon = Daemon::start(Setup::new()).await;
    let own = slot(&daemon, "own").await;

    for path in ["/api/agents", "/api/status", "/api/instance/own", "/api/operations"] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            own.nonce
        );
        let answer = knock(&own.run, "agentbot.sock", own.uid, own.uid, request.as_bytes()).await;
        let status = http::raw_status(&answer.stdout);
        assert!(matches!(status, Some(401 | 403 | 404)), "{path}: {}", String::from_utf8_lossy(&answer.stdout));
    }
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_frames_end_the_link_and_nothing_else() {
    let daemon = Daemon::start(Setup::new()).await;
    let own = slot(&daemon, "own").await;
    let oversized =
        format!(r#"{{"type":"event","event":"agent.beat","payload":"{}"}}"#, "x".repeat(agentbot_wire::MAX_FRAME));

    for text in
        [oversized, "not json".to_owned(), "[".repeat(50_000), r#"{"type":"event","event":"agent.beat"}"#.to_owned()]
    {
        let mut agent = FakeAgent::connect(&own.run, own.uid, own.uid, &own.nonce).await.expect("the upgrade");
        // A frame before hello: whatever it is, there is no welcome.
        let _ = agent.send(text).await;
        let heard = agent.receive().await;
        assert!(!matches!(heard, Ok(agentbot_wire::Frame::Res { ok: true, .. })), "{heard:?}");
    }

    daemon.wait_phase("own", Phase::Running, SOON).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_has_so_many_connections_and_links_count() {
    let daemon = Daemon::start(Setup::new().set("limits.agent_connections", "3")).await;
    let own = slot(&daemon, "own").await;
    let come = || FakeAgent::connect(&own.run, own.uid, own.uid, &own.nonce);

    // One is the agent's own link.
    let second = come().await.expect("a second connection");
    let third = come().await.expect("a third connection");
    let fourth = come().await;

    assert!(matches!(fourth, Err(Refusal::Connection(_))), "{fourth:?}");
    drop(second);
    eventually("a seat to be given back", SOON, async || come().await.map(drop).map_err(|no| format!("{no:?}"))).await;
    drop(third);
    assert_eq!(daemon.agent("own").await.phase, Phase::Running);
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_cannot_fill_the_log() {
    let daemon = Daemon::start(Setup::new().set("log.level", "\"info\"")).await;
    let own = slot(&daemon, "own").await;
    let noise = "noise".repeat(20_000);
    let hello = format!(r#"{{"type":"req","id":"1","method":"agent.hello","params":{{"protocol":"{noise}"}}}}"#);
    let before = daemon.log_since_start().len();

    for _ in 0..20 {
        let mut agent = FakeAgent::connect(&own.run, own.uid, own.uid, &own.nonce).await.expect("the upgrade");
        agent.send(hello.clone()).await.expect("a frame of legal size");
        let heard = agent.receive().await.expect("a refusal before the close");
        let agentbot_wire::Frame::Res { error: Some(error), .. } = heard else { panic!("{heard:?}") };
        assert!(error.message.chars().count() <= 200, "{:.300}", error.message);
    }

    let log = daemon.log_since_start();
    assert!(log.contains("agent refused") && !log.contains("noise"), "{log:.2000}");
    assert!(log.len() - before < 10_000, "{} bytes more", log.len() - before);
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_uid_is_refused_at_the_admin_socket() {
    let daemon = Daemon::start(Setup::new()).await;
    let socket = daemon.home().socket();
    let group = socket.metadata().unwrap().gid();
    let request = b"GET /api/agents HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

    let root = knock(&daemon.home().runtime(), "agentbot.sock", ROOT, ROOT, request).await;
    let stranger = knock(&daemon.home().runtime(), "agentbot.sock", STRANGER, STRANGER, request).await;
    let in_file_group = knock(&daemon.home().runtime(), "agentbot.sock", STRANGER, group, request).await;

    assert_eq!(http::raw_status(&root.stdout), Some(200), "the same request passes for root");
    for answer in [stranger, in_file_group] {
        let refused_by_the_file = answer.stdout.is_empty() && !answer.status.success();
        let refused_by_the_daemon = http::raw_status(&answer.stdout) == Some(403);
        assert!(refused_by_the_file || refused_by_the_daemon, "{answer:?}");
    }
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_matter_are_for_their_owners_alone() {
    let daemon = Daemon::start(Setup::new()).await;
    let own = slot(&daemon, "own").await;
    let state = daemon.home().state();
    let mode =
        |path: &Path| path.metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display())).mode() & 0o7777;

    assert_eq!(mode(&state), 0o700);
    assert_eq!(mode(&daemon.home().runtime()), 0o750);
    for file in ["agentbot.db", "key", "lock"] {
        assert_eq!(mode(&state.join(file)), 0o600, "{file}");
    }
    assert_eq!(mode(&own.run.join("nonce")), 0o440);
    assert_eq!(mode(&own.run.join("agentbot.sock")), 0o660);
    assert_eq!(own.run.join("agentbot.sock").metadata().unwrap().gid(), own.uid);
    assert_eq!(mode(&daemon.workspace_file("own", ".").await), 0o700);
    daemon.finish().await;
}
