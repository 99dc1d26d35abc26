//! `probe`: how this container is locked down, told by a process inside it.
//!
//! Everything that is tried is undone if it succeeds, so the probe can be run at any time beside a working agent. A
//! fact that cannot be seen is null; an attempt reads `ok` or the name of the error, as in `EPERM`.

mod attempts;
mod files;
mod network;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::sys::statvfs::statvfs;
use serde::Serialize;

use crate::agent::socket_path;
use crate::proc::cgroup::Limits;
use crate::proc::mountinfo::{self, Mount};
use crate::proc::process::Process;
use crate::proc::status::{IdRange, Status, parse_id_map};

pub const HELP: &str = "\
Usage: probe
Shows how this container is locked down, as one JSON object: identity,
capabilities, limits, mounts, network, and what happens when forbidden things
are tried. What succeeds is undone. null is what cannot be seen from here.
";

/// The directory that the agent may write.
const WORKSPACE: &str = "/workspace";

#[derive(Debug, Serialize)]
struct Facts {
    version: &'static str,
    pid: u32,
    pid1_command: Option<String>,
    processes: usize,
    zombies: usize,
    /// Uid, gid, groups, capabilities, no_new_privileges, seccomp.
    #[serde(flatten)]
    status: Status,
    uid_map: Vec<IdRange>,
    gid_map: Vec<IdRange>,
    oom_score_adj: Option<i32>,
    limits: BTreeMap<&'static str, Option<Range>>,
    cgroup: Limits,
    cgroup_membership: Vec<String>,
    namespaces: BTreeMap<String, String>,
    lsm_label: Option<String>,
    hostname: Option<String>,
    working_directory: Option<String>,
    environment: BTreeMap<String, String>,
    descriptors: Vec<String>,
    mounts: Vec<Mount>,
    tmp: Option<Storage>,
    run: Option<Storage>,
    shm: Option<Storage>,
    root_write: String,
    workspace: files::Directory,
    run_directory: files::Directory,
    socket: files::Socket,
    sockets: files::Sockets,
    devices: Vec<String>,
    masked_paths: BTreeMap<&'static str, String>,
    read_only_paths: BTreeMap<&'static str, files::Writable>,
    interfaces: Option<Vec<String>>,
    routes: Option<usize>,
    connects: BTreeMap<&'static str, String>,
    attempts: BTreeMap<&'static str, String>,
}

/// A resource limit; null is none.
#[derive(Debug, Serialize)]
struct Range {
    soft: Option<u64>,
    hard: Option<u64>,
}

/// A mounted file system of its own.
#[derive(Debug, Serialize)]
struct Storage {
    fstype: String,
    size_bytes: u64,
    read_only: bool,
    noexec: bool,
    nosuid: bool,
    nodev: bool,
    /// Path, owner, mode, and what became of a file made in it.
    #[serde(flatten)]
    directory: files::Directory,
}

