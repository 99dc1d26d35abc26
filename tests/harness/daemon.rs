//! One daemon under test: started, killed, started again, and gone without trace at the end.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::SemaphorePermit;

use super::binaries::{agent_binary, daemon_binary};
use super::engine::Engine;
use super::gate;
use super::home::Home;
use super::http::{self, Call};
use super::poll::eventually;
use super::setup::Setup;

const READY: Duration = Duration::from_secs(30);
pub(super) const EXIT: Duration = Duration::from_secs(30);

/// How a daemon ended, and what it said.
#[derive(Clone, Debug)]
pub struct Exited {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote on stderr since it was started.
    pub stderr: String,
    /// How long that took.
    pub after: Duration,
}

impl Exited {
    /// The signal that ended it.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}

/// A daemon with a home and an engine. End every story with [`Daemon::finish`].
#[derive(Debug)]
pub struct Daemon {
    pub(super) home: Home,
    setup: Setup,
    pub(super) engine: Engine,
    pub(super) child: Option<Child>,
    log_before: u64,
    pub(super) finished: bool,
    _turn: SemaphorePermit<'static>,
}

impl Daemon {
    /// Starts a daemon in a new home and waits until it serves.
    ///
    /// # Panics
    /// When it ends or does not serve in time.
    pub async fn start(setup: Setup) -> Self {
        Self::start_in(Home::new(), setup).await
    }

    /// Starts a daemon in this home and waits until it serves.
    ///
    /// # Panics
    /// When it ends or does not serve in time.
    pub async fn start_in(home: Home, setup: Setup) -> Self {
        let mut daemon = Self::prepare(home, setup).await;
        daemon.launch();
        daemon.ready().await;
        daemon
    }

    /// A home with a configuration, and no daemon running in it yet.
    ///
    /// # Panics
    /// When the configuration cannot be written.
    pub async fn prepare(home: Home, setup: Setup) -> Self {
        let turn = gate::turn().await;
        let engine = Engine::at(setup.engine_socket());
        Self { home, setup, engine, child: None, log_before: 0, finished: false, _turn: turn }
    }

    /// Starts a daemon that is expected to refuse, and gives how it ended.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn refused(home: Home, setup: Setup) -> (Exited, Home) {
        let mut daemon = Self::prepare(home, setup).await;
        daemon.launch();
        let exited = daemon.exited(EXIT).await;
        daemon.finished = true;
        (exited, std::mem::take(&mut daemon.home))
    }

    /// A second daemon on the same directories, expected to refuse; gives how it ended.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn second(&self) -> Exited {
        let begun = Instant::now();
        let child = self.command().stderr(Stdio::piped()).spawn().expect("the daemon can be started");
        let output = tokio::time::timeout(EXIT, child.wait_with_output()).await.expect("the second daemon ends");
        let output = output.expect("the second daemon is waited for");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Exited { status: output.status, stderr, after: begun.elapsed() }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(daemon_binary());
        command
            .arg("--config")
            .arg(self.home.config())
            .arg("--state-dir")
            .arg(self.home.state())
            .arg("--runtime-dir")
            .arg(self.home.runtime())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("RUST_BACKTRACE", "1")
            .envs(self.setup.variables())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        if !self.setup.variables().contains_key("AGENTBOT_AGENT_BIN") {
            command.env("AGENTBOT_AGENT_BIN", agent_binary());
        }
        command
    }

    /// Starts the process, without waiting for anything.
    ///
    /// # Panics
    /// When one runs already, or it cannot be started.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "this daemon runs already");
        std::fs::write(self.home.config(), self.setup.to_toml()).expect("the configuration can be written");
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.home.log()).expect("the log can be opened");
        self.log_before = log.metadata().map(|meta| meta.len()).unwrap_or_default();
        self.child = Some(self.command().stderr(log).spawn().expect("the daemon can be started"));
    }

    /// Waits until it serves.
    ///
    /// # Panics
    /// When it ends instead, or does not serve in time.
    pub async fn ready(&mut self) {
        let socket = self.home.socket();
        eventually("the daemon to serve", READY, async || {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                panic!("the daemon ended with {status}:\n{}", self.log_since_start());
            }
            let health = Call::get("/api/health").within(Duration::from_secs(5));
            match http::send(&socket, health).await {
                Ok(reply) if reply.status == 200 => Ok(()),
                Ok(reply) => Err(reply.to_string()),
                Err(error) => Err(error),
            }
        })
        .await;
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn exited(&mut self, deadline: Duration) -> Exited {
        let begun = Instant::now();
        let child = self.child.as_mut().expect("a daemon that was started");
        let ended = tokio::time::timeout(deadline, child.wait()).await;
        let Ok(status) = ended else { panic!("the daemon still runs after {deadline:?}:\n{}", self.log_since_start()) };
        self.child = None;
        Exited {
            status: status.expect("the daemon is waited for"),
            stderr: self.log_since_start(),
            after: begun.elapsed(),
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = self.pid().expect("a daemon that runs");
        kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), signal).expect("our own daemon can be signalled");
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// When it does not run.
    pub async fn kill9(&mut self) {
        self.signal(Signal::SIGKILL);
        self.exited(EXIT).await;
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Panics
    /// When it does not run, or does not end in time.
    pub async fn sigterm(&mut self) -> Exited {
        self.signal(Signal::SIGTERM);
        self.exited(EXIT).await
    }

    /// Starts it again after its end and waits until it serves.
    ///
    /// # Panics
    /// When it runs, ends or does not serve in time.
    pub async fn restart(&mut self) {
        self.launch();
        self.ready().await;
    }

    /// Starts it again, differently, and waits until it serves.
    ///
    /// # Panics
    /// When it runs, ends or does not serve in time.
    pub async fn restart_with(&mut self, change: impl FnOnce(Setup) -> Setup) {
        self.change(change);
        self.restart().await;
    }

    /// Changes what the next start is given.
    pub fn change(&mut self, change: impl FnOnce(Setup) -> Setup) {
        self.setup = change(self.setup.clone());
    }

    /// Its process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Its directories.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The engine itself, past any proxy: see [`Daemon::look_at`].
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Looks at the engine through another socket than the daemon does.
    pub fn look_at(&mut self, engine: Engine) {
        self.engine = engine;
    }

    /// What it wrote since its last start.
    #[must_use]
    pub fn log_since_start(&self) -> String {
        let log = std::fs::read(self.home.log()).unwrap_or_default();
        let from = usize::try_from(self.log_before).unwrap_or_default().min(log.len());
        String::from_utf8_lossy(&log[from..]).into_owned()
    }

    /// Where a slot has its socket.
    #[must_use]
    pub fn run_dir(&self, slot: &agentbot_wire::SlotId) -> PathBuf {
        self.home.state().join("slots").join(slot.as_str()).join("run")
    }

    /// Where a slot has its workspaces, one directory for each generation.
    #[must_use]
    pub fn work_dir(&self, slot: &agentbot_wire::SlotId) -> PathBuf {
        self.home.state().join("slots").join(slot.as_str()).join("work")
    }
}
