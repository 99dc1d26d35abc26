//! The judges of the hardening table pass a container made by hand as the table says, and see every weakening of it.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use agentbot_tests::{Engine, Home, Scratch, agent_binary, inspect_deviations, probe_deviations};
use agentbot_wire::Plan;
use serde_json::{Value, json};

const UID: u32 = 59_990;
const LIMITS: Plan = Plan { memory: 64 * 1024 * 1024, cpus: 0.5, pids: 32, disk: 1024 * 1024 };

/// Our own seccomp profile.
fn profile() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("config/seccomp.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str::<Value>(&text).expect("the profile is JSON").to_string()
}

/// A slot as the daemon would make it, with somebody listening; the container that lives in it.
fn slot(home: &Home, image: &str) -> (UnixListener, Value) {
    let slot = home.path().join("slots/slt_by_hand");
    let (work, run) = (slot.join("work/1"), slot.join("run"));
    for dir in [&work, &run] {
        std::fs::create_dir_all(dir).unwrap();
    }
    chown(&work, Some(UID), Some(UID)).unwrap();
    std::fs::set_permissions(&work, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(run.join("nonce"), "0".repeat(64)).unwrap();
    let listener = UnixListener::bind(run.join("agentbot.sock")).unwrap();
    let bind = |source: &Path, target: &str, read_only: bool| {
        json!({ "Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only,
                "BindOptions": { "Propagation": "rprivate" } })
    };
    let parent = if Path::new("/run/systemd/system").exists() { "agentbot.slice" } else { "/agentbot" };
    let body = json!({
        "Image": image,
        "Entrypoint": ["/agentbot-agent"],
        "User": format!("{UID}:{UID}"),
        "WorkingDir": "/workspace",
        "Hostname": "agent",
        "Env": ["AGENTBOT_SOCKET=/run/agentbot/agentbot.sock"],
        "Healthcheck": { "Test": ["NONE"] },
        "StopSignal": "SIGTERM",
        "StopTimeout": 10,
        "Labels": { "io.agentbot.daemon": "by-hand", "io.agentbot.slot": "slt_by_hand", "io.agentbot.gen": "1",
                    "io.agentbot.mac": "00" },
        "HostConfig": {
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges:true", format!("seccomp={}", profile())],
            "ReadonlyRootfs": true,
            "Tmpfs": { "/tmp": "rw,noexec,nosuid,nodev,size=64m,mode=1777",
                       "/run": "rw,noexec,nosuid,nodev,size=8m,mode=0755" },
            "Mounts": [bind(&work, "/workspace", false), bind(&run, "/run/agentbot", true)],
            "PidsLimit": LIMITS.pids,
            "Memory": LIMITS.memory,
            "MemorySwap": LIMITS.memory,
            "OomScoreAdj": 500,
            "NanoCpus": 500_000_000,
            "ShmSize": 16 * 1024 * 1024,
            "Ulimits": [{ "Name": "nofile", "Soft": 1024, "Hard": 4096 }, { "Name": "core", "Soft": 0, "Hard": 0 }],
            "NetworkMode": "none",
            "IpcMode": "private",
            "CgroupnsMode": "private",
            "CgroupParent": parent,
            "RestartPolicy": { "Name": "no" },
            "LogConfig": { "Type": "local", "Config": { "max-size": "10m", "max-file": "3", "mode": "non-blocking",
                                                        "max-buffer-size": "1m" } },
        },
    });
    (listener, body)
}

/// The same body with one thing different.
fn with(body: &Value, pointer: &str, value: Value) -> Value {
    let mut body = body.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    body.pointer_mut(parent).expect("a place in the body")[key] = value;
    body
}

async fn probe(engine: &Engine, id: &str) -> Value {
    engine.start(id).await;
    let output = engine.exec(id, &["/agentbot-agent", "probe"]).await;
    assert_eq!(output.code, 0, "{output:?}");
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_table_says_passes_both_judges() {
    let (home, engine) = (Home::new(), Engine::of_machine());
    let scratch = Scratch::on(&engine);
    let image = scratch.import_as("agentbot-test/table:1", &agent_binary(), "agentbot-agent").await;
    let (_listener, body) = slot(&home, &image);

    let id = scratch.create(&Scratch::name("table"), &body).await;
    let outside = inspect_deviations(&engine.inspect(&id).await.unwrap(), &LIMITS);
    let seen = probe(&engine, &id).await;

    assert!(outside.is_empty(), "from outside: {outside:#?}");
    let inside = probe_deviations(&seen, &LIMITS, UID);
    assert!(inside.is_empty(), "from inside: {inside:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_weakening_is_seen_from_outside() {
    let (home, engine) = (Home::new(), Engine::of_machine());
    let scratch = Scratch::on(&engine);
    let image = scratch.import_as("agentbot-test/weak:1", &agent_binary(), "agentbot-agent").await;
    let (_listener, body) = slot(&home, &image);
    let weakenings = [
        ("/User", json!("0:0")),
        ("/User", json!("59990")),
        ("/WorkingDir", json!("/")),
        ("/Hostname", json!("host")),
        ("/Env", json!(["API_KEY=x"])),
        ("/Healthcheck", json!({ "Test": ["CMD", "/x"] })),
        ("/StopSignal", json!("SIGKILL")),
        ("/Labels", json!({})),
        ("/Tty", json!(true)),
        ("/OpenStdin", json!(true)),
        ("/Volumes", json!({ "/data": {} })),
        ("/HostConfig/Privileged", json!(true)),
        ("/HostConfig/CapDrop", json!([])),
        ("/HostConfig/CapAdd", json!(["NET_RAW"])),
        ("/HostConfig/SecurityOpt", json!(["no-new-privileges:true"])),
        ("/HostConfig/SecurityOpt", json!([format!("seccomp={}", profile())])),
        ("/HostConfig/SecurityOpt", json!(["no-new-privileges:true", "seccomp=unconfined"])),
        ("/HostConfig/ReadonlyRootfs", json!(false)),
        ("/HostConfig/Tmpfs", json!({ "/tmp": "rw", "/run": "rw,noexec,nosuid,nodev,size=8m" })),
        ("/HostConfig/Mounts", json!([])),
        ("/HostConfig/Binds", json!(["/etc:/host:ro"])),
        ("/HostConfig/VolumesFrom", json!([])),
        (
            "/HostConfig/Devices",
            json!([{ "PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm" }]),
        ),
        ("/HostConfig/GroupAdd", json!(["0"])),
        ("/HostConfig/ExtraHosts", json!(["a:127.0.0.1"])),
        ("/HostConfig/PublishAllPorts", json!(true)),
        ("/HostConfig/PidsLimit", json!(33)),
        ("/HostConfig/Memory", json!(LIMITS.memory / 2)),
        ("/HostConfig/MemorySwap", json!(-1)),
        ("/HostConfig/OomKillDisable", json!(true)),
        ("/HostConfig/OomScoreAdj", json!(0)),
        ("/HostConfig/NanoCpus", json!(1_000_000_000)),
        ("/HostConfig/Ulimits", json!([])),
        ("/HostConfig/NetworkMode", json!("host")),
        ("/HostConfig/IpcMode", json!("host")),
        ("/HostConfig/PidMode", json!("host")),
        ("/HostConfig/UTSMode", json!("host")),
        ("/HostConfig/CgroupnsMode", json!("host")),
        ("/HostConfig/CgroupParent", json!("/other")),
        ("/HostConfig/Init", json!(true)),
        ("/HostConfig/AutoRemove", json!(true)),
        ("/HostConfig/RestartPolicy", json!({ "Name": "always" })),
        ("/HostConfig/LogConfig", json!({ "Type": "json-file", "Config": {} })),
        ("/HostConfig/MaskedPaths", json!([])),
        ("/HostConfig/ReadonlyPaths", json!([])),
    ];

    let mut unseen = Vec::new();
    let mut harmless = 0;
    for (number, (pointer, value)) in weakenings.into_iter().enumerate() {
        let shown = format!("{pointer} = {value}");
        let path = format!("/containers/create?name={}-{number}", Scratch::name("weak"));
        let reply = engine.try_call("POST", &path, Some(&with(&body, pointer, value))).await.unwrap();
        if reply.status != 201 {
            // The engine refuses some of them by itself.
            harmless += 1;
            continue;
        }
        let id = reply.value()["Id"].as_str().unwrap().to_owned();
        let inspected = engine.inspect(&id).await.unwrap();
        engine.remove(&id).await;
        if inspect_deviations(&inspected, &LIMITS).is_empty() {
            unseen.push(shown);
        }
    }

    // An empty list of containers to take volumes from is no weakening at all.
    unseen.retain(|shown| !shown.starts_with("/HostConfig/VolumesFrom"));
    assert!(unseen.is_empty(), "{unseen:#?}");
    assert!(harmless < 8, "{harmless} were refused by the engine: too few were judged");
}

#[tokio::test(flavor = "multi_thread")]
async fn weakenings_are_seen_from_inside() {
    let (home, engine) = (Home::new(), Engine::of_machine());
    let scratch = Scratch::on(&engine);
    let image = scratch.import_as("agentbot-test/inside:1", &agent_binary(), "agentbot-agent").await;
    let (_listener, body) = slot(&home, &image);

    for (number, (pointer, value)) in [
        ("/HostConfig/SecurityOpt", json!(["seccomp=unconfined"])),
        ("/HostConfig/ReadonlyRootfs", json!(false)),
        ("/HostConfig/Tmpfs", json!({})),
        ("/HostConfig/PidsLimit", json!(33)),
        ("/User", json!("0:0")),
    ]
    .into_iter()
    .enumerate()
    {
        let shown = format!("{pointer} = {value}");
        let name = format!("{}-{number}", Scratch::name("inside"));
        let id = scratch.create(&name, &with(&body, pointer, value)).await;
        let seen = tokio::time::timeout(Duration::from_secs(60), probe(&engine, &id)).await.expect("the probe ends");
        assert!(!probe_deviations(&seen, &LIMITS, UID).is_empty(), "{shown}");
    }
}
