//! `install`: makes of a file tree what a container of the agent needs.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::ExitCode;

use super::args::Args;
use super::{Done, USAGE, complain};

pub const HELP: &str = "\
Usage: install [ROOT]
Makes the directories in which a container of the agent has its mounts, and
links to the agent in /bin under the names of its tools. For Dockerfiles:

  RUN [\"/agentbot-agent\", \"install\"]

ROOT is the tree to work on, by default /. What exists stays as it is, apart
from the mode of /tmp. Exits with 1 when something cannot be made.
";

/// Where the links lead.
const AGENT: &str = "/agentbot-agent";

/// The names under which a link is made.
const LINKS: [&str; 6] = ["cat", "df", "env", "ls", "probe", "ps"];

/// Mount points and their modes. A read-only root must have them, and runc gives a file system that is mounted on an
/// existing directory the mode of that directory.
const DIRECTORIES: [(&str, u32); 8] = [
    ("proc", 0o555),
    ("sys", 0o555),
    ("dev", 0o755),
    ("tmp", 0o1777),
    ("run", 0o755),
    ("run/agentbot", 0o755),
    ("workspace", 0o755),
    ("bin", 0o755),
];

pub fn run(args: &Args) -> Done {
    let standard = [OsString::from("/")];
    let [root] = (if args.words.is_empty() { &standard[..] } else { &args.words }) else {
        complain("install: one root is expected; see --help");
        return Ok(ExitCode::from(USAGE));
    };
    Ok(match install(Path::new(root)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("install: {}: {error}", root.to_string_lossy()));
            ExitCode::FAILURE
        }
    })
}

fn install(root: &Path) -> io::Result<()> {
    for (name, mode) in DIRECTORIES {
        let path = root.join(name);
        let made = match fs::create_dir(&path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => false,
            Err(error) => return Err(named(&path, &error)),
        };
        // Set afterwards: the umask does not count, and a wrong /tmp is put right.
        if made || name == "tmp" {
            fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(|error| named(&path, &error))?;
        }
    }
    for name in LINKS {
        let link = root.join("bin").join(name);
        match symlink(AGENT, &link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(named(&link, &error)),
            _ => {}
        }
    }
    Ok(())
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::Tool;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn every_link_is_a_tool() {
        assert!(LINKS.iter().all(|name| Tool::named(name).is_some()));
    }

    #[test]
    fn an_empty_tree_gets_its_mount_points_and_links() {
        let root = tempfile::tempdir().unwrap();
        install(root.path()).unwrap();
        assert_eq!(mode(&root.path().join("tmp")), 0o1777);
        assert!(root.path().join("run/agentbot").is_dir() && root.path().join("workspace").is_dir());
        assert_eq!(fs::read_link(root.path().join("bin/ls")).unwrap(), Path::new(AGENT));
    }

    #[test]
    fn what_an_image_brings_along_stays() {
        let root = tempfile::tempdir().unwrap();
        for directory in ["usr", "usr/bin", "tmp"] {
            fs::create_dir(root.path().join(directory)).unwrap();
        }
        symlink("usr/bin", root.path().join("bin")).unwrap();
        fs::write(root.path().join("usr/bin/ls"), "its own").unwrap();
        for _ in 0..2 {
            install(root.path()).unwrap();
        }
        assert_eq!(fs::read_to_string(root.path().join("bin/ls")).unwrap(), "its own");
        assert!(root.path().join("usr/bin/probe").is_symlink());
        assert_eq!(mode(&root.path().join("tmp")), 0o1777);
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("workspace"), "").unwrap();
        assert!(install(root.path()).unwrap_err().to_string().contains("workspace: "));
    }
}
