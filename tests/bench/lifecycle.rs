//! Rows 1 and 3: what the daemon adds to what the engine takes.

use std::time::Instant;

use agentbot_tests::http::Connection;
use agentbot_tests::{Call, Daemon, Home};
use agentbot_wire::{Operation, Phase, ProvisionReply};
use serde_json::{Value, json};

use crate::figures::{PAIRS, Pairs, Table, Target, ms};

/// The same container as one of ours, by the raw API on a connection that is kept.
struct Raw {
    connection: Connection,
    body: Value,
    name: String,
}

impl Raw {
    async fn like(daemon: &Daemon, name: &str, dirs: &Home) -> Self {
        let ours = daemon.inspect(name).await;
        let mut body = json!({ "HostConfig": ours["HostConfig"], "Image": ours["Image"] });
        for field in ["User", "WorkingDir", "Hostname", "Env", "StopSignal", "StopTimeout", "Healthcheck", "Labels"] {
            body[field] = ours["Config"][field].clone();
        }
        // Not ours to the daemon, and not at the door of the agent it is copied from.
        body["Labels"] = json!({ "agentbot-bench": "yardstick" });
        for mount in body["HostConfig"]["Mounts"].as_array_mut().expect("mounts") {
            let dir = dirs.path().join(mount["Target"].as_str().expect("a target").replace('/', "-"));
            std::fs::create_dir_all(&dir).expect("a directory for the yardstick");
            mount["Source"] = json!(dir);
        }
        let connection = Connection::open(daemon.engine().socket()).await.expect("the engine");
        Self { connection, body, name: format!("agentbot-bench-{}", std::process::id()) }
    }

    async fn call(&mut self, method: &str, path: &str, body: Option<&Value>) {
        let call = Call::new(method, format!("/v1.41{path}"));
        let call = if let Some(body) = body { call.json(body) } else { call };
        let reply = self.connection.send(call).await.expect("the engine answers");
        assert!(reply.status < 400, "{method} {path}: {reply}");
    }

    async fn create_and_start(&mut self) {
        let (name, body) = (self.name.clone(), self.body.clone());
        self.call("POST", &format!("/containers/create?name={name}"), Some(&body)).await;
        self.call("POST", &format!("/containers/{name}/start"), None).await;
    }

    async fn on_container(&mut self, verb: &str) {
        let path = format!("/containers/{}/{verb}", self.name);
        self.call("POST", &path, None).await;
    }

    async fn remove(&mut self) {
        let path = format!("/containers/{}?force=true&v=true", self.name);
        self.call("DELETE", &path, None).await;
    }

    async fn rebuild(&mut self) {
        self.on_container("stop").await;
        self.remove().await;
        self.create_and_start().await;
    }
}

async fn provision(daemon: &Daemon, name: &str) {
    let accepted: ProvisionReply = daemon.provision(name).await;
    loop {
        let wait = format!("/api/operations/{}/wait?timeout=30", accepted.operation.id);
        let operation: Operation = daemon.get(&wait).await.expect(200).json();
        if operation.status.is_ended() {
            break;
        }
    }
    assert_eq!(daemon.agent(name).await.phase, Phase::Running);
}

async fn timed(work: impl Future) -> f64 {
    let begun = Instant::now();
    work.await;
    ms(begun.elapsed())
}

/// Each pair: ours, then the engine's, and the other way round the next time.
macro_rules! pair {
    ($pairs:expr, $number:expr, $ours:expr, $raw:expr) => {
        if $number % 2 == 0 {
            let ours = timed($ours).await;
            let raw = timed($raw).await;
            $pairs.add(ours, raw);
        } else {
            let raw = timed($raw).await;
            let ours = timed($ours).await;
            $pairs.add(ours, raw);
        }
    };
}

pub async fn pairs(daemon: &Daemon, table: &mut Table) {
    daemon.running("template").await;
    let dirs = Home::new();
    let mut raw = Raw::like(daemon, "template", &dirs).await;
    let (mut provisions, mut restarts, mut repairs, mut stops) =
        (Pairs::default(), Pairs::default(), Pairs::default(), Pairs::default());
    for number in 0..PAIRS {
        let name = format!("pair-{number}");
        pair!(provisions, number, provision(daemon, &name), raw.create_and_start());
        pair!(restarts, number, daemon.act(&name, "restart"), raw.on_container("restart"));
        pair!(repairs, number, daemon.act(&name, "repair"), raw.rebuild());
        pair!(stops, number, daemon.act(&name, "stop"), raw.on_container("stop"));
        daemon.purge(&name).await;
        raw.remove().await;
    }
    daemon.purge("template").await;
    table.ratio(1, "provision to running", "ms", provisions, "create+start", Target::AtMost(1.25));
    table.ratio(3, "stop", "ms", stops, "stop", Target::AtMost(1.2));
    table.ratio(3, "restart to running", "ms", restarts, "restart", Target::AtMost(1.2));
    table.ratio(3, "repair to running", "ms", repairs, "stop+rm+create+start", Target::AtMost(1.2));
}
