//! Talking to a daemon: calls, bytes, and its command line.

use std::process::Stdio;
use std::time::Duration;

use agentbot_wire::DaemonStatus;
use tokio::process::Command;

use super::binaries::ctl_binary;
use super::daemon::Daemon;
use super::http::{self, Call, Reply};

impl Daemon {
    /// One call on the admin socket, which must be answered.
    ///
    /// # Panics
    /// When it is not.
    pub async fn call(&self, call: Call) -> Reply {
        let shown = format!("{call:?}");
        http::send(&self.home().socket(), call).await.unwrap_or_else(|error| panic!("{error} to {shown:.400}"))
    }

    /// `GET path`.
    ///
    /// # Panics
    /// When it is not answered.
    pub async fn get(&self, path: &str) -> Reply {
        self.call(Call::get(path)).await
    }

    /// `POST path` without a body.
    ///
    /// # Panics
    /// When it is not answered.
    pub async fn post(&self, path: &str) -> Reply {
        self.call(Call::post(path)).await
    }

    /// `DELETE path`.
    ///
    /// # Panics
    /// When it is not answered.
    pub async fn delete(&self, path: &str) -> Reply {
        self.call(Call::delete(path)).await
    }

    /// Bytes on the admin socket; gives what came back until the daemon closed, or a few seconds passed.
    ///
    /// # Panics
    /// When nobody listens.
    pub async fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        http::raw(&self.home().socket(), bytes, Duration::from_secs(3)).await.expect("the daemon listens")
    }

    /// `GET /api/status`.
    ///
    /// # Panics
    /// When it is not answered.
    pub async fn status(&self) -> DaemonStatus {
        self.get("/api/status").await.expect(200).json()
    }

    /// Runs the command line against this daemon.
    ///
    /// # Panics
    /// When it cannot be started or does not end in time.
    pub async fn ctl(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(ctl_binary());
        command.args(arguments).env("AGENTBOT_SOCKET", self.home().socket()).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(http::DEADLINE, command.output()).await.expect("agentbotctl ends");
        output.expect("agentbotctl can be started")
    }
}
