//! Where the programs under test are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const AGENT: &str = "AGENTBOT_AGENT_BIN";

pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a member of the workspace").to_owned()
}

/// The cargo target directory that this program was built into.
pub(crate) fn target() -> PathBuf {
    let program = std::env::current_exe().expect("this program has a path");
    let profile = profile_dir(&program);
    profile.parent().expect("a profile has a target directory").to_owned()
}

fn profile_dir(program: &Path) -> PathBuf {
    let dir = program.parent().expect("a program lies in a directory");
    if dir.ends_with("deps") { dir.parent().expect("`deps` lies in a profile").to_owned() } else { dir.to_owned() }
}

fn beside(name: &str, variable: &str, build: &str) -> PathBuf {
    let path = match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => profile_dir(&std::env::current_exe().expect("this program has a path")).join(name),
    };
    assert!(path.is_file(), "no `{name}` at {}; build it with `{build}`, or name it in {variable}", path.display());
    path
}

/// The agent, built static for musl.
///
/// # Panics
/// When it has not been built; the message says how.
#[must_use]
pub fn agent_binary() -> PathBuf {
    let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let path =
        std::env::var_os(AGENT).map_or_else(|| target().join(&triple).join("agent/agentbot-agent"), PathBuf::from);
    assert!(
        path.is_file(),
        "no agent at {}; build it with `cargo build --profile agent --target {triple} -p agentbot-agent`, or name it in {AGENT}",
        path.display()
    );
    path
}

/// The daemon, with its fault points.
///
/// # Panics
/// When it has not been built; the message says how.
#[must_use]
pub fn daemon_binary() -> PathBuf {
    beside("agentbotd", "AGENTBOT_DAEMON_BIN", "cargo build -p agentbotd --features fault")
}

/// The command line.
///
/// # Panics
/// When it has not been built; the message says how.
#[must_use]
pub fn ctl_binary() -> PathBuf {
    beside("agentbotctl", "AGENTBOT_CTL_BIN", "cargo build -p agentbotctl")
}

/// A program of this package, by name.
///
/// # Panics
/// When it has not been built; the message says how.
#[must_use]
pub fn helper_binary(name: &str) -> PathBuf {
    beside(name, "AGENTBOT_HELPER_BIN", "cargo build -p agentbot-tests --bins")
}

/// The program that tries forbidden system calls, compiled alone and static: it runs in images without a userland.
///
/// # Panics
/// When the compiler cannot build it.
#[must_use]
pub fn syscalls_binary() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| compile_static("syscalls")).clone()
}

/// What an agent's container runs whose part a test plays, compiled like [`syscalls_binary`].
///
/// # Panics
/// When the compiler cannot build it.
#[must_use]
pub fn sleeper_binary() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| compile_static("sleeper")).clone()
}

fn compile_static(name: &str) -> PathBuf {
    let output = target().join(format!("{name}-static"));
    let partial = target().join(format!("{name}-static.{}", std::process::id()));
    let source = format!("tests/helpers/{name}.rs");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let status = Command::new(compiler)
        .current_dir(workspace())
        .args(["--edition", "2024", "--target", &format!("{}-unknown-linux-musl", std::env::consts::ARCH)])
        .args(["-C", "opt-level=1", "-C", "strip=symbols", "-o"])
        .arg(&partial)
        .arg(&source)
        .status()
        .expect("rustc runs");
    assert!(status.success(), "rustc did not build {source} for musl");
    std::fs::rename(&partial, &output).expect("the target directory can be written");
    output
}