/// Prints the facts.
pub fn run() -> io::Result<ExitCode> {
    // Strings, numbers, lists and maps with string keys: serialising them cannot fail.
    let mut text = serde_json::to_string_pretty(&facts()).unwrap_or_default();
    text.push('\n');
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn facts() -> Facts {
    let processes = Process::all();
    let mounts = mountinfo::parse(&text("/proc/self/mountinfo").unwrap_or_default());
    let socket = socket_path();
    let interfaces = network::interfaces();
    let mut facts = Facts {
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        pid1_command: line("/proc/1/comm"),
        processes: processes.len(),
        zombies: processes.iter().filter(|process| process.state == 'Z').count(),
        status: Status::parse(&text("/proc/self/status").unwrap_or_default()),
        uid_map: parse_id_map(&text("/proc/self/uid_map").unwrap_or_default()),
        gid_map: parse_id_map(&text("/proc/self/gid_map").unwrap_or_default()),
        oom_score_adj: line("/proc/self/oom_score_adj").and_then(|score| score.parse().ok()),
        limits: BTreeMap::from([
            ("nofile", range(Resource::RLIMIT_NOFILE)),
            ("core", range(Resource::RLIMIT_CORE)),
            ("nproc", range(Resource::RLIMIT_NPROC)),
        ]),
        cgroup: Limits::of_this_process(),
        cgroup_membership: text("/proc/self/cgroup").unwrap_or_default().lines().map(str::to_owned).collect(),
        namespaces: links("/proc/self/ns").into_iter().collect(),
        lsm_label: line("/proc/self/attr/current"),
        hostname: line("/proc/sys/kernel/hostname"),
        working_directory: std::env::current_dir().ok().map(|path| path.to_string_lossy().into_owned()),
        environment: environment(),
        descriptors: links("/proc/self/fd").into_iter().map(|(_, target)| target).collect(),
        tmp: storage(&mounts, "/tmp"),
        run: storage(&mounts, "/run"),
        shm: storage(&mounts, "/dev/shm"),
        root_write: files::try_write(Path::new("/")),
        workspace: files::Directory::look(Path::new(WORKSPACE)),
        run_directory: files::Directory::look(socket.parent().unwrap_or_else(|| Path::new("/"))),
        socket: files::Socket::look(&socket),
        sockets: files::Sockets::find(Path::new("/")),
        devices: files::names(Path::new("/dev")),
        masked_paths: files::masked(&mounts),
        read_only_paths: files::read_only(&mounts),
        routes: network::routes(),
        connects: network::connects(interfaces.as_deref()),
        attempts: BTreeMap::new(),
        interfaces,
        mounts,
    };
    // Last: should one succeed, this process is no longer what it was.
    facts.attempts = attempts::all();
    facts
}

fn text(path: &str) -> Option<String> {
    fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn line(path: &str) -> Option<String> {
    text(path).map(|text| text.trim_end_matches(['\n', '\0']).to_owned()).filter(|line| !line.is_empty())
}

fn links(directory: &str) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut links: Vec<(String, String)> = entries
        .flatten()
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned();
            Some((entry.file_name().to_string_lossy().into_owned(), target))
        })
        .collect();
    links.sort();
    links
}

fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .collect()
}

fn range(resource: Resource) -> Option<Range> {
    let (soft, hard) = getrlimit(resource).ok()?;
    let bound = |limit| (limit != RLIM_INFINITY).then_some(limit);
    Some(Range { soft: bound(soft), hard: bound(hard) })
}

/// The file system mounted at exactly `target`.
fn storage(mounts: &[Mount], target: &str) -> Option<Storage> {
    let mount = mounts.iter().rev().find(|mount| mount.target == target)?;
    let figures = statvfs(target).ok()?;
    Some(Storage {
        fstype: mount.fstype.clone(),
        size_bytes: figures.blocks().saturating_mul(figures.fragment_size()),
        read_only: mount.read_only,
        noexec: mount.noexec,
        nosuid: mount.nosuid,
        nodev: mount.nodev,
        directory: files::Directory::look(Path::new(target)),
    })
}

/// `ok`, or the name of the error.
fn outcome<T>(tried: io::Result<T>) -> String {
    match tried {
        Ok(_) => "ok".to_owned(),
        Err(error) => match error.raw_os_error() {
            Some(code) => format!("{:?}", nix::errno::Errno::from_raw(code)),
            None if error.kind() == io::ErrorKind::TimedOut => "ETIMEDOUT".to_owned(),
            None => error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_by_its_name() {
        assert_eq!(outcome::<()>(Err(io::Error::from_raw_os_error(1))), "EPERM");
        assert_eq!(outcome::<()>(Err(nix::errno::Errno::EROFS.into())), "EROFS");
        assert_eq!(outcome::<()>(Err(io::ErrorKind::TimedOut.into())), "ETIMEDOUT");
        assert_eq!(outcome(Ok(7)), "ok");
    }

    #[test]
    fn only_a_mount_of_its_own_counts_as_storage() {
        let mounts = mountinfo::parse("1 0 0:1 / / rw - ext4 x rw\n");
        assert!(storage(&mounts, "/").is_some());
        assert!(storage(&mounts, "/tmp").is_none());
    }
}
