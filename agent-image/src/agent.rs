//! The life of the agent: connect, work, end.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::backoff;
use crate::link::{self, LinkConfig};
use crate::log::Log;
use crate::pid1::Signals;
use crate::turn::{self, Bench, Desk};

/// Names the daemon's socket.
pub const SOCKET_VARIABLE: &str = "AGENTBOT_SOCKET";

/// The daemon's socket unless [`SOCKET_VARIABLE`] names another.
pub const DEFAULT_SOCKET: &str = "/run/agentbot/agentbot.sock";

/// Names the agent's own directory.
pub const WORKSPACE_VARIABLE: &str = "AGENTBOT_WORKSPACE";

/// The agent's own directory unless [`WORKSPACE_VARIABLE`] names another.
pub const DEFAULT_WORKSPACE: &str = "/workspace";

/// Threads for calls of the file system that may hang, and how long an idle one stays.
const BLOCKING_THREADS: usize = 4;
const BLOCKING_IDLE: Duration = Duration::from_secs(2);

/// What is under way has this long to finish after SIGTERM: less than the 10 s after which the engine kills.
const DRAIN_LIMIT: Duration = Duration::from_secs(8);

/// The path of the daemon's socket.
#[must_use]
pub fn socket_path() -> PathBuf {
    path(SOCKET_VARIABLE, DEFAULT_SOCKET)
}

fn path(variable: &str, usual: &str) -> PathBuf {
    env::var_os(variable).filter(|path| !path.is_empty()).map_or_else(|| usual.into(), PathBuf::from)
}

/// Runs the agent until SIGTERM or SIGINT.
#[must_use]
pub fn run() -> ExitCode {
    let log = Log::to_stdout();
    let built = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_IDLE)
        .build();
    match built {
        Ok(runtime) => {
            let code = runtime.block_on(live(&log));
            // A file system that hangs does not keep the agent from ending.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            log.error(&format!("cannot start the runtime: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn live(log: &Log) -> ExitCode {
    let started = Instant::now();
    let mut signals = match Signals::catch() {
        Ok(signals) => signals,
        Err(error) => {
            log.error(&format!("cannot catch signals: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let config = LinkConfig { socket: socket_path(), started, boot: backoff::word() };
    let (desk, jobs) = Desk::new();
    let workspace = path(WORKSPACE_VARIABLE, DEFAULT_WORKSPACE);
    let bench = Bench { desk: &desk, socket: config.socket.clone(), workspace, log };
    let (stop, stopped) = watch::channel(false);
    let working = async {
        // Neither ends before the other: turns go on without a link, and the link without turns.
        tokio::select! {
            () = link::run(&config, &desk, stopped, log) => {}
            () = turn::drive(&bench, jobs) => {}
        }
    };
    tokio::pin!(working);

    tokio::select! {
        // It ends by itself only when it is told to stop.
        () = &mut working => {}
        () = signals.until_stop() => {
            let finish = async {
                desk.finish().await;
                stop.send_replace(true);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = &mut working => {}
                () = finish => {}
                // Told twice, or too slow: what is under way is given up.
                () = signals.until_stop() => {}
                () = sleep(DRAIN_LIMIT) => log.warn("what was under way did not finish in time"),
            }
        }
    }
    log.info("stopped");
    ExitCode::SUCCESS
}
