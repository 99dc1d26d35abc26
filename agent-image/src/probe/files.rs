//! What can be seen and written in the file tree.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use serde::Serialize;

use super::outcome;
use crate::proc::mountinfo::{self, Mount};

/// At most this many directory entries are looked at in the search for sockets: a full workspace must not stall it.
const MAX_WALKED: usize = 50_000;

/// Sockets through which an engine is commanded.
const ENGINE_SOCKETS: [&str; 5] = ["docker.sock", "containerd.sock", "podman.sock", "crio.sock", "dockershim.sock"];

/// What the engine hides, and the power meter that older engines do not hide.
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What the engine lets be read only.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A directory that matters.
#[derive(Debug, Serialize)]
pub struct Directory {
    path: String,
    uid: Option<u32>,
    gid: Option<u32>,
    /// Permission bits in octal.
    mode: Option<String>,
    /// What became of a file made in it.
    write: String,
}

impl Directory {
    /// Looks at it and tries to write.
    pub fn look(path: &Path) -> Self {
        let about = fs::metadata(path).ok();
        Self {
            path: path.to_string_lossy().into_owned(),
            uid: about.as_ref().map(MetadataExt::uid),
            gid: about.as_ref().map(MetadataExt::gid),
            mode: about.as_ref().map(|about| format!("{:04o}", about.mode() & 0o7777)),
            write: try_write(path),
        }
    }
}

/// The daemon's socket.
#[derive(Debug, Serialize)]
pub struct Socket {
    path: String,
    present: bool,
    uid: Option<u32>,
    gid: Option<u32>,
    /// Permission bits in octal.
    mode: Option<String>,
}

impl Socket {
    /// Looks at it, without connecting.
    pub fn look(path: &Path) -> Self {
        let about = fs::metadata(path).ok().filter(|about| about.file_type().is_socket());
        Self {
            path: path.to_string_lossy().into_owned(),
            present: about.is_some(),
            uid: about.as_ref().map(MetadataExt::uid),
            gid: about.as_ref().map(MetadataExt::gid),
            mode: about.as_ref().map(|about| format!("{:04o}", about.mode() & 0o7777)),
        }
    }
}

/// The sockets of the whole tree.
#[derive(Debug, Default, Serialize)]
pub struct Sockets {
    found: Vec<String>,
    /// Those with a name that engines use.
    engine: Vec<String>,
    /// Whether the whole tree was looked at.
    complete: bool,
}

impl Sockets {
    /// Looks below `root`, nearest first, without following links and without the kernel's own trees.
    pub fn find(root: &Path) -> Self {
        let mut sockets = Self { complete: true, ..Self::default() };
        let mut ahead = VecDeque::from([root.to_owned()]);
        let mut walked = 0;
        while let Some(directory) = ahead.pop_front() {
            if [Path::new("/proc"), Path::new("/sys")].contains(&directory.as_path()) {
                continue;
            }
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            for entry in entries.flatten() {
                walked += 1;
                if walked > MAX_WALKED {
                    sockets.complete = false;
                    return sockets;
                }
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => ahead.push_back(entry.path()),
                    Ok(kind) if kind.is_socket() => sockets.add(&entry.path()),
                    _ => {}
                }
            }
        }
        sockets
    }

    fn add(&mut self, path: &Path) {
        let shown = path.to_string_lossy().into_owned();
        if path.file_name().is_some_and(|name| ENGINE_SOCKETS.iter().any(|engine| name == *engine)) {
            self.engine.push(shown.clone());
        }
        self.found.push(shown);
    }
}

/// Tries to make a file in `directory`; what was made is removed.
pub fn try_write(directory: &Path) -> String {
    let path = scratch(directory, "write");
    let made = OpenOptions::new().write(true).create_new(true).open(&path);
    if made.is_ok() {
        let _ = fs::remove_file(&path);
    }
    outcome(made)
}

/// A name in `directory` that nobody else uses.
pub fn scratch(directory: &Path, purpose: &str) -> PathBuf {
    directory.join(format!(".agentbot-probe-{}-{purpose}", std::process::id()))
}

/// The names in a directory, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// What of the hidden paths can be read: `readable`, `masked`, `empty`, `absent`, or the name of the error.
pub fn masked(mounts: &[Mount]) -> BTreeMap<&'static str, String> {
    MASKED.into_iter().map(|path| (path, sight(mounts, path))).collect()
}

fn sight(mounts: &[Mount], path: &str) -> String {
    let content = fs::metadata(path).and_then(|about| {
        if about.is_dir() {
            fs::read_dir(path).map(|mut entries| entries.next().is_some())
        } else {
            File::open(path).and_then(|mut file| file.read(&mut [0])).map(|length| length > 0)
        }
    });
    let covered = mounts.iter().any(|mount| mount.target == path);
    match content {
        Ok(true) => "readable".to_owned(),
        Ok(false) if covered => "masked".to_owned(),
        Ok(false) => "empty".to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "absent".to_owned(),
        Err(error) => outcome::<()>(Err(error)),
    }
}

/// Whether a path can be written.
#[derive(Debug, Serialize)]
pub struct Writable {
    /// Whether its mount forbids it; null when no mount is known.
    read_only: Option<bool>,
    /// The kernel's answer.
    write: String,
}

/// Whether the paths that are to be read only are.
pub fn read_only(mounts: &[Mount]) -> BTreeMap<&'static str, Writable> {
    let look = |path| Writable {
        read_only: mountinfo::covering(mounts, path).map(|mount| mount.read_only),
        write: outcome(access(path, AccessFlags::W_OK).map_err(Into::into)),
    };
    READ_ONLY.into_iter().map(|path| (path, look(path))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn sockets_are_found_and_those_of_engines_are_named() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join("var/run")).unwrap();
        let _engine = UnixListener::bind(tree.path().join("var/run/docker.sock")).unwrap();
        let _other = UnixListener::bind(tree.path().join("x.sock")).unwrap();
        fs::write(tree.path().join("containerd.sock"), "not a socket").unwrap();
        let sockets = Sockets::find(tree.path());
        assert_eq!((sockets.found.len(), sockets.engine.len(), sockets.complete), (2, 1, true));
        assert!(sockets.engine[0].ends_with("/var/run/docker.sock"));
    }

    #[test]
    fn a_link_does_not_lead_the_search_in_circles() {
        let tree = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(tree.path(), tree.path().join("again")).unwrap();
        assert!(Sockets::find(tree.path()).complete);
    }

    #[test]
    fn a_write_that_succeeds_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(try_write(directory.path()), "ok");
        assert!(names(directory.path()).is_empty());
        assert_eq!(try_write(&directory.path().join("absent")), "ENOENT");
    }

    #[test]
    fn a_regular_file_is_not_the_socket() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(!Socket::look(file.path()).present);
    }

    #[test]
    fn a_hidden_path_is_told_from_an_open_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        let cover = mountinfo::parse(&format!("1 0 0:1 / {path} ro - tmpfs x ro\n"));
        assert_eq!([sight(&[], path), sight(&cover, path)], ["empty", "masked"]);
        fs::write(directory.path().join("x"), "").unwrap();
        assert_eq!(sight(&cover, path), "readable");
        assert_eq!(sight(&[], &format!("{path}/absent")), "absent");
    }
}
