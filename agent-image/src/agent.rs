//! The life of the agent: connect, work, end.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::link::{self, LinkConfig};
use crate::log::Log;
use crate::pid1::Signals;

/// Names the daemon's socket.
pub const SOCKET_VARIABLE: &str = "AGENTBOT_SOCKET";

/// The daemon's socket unless [`SOCKET_VARIABLE`] names another.
pub const DEFAULT_SOCKET: &str = "/run/agentbot/agentbot.sock";

/// What is under way has this long to finish after SIGTERM: less than the 10 s after which the engine kills.
const DRAIN_LIMIT: Duration = Duration::from_secs(8);

/// The path of the daemon's socket.
#[must_use]
pub fn socket_path() -> PathBuf {
    env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty()).map_or_else(|| DEFAULT_SOCKET.into(), PathBuf::from)
}

/// Runs the agent until SIGTERM or SIGINT.
#[must_use]
pub fn run() -> ExitCode {
    let log = Log::to_stdout();
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(live(&log)),
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
    let config = LinkConfig { socket: socket_path(), started };
    let (stop, stopped) = watch::channel(false);
    let linked = link::run(&config, stopped, log);
    tokio::pin!(linked);

    tokio::select! {
        // The link ends by itself only when it is told to stop.
        () = &mut linked => {}
        () = signals.until_stop() => {
            stop.send_replace(true);
            tokio::select! {
                () = &mut linked => {}
                // Told twice, or too slow: what is under way is given up.
                () = signals.until_stop() => {}
                () = sleep(DRAIN_LIMIT) => log.warn("what was under way did not finish in time"),
            }
        }
    }
    log.info("stopped");
    ExitCode::SUCCESS
}
