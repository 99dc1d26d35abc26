//! An engine to look at with other eyes than the daemon's: its API as plain JSON, without the daemon's client library.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::http::{self, Call, Reply};

/// What a command in a container gave.
#[derive(Clone, Debug)]
pub struct ExecOutput {
    /// Its exit code.
    pub code: i64,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

impl ExecOutput {
    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// A Docker Engine by its socket.
#[derive(Clone, Debug)]
pub struct Engine {
    socket: PathBuf,
}

pub(crate) const VERSION: &str = "/v1.41";
const DAEMON_LABEL: &str = "io.agentbot.daemon";

fn filters(value: &Value) -> String {
    // Only the characters that JSON and our values use need escaping.
    value
        .to_string()
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

impl Engine {
    /// The engine behind this socket.
    #[must_use]
    pub fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// The machine's engine.
    #[must_use]
    pub fn of_machine() -> Self {
        Self::at(Path::new("/var/run/docker.sock"))
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// One call, for what has no verb here. The path is without the version.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn try_call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Reply, String> {
        let call = Call::new(method, format!("{VERSION}{path}"));
        http::send(&self.socket, if let Some(body) = body { call.json(body) } else { call }).await
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<&Value>, allowed: &[u16]) -> Reply {
        let reply = self.try_call(method, path, body).await.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert!(allowed.contains(&reply.status), "{method} {path}: {reply}");
        reply
    }

    /// `/info`.
    ///
    /// # Panics
    /// When the engine does not answer.
    pub async fn info(&self) -> Value {
        self.call("GET", "/info", None, &[200]).await.value()
    }

    /// One container by id or name, `None` when there is none.
    ///
    /// # Panics
    /// When the engine does not answer.
    pub async fn inspect(&self, id: &str) -> Option<Value> {
        let reply = self.call("GET", &format!("/containers/{id}/json"), None, &[200, 404]).await;
        (reply.status == 200).then(|| reply.value())
    }

    /// Every container, in any state, that carries the label of a daemon, or of this daemon alone.
    ///
    /// # Panics
    /// When the engine does not answer.
    pub async fn labelled(&self, daemon: Option<&str>) -> Vec<Value> {
        let label = daemon.map_or_else(|| DAEMON_LABEL.to_owned(), |id| format!("{DAEMON_LABEL}={id}"));
        let path = format!("/containers/json?all=true&filters={}", filters(&json!({ "label": [label] })));
        self.call("GET", &path, None, &[200]).await.value().as_array().cloned().unwrap_or_default()
    }

    /// Every container, in any state, that has something mounted from below this directory.
    ///
    /// # Panics
    /// When the engine does not answer.
    pub async fn mounting(&self, below: &Path) -> Vec<Value> {
        let all = self.call("GET", "/containers/json?all=true", None, &[200]).await.value();
        let from_below = |container: &&Value| {
            let mounts = container["Mounts"].as_array();
            mounts.is_some_and(|mounts| {
                mounts
                    .iter()
                    .any(|mount| mount["Source"].as_str().is_some_and(|from| Path::new(from).starts_with(below)))
            })
        };
        all.as_array().map(|all| all.iter().filter(from_below).cloned().collect()).unwrap_or_default()
    }

    /// `docker rm -f`; one that is gone is fine.
    ///
    /// # Panics
    /// When the engine will not.
    pub async fn remove(&self, id: &str) {
        self.call("DELETE", &format!("/containers/{id}?force=true&v=true"), None, &[204, 404, 409]).await;
    }

    /// Sends a signal to its first process.
    ///
    /// # Panics
    /// When the engine will not.
    pub async fn kill(&self, id: &str, signal: &str) {
        self.call("POST", &format!("/containers/{id}/kill?signal={signal}"), None, &[204]).await;
    }

    /// Freezes it.
    ///
    /// # Panics
    /// When the engine will not.
    pub async fn pause(&self, id: &str) {
        self.call("POST", &format!("/containers/{id}/pause"), None, &[204]).await;
    }

    /// Lets it run again.
    ///
    /// # Panics
    /// When the engine will not.
    pub async fn unpause(&self, id: &str) {
        self.call("POST", &format!("/containers/{id}/unpause"), None, &[204]).await;
    }

    /// Stops it behind the daemon's back.
    ///
    /// # Panics
    /// When the engine will not.
    pub async fn stop(&self, id: &str) {
        self.call("POST", &format!("/containers/{id}/stop?t=2"), None, &[204, 304]).await;
    }

    /// Starts it.
    ///
    /// # Panics
    /// When the engine will not.
    pub async fn start(&self, id: &str) {
        self.call("POST", &format!("/containers/{id}/start"), None, &[204, 304]).await;
    }

    /// Gives it another name.
    ///
    /// # Panics
    /// When the engine will not.
    pub async fn rename(&self, id: &str, name: &str) {
        self.call("POST", &format!("/containers/{id}/rename?name={name}"), None, &[204]).await;
    }

    /// Runs a command in a container, as the user of its first process, and waits for its end.
    ///
    /// # Panics
    /// When the engine will not.
    pub async fn exec(&self, id: &str, command: &[&str]) -> ExecOutput {
        let body = json!({ "AttachStdout": true, "AttachStderr": true, "Cmd": command });
        let made = self.call("POST", &format!("/containers/{id}/exec"), Some(&body), &[201]).await.value();
        let exec = made["Id"].as_str().expect("an exec has an id").to_owned();
        let body = json!({ "Detach": false, "Tty": false });
        let output = self.call("POST", &format!("/exec/{exec}/start"), Some(&body), &[200]).await;
        let (stdout, stderr) = demultiplex(&output.body);
        let ended = self.call("GET", &format!("/exec/{exec}/json"), None, &[200]).await.value();
        ExecOutput { code: ended["ExitCode"].as_i64().unwrap_or(-1), stdout, stderr }
    }

    /// Images that carry a tag of this repository: reference and id.
    ///
    /// # Panics
    /// When the engine does not answer.
    pub async fn images(&self, repository: &str) -> Vec<(String, String)> {
        let all = self.call("GET", "/images/json?all=true", None, &[200]).await.value();
        let mut found = Vec::new();
        for image in all.as_array().into_iter().flatten() {
            for tag in image["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if tag.rsplit_once(':').is_some_and(|(name, _)| name == repository) {
                    found.push((tag.to_owned(), image["Id"].as_str().unwrap_or_default().to_owned()));
                }
            }
        }
        found
    }

    /// Removes an image by reference or id; one that is gone is fine.
    ///
    /// # Panics
    /// When the engine does not answer.
    pub async fn remove_image(&self, reference: &str) {
        self.call("DELETE", &format!("/images/{reference}?force=true"), None, &[200, 404, 409]).await;
    }

    /// `docker system prune -af --volumes`.
    ///
    /// # Panics
    /// When the engine will not.
    pub async fn prune_everything(&self) {
        let every_image = filters(&json!({ "dangling": ["false"] }));
        for path in [
            "/containers/prune".to_owned(),
            "/networks/prune".to_owned(),
            "/volumes/prune".to_owned(),
            format!("/images/prune?filters={every_image}"),
            "/build/prune?all=true".to_owned(),
        ] {
            self.call("POST", &path, None, &[200]).await;
        }
    }

    /// Whether it answers within a second.
    pub async fn answers(&self) -> bool {
        let ping = Call::get("/_ping").within(Duration::from_secs(1));
        http::send(&self.socket, ping).await.is_ok_and(|reply| reply.status == 200)
    }
}

/// Takes the two streams of an exec apart: each chunk has a header of its stream and its length.
fn demultiplex(mut bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    const HEADER: usize = 8;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some((header, rest)) = bytes.split_at_checked(HEADER) {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let (chunk, rest) = rest.split_at(length.min(rest.len()));
        if header[0] == 2 {
            stderr.extend_from_slice(chunk)
        } else {
            stdout.extend_from_slice(chunk)
        }
        bytes = rest;
    }
    (stdout, stderr)
}
