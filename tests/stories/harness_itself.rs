//! The tools of the other stories do what they say, on a real engine and without a daemon.

use std::time::{Duration, Instant};

use agentbot_tests::{
    Call, Engine, EngineProxy, Fault, Home, PrivateDocker, Scratch, SmallDisk, http, knock, syscalls_binary,
};
use serde_json::json;

const SOON: Duration = Duration::from_secs(20);

fn proxied(home: &Home) -> (EngineProxy, Engine) {
    let machine = Engine::of_machine();
    let proxy = EngineProxy::start(&home.path().join("engine.sock"), machine.socket());
    let through = Engine::at(proxy.socket());
    (proxy, through)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_reply_leaves_the_container_behind() {
    let home = Home::new();
    let (proxy, through) = proxied(&home);
    let machine = Engine::of_machine();
    let scratch = Scratch::on(&machine);
    let image = scratch.import("agentbot-test/dropped:1", &syscalls_binary()).await;
    let rule = proxy.on("POST", "/containers/create", 1, Fault::DropReply);
    let name = Scratch::name("dropped");
    let path = format!("/containers/create?name={name}");

    assert!(through.try_call("POST", &path, Some(&Scratch::program(&image))).await.is_err());

    rule.met(1, SOON).await;
    assert!(machine.inspect(&name).await.is_some(), "the engine acted");
    machine.remove(&name).await;
    assert!(machine.inspect(&name).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_the_proxy_breaks_a_call_in_its_own_way() {
    let home = Home::new();
    let (mut proxy, through) = proxied(&home);
    let whole = through.try_call("GET", "/version", None).await.unwrap();

    proxy.on("GET", "/version", 1, Fault::Status(500));
    assert_eq!(through.try_call("GET", "/version", None).await.unwrap().status, 500);
    proxy.on("GET", "/version", 1, Fault::Truncate);
    assert!(through.try_call("GET", "/version", None).await.is_err());
    proxy.on("GET", "/version", 1, Fault::Answer("<html>".to_owned()));
    assert_eq!(through.try_call("GET", "/version", None).await.unwrap().body, "<html>");
    proxy.on("GET", "/version", 1, Fault::Rewrite("/ApiVersion".to_owned(), json!("1.40")));
    assert_eq!(through.try_call("GET", "/version", None).await.unwrap().value()["ApiVersion"], "1.40");
    proxy.on("GET", "/version", 1, Fault::Delay(Duration::from_millis(300)));
    let begun = Instant::now();
    assert_eq!(through.try_call("GET", "/version", None).await.unwrap().body, whole.body);
    assert!(begun.elapsed() >= Duration::from_millis(300));

    for hang in [Fault::HangBefore, Fault::HangAfter] {
        let rule = proxy.on("GET", "/version", 1, hang);
        let (answer, ()) = futures_util::future::join(through.try_call("GET", "/version", None), async {
            rule.met(1, SOON).await;
            rule.release();
        })
        .await;
        assert_eq!(answer.unwrap().status, 200);
    }

    proxy.down();
    assert!(through.try_call("GET", "/version", None).await.unwrap_err().contains("connect"));
    proxy.up();
    assert_eq!(through.try_call("GET", "/version", None).await.unwrap().status, 200);
    assert_eq!(proxy.calls("GET /v1.41/version").len(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_without_a_seccomp_profile_allows_calls_that_ours_must_forbid() {
    let machine = Engine::of_machine();
    let scratch = Scratch::on(&machine);
    let image = scratch.import("agentbot-test/syscalls:1", &syscalls_binary()).await;
    let name = Scratch::name("syscalls");
    let mut open = Scratch::program(&image);
    open["HostConfig"]["SecurityOpt"] = json!(["seccomp=unconfined"]);
    let id = scratch.create(&name, &open).await;
    machine.start(&id).await;

    let report = agentbot_tests::eventually("its output", SOON, async || {
        let logs = machine.try_call("GET", &format!("/containers/{id}/logs?stdout=true&stderr=true"), None).await?;
        let text = String::from_utf8_lossy(&logs.body).into_owned();
        if text.contains("socket_vsock") { Ok(text) } else { Err(text) }
    })
    .await;

    for line in ["keyctl 0", "clone3 22"] {
        assert!(report.contains(line), "{line} in {report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_engine_keeps_to_itself_and_leaves_nothing() {
    let machine = Engine::of_machine();
    let mut docker = PrivateDocker::start().await;
    let engine = docker.engine();
    let scratch = Scratch::on(&engine);
    let image = scratch.import("agentbot-test/private:1", &syscalls_binary()).await;
    let id = scratch.create("only-here", &Scratch::program(&image)).await;
    engine.start(&id).await;
    assert!(machine.inspect(&id).await.is_none(), "the engines are apart");
    assert!(machine.images("agentbot-test/private").await.is_empty());

    docker.stop().await;
    assert!(!engine.answers().await);
    docker.resume().await;
    assert!(engine.inspect("only-here").await.is_some(), "its data outlives it");
    docker.kill9().await;
    docker.resume().await;
    engine.prune_everything().await;
    assert!(engine.inspect("only-here").await.is_none());
    assert!(engine.images("agentbot-test/private").await.is_empty());

    let dir = docker.socket().parent().unwrap().to_owned();
    drop(scratch);
    drop(docker);
    assert!(!dir.exists(), "{} is gone", dir.display());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(dir.to_str().unwrap()), "nothing of it stays mounted");
}

#[tokio::test(flavor = "multi_thread")]
async fn knocking_shows_the_uid_that_was_asked_for() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let path = home.path().join("door");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();

    let answer = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let peer = stream.peer_cred().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, format!("{} {}", peer.uid(), peer.gid()).as_bytes())
            .await
            .unwrap();
    };
    let (output, ()) =
        futures_util::future::join(knock(home.path(), "door", 54_321, 54_322, b"who am I?"), answer).await;

    assert_eq!(String::from_utf8_lossy(&output.stdout), "54321 54322");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_disk_fills_up_turns_read_only_and_goes_away() {
    let home = Home::new();
    let at = home.path().join("disk");
    let disk = SmallDisk::mount(&at, 1024 * 1024);
    let filler = disk.fill();
    assert!(std::fs::write(at.join("more"), [0; 4096]).is_err());
    std::fs::remove_file(filler).unwrap();
    std::fs::write(at.join("room"), b"again").unwrap();
    disk.read_only(true);
    assert!(std::fs::write(at.join("no"), b"").is_err());
    disk.read_only(false);
    std::fs::write(at.join("yes"), b"").unwrap();

    drop(disk);

    assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(at.to_str().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_without_a_listener_is_an_error_and_not_a_wait() {
    let home = Home::new();
    let error = http::send(&home.socket(), Call::get("/api/health")).await.unwrap_err();
    assert!(error.starts_with("connect"), "{error}");
}
