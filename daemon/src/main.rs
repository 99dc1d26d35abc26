//! `agentbotd`: the daemon's command line.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use agentbotd::app::{App, Paths};
use agentbotd::config::{self, Loaded, LogFormat};
use agentbotd::error::Error;
use clap::{Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Exit code of a configuration with mistakes (EX_CONFIG of sysexits.h).
const EXIT_CONFIG: u8 = 78;
/// Exit code for want of rights (EX_NOPERM of sysexits.h).
const EXIT_RIGHTS: u8 = 77;

/// How long threads that are at something blocking may keep the end waiting.
const SHUTDOWN: Duration = Duration::from_secs(1);

/// Runs AI agents as locked-down containers and keeps them alive.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:
  sudo agentbotd                                  run with the defaults
  sudo agentbotd --config ./agentbot.toml         run with another configuration
  agentbotd check --config ./agentbot.toml        look for mistakes, change nothing

Exit codes: 0 ended as asked, 1 failed, 2 usage, 77 not root, 78 configuration"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Configuration file [default: /etc/agentbot/agentbot.toml, which may be absent]
    #[arg(long, env = "AGENTBOT_CONFIG", global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of database, key and workspaces
    #[arg(long, env = "AGENTBOT_STATE_DIR", global = true, default_value = "/var/lib/agentbot", value_name = "DIR")]
    state_dir: PathBuf,
    /// Directory of the admin socket
    #[arg(long, env = "AGENTBOT_RUNTIME_DIR", global = true, default_value = "/run/agentbot", value_name = "DIR")]
    runtime_dir: PathBuf,
    /// The agent binary [default: beside this program, or in lib/agentbot]
    #[arg(long, env = "AGENTBOT_AGENT_BIN", global = true, value_name = "FILE")]
    agent_bin: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the daemon in the foreground (what happens without a subcommand)
    Run,
    /// Looks for mistakes in the configuration and in the paths, and changes nothing
    Check,
    /// Lists the points at which this test build can be ended
    #[cfg(feature = "fault")]
    FaultPoints,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let loaded = match load(&cli) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            say(&mistakes);
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    match cli.command {
        Some(Command::Check) => {
            loaded.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
            say("the configuration has no mistakes");
            ExitCode::SUCCESS
        }
        #[cfg(feature = "fault")]
        Some(Command::FaultPoints) => {
            let mut out = std::io::stdout();
            agentbotd::instance::fault::names().iter().for_each(|name| drop(writeln!(out, "{name}")));
            ExitCode::SUCCESS
        }
        None | Some(Command::Run) => run(cli, loaded),
    }
}

fn load(cli: &Cli) -> Result<Loaded, String> {
    let loaded = config::load(cli.config.as_deref()).map_err(|mistakes| mistakes.to_string())?;
    config::check_paths(&cli.state_dir, &cli.runtime_dir).map_err(|mistakes| mistakes.to_string())?;
    config::engine_socket(&loaded.config.engine, docker_host().as_deref()).map_err(|mistakes| mistakes.to_string())?;
    Ok(loaded)
}

fn docker_host() -> Option<String> {
    std::env::var("DOCKER_HOST").ok()
}

/// One line on stderr; when even that is closed there is nobody to tell.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn run(cli: Cli, loaded: Loaded) -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        say("agentbotd runs as root, because it holds the engine's socket");
        say("hint: sudo agentbotd, or the unit file config/agentbotd.service");
        return ExitCode::from(EXIT_RIGHTS);
    }
    if let Err(errno) = keep_memory_private() {
        say(&format!("agentbotd: its memory could not be kept out of core files: {errno}"));
        return ExitCode::FAILURE;
    }
    log_to_stderr(&loaded);
    take_descriptors();
    #[cfg(feature = "fault")]
    let _faults = fail::FailScenario::setup();
    let paths = Paths {
        config: cli.config,
        state: cli.state_dir,
        runtime: cli.runtime_dir,
        agent_binary: cli.agent_bin,
        docker_host: docker_host(),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Error::internal(error)),
    };
    let ended = runtime.block_on(async {
        let shutdown = match asked_to_end() {
            Ok(shutdown) => shutdown,
            Err(error) => return fail(&Error::internal(error)),
        };
        let ended = async { App::build(&paths, loaded).await?.run(shutdown).await };
        match ended.await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        }
    });
    // A thread that hangs in a system call is not waited for: whatever it was at is resumed at the next start.
    runtime.shutdown_timeout(SHUTDOWN);
    ended
}

/// The key and tokens are in memory: no core file carries them, and no process without root's rights looks into it.
fn keep_memory_private() -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    nix::sys::prctl::set_dumpable(false)
}

/// Takes as many descriptors as the system lets it have: every socket needs one, and what a shell grants by itself is
/// soon used up. Without it the daemon serves fewer connections at once.
fn take_descriptors() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it was");
    }
}

fn fail(error: &Error) -> ExitCode {
    say(&format!("agentbotd: {error}"));
    if let Some(hint) = error.to_api().hint {
        say(&format!("hint: {hint}"));
    }
    ExitCode::FAILURE
}

/// Ends with the first SIGTERM or SIGINT. The handlers stand before anything is built, so none is missed.
fn asked_to_end() -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn log_to_stderr(loaded: &Loaded) {
    let log = &loaded.config.log;
    let level = log.level.as_str();
    // What the libraries say is for whoever asks for more than `info`.
    let filter = EnvFilter::new(format!("warn,agentbotd={level}"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match log.format {
        LogFormat::Json => builder.json().init(),
        LogFormat::Auto if !std::io::stderr().is_terminal() => builder.with_ansi(false).init(),
        LogFormat::Auto | LogFormat::Text => builder.with_ansi(colours).init(),
    }
    loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
}
