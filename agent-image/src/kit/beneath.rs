//! Paths that stay beneath the workspace: each component is opened by itself and no symbolic link is followed, so that
//! nothing which changes meanwhile can lead out.

use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};

/// The longest path in bytes, and the most components.
const MAX_PATH: usize = 1024;
const MAX_DEPTH: usize = 32;
/// The longest component: what Linux takes.
const MAX_NAME: usize = 255;
/// Names that begin so belong to the agent.
pub const HIDDEN: &str = ".agentbot";
const HIDDEN_DIRECTORY: &CStr = c".agentbot";
/// How a directory is opened.
const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// Why a path is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is not a path beneath the workspace.
    Path(&'static str),
    /// The kernel's answer.
    System(Errno),
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        Self::System(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(why) => f.write_str(why),
            Self::System(Errno::ENOENT) => f.write_str("there is no such file or directory"),
            // ENOTDIR is a link too: a directory that is opened without following.
            Self::System(Errno::ELOOP) => f.write_str("it is a symbolic link, which is not followed"),
            Self::System(Errno::ENOTDIR) => {
                f.write_str("a part of the path is not a directory; symbolic links are not followed")
            }
            Self::System(Errno::ENOSPC | Errno::EDQUOT) => f.write_str("the disk is full"),
            Self::System(Errno::EROFS) => f.write_str("the workspace is read-only"),
            Self::System(errno) => f.write_str(errno.desc()),
        }
    }
}

/// A path beneath the workspace, as its components; empty for the workspace itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside(Vec<CString>);

impl Inside {
    /// Reads a path. `/workspace/x` means the same as `x`; `..` is never taken.
    ///
    /// # Errors
    /// When it leads out, is hidden, or is longer than any path here.
    pub fn read(path: &str) -> Result<Self, Refused> {
        if path.len() > MAX_PATH {
            return Err(Refused::Path("the path is longer than 1024 bytes"));
        }
        let relative = match path.strip_prefix("/workspace") {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
            _ if path.starts_with('/') => return Err(Refused::Path("only paths inside the workspace can be used")),
            _ => path,
        };
        let mut parts = Vec::new();
        for part in relative.split('/').filter(|part| !matches!(*part, "" | ".")) {
            if part == ".." {
                return Err(Refused::Path("`..` cannot be used: only paths inside the workspace"));
            }
            if part.starts_with(HIDDEN) {
                return Err(Refused::Path("names that begin with .agentbot belong to the agent itself"));
            }
            if part.len() > MAX_NAME {
                return Err(Refused::Path("a name is longer than 255 bytes"));
            }
            if part.chars().any(char::is_control) {
                return Err(Refused::Path("the path has a control character"));
            }
            parts.push(CString::new(part).map_err(|_| Refused::Path("the path has a NUL"))?);
        }
        if parts.len() > MAX_DEPTH {
            return Err(Refused::Path("the path has more than 32 parts"));
        }
        Ok(Self(parts))
    }

    /// Directory and name of what the path means; no name for the workspace itself. With `make`, directories that are
    /// missing are made.
    ///
    /// # Errors
    /// When a directory is none, is a link, or cannot be opened or made.
    pub fn parent(&self, workspace: &Path, make: bool) -> Result<(OwnedFd, Option<&CString>), Refused> {
        // The workspace itself is where the engine mounted it.
        let mut directory = open(workspace, DIRECTORY, Mode::empty())?;
        let Some((name, above)) = self.0.split_last() else { return Ok((directory, None)) };
        for part in above {
            directory = below(&directory, part, make)?;
        }
        Ok((directory, Some(name)))
    }
}

/// The agent's own directory in the workspace. It is made where it is missing.
///
/// # Errors
/// When it is something else, or cannot be opened or made.
pub fn hidden(workspace: &Path) -> Result<OwnedFd, Refused> {
    below(&open(workspace, DIRECTORY, Mode::empty())?, HIDDEN_DIRECTORY, true)
}

fn below(directory: &OwnedFd, name: &CStr, make: bool) -> Result<OwnedFd, Refused> {
    let open = || openat(directory, name, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty());
    match open() {
        Err(Errno::ENOENT) if make => match mkdirat(directory, name, Mode::from_bits_truncate(0o755)) {
            Err(errno) if errno != Errno::EEXIST => Err(errno.into()),
            _ => Ok(open()?),
        },
        opened => Ok(opened?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(path: &str) -> Result<Vec<String>, Refused> {
        Inside::read(path).map(|inside| inside.0.iter().map(|part| part.to_string_lossy().into_owned()).collect())
    }

    #[test]
    fn a_path_is_read_relative_to_the_workspace() {
        for path in ["a/b", "./a//b/", "/workspace/a/b", "a/./b"] {
            assert_eq!(parts(path).unwrap(), ["a", "b"], "{path}");
        }
        for path in ["", ".", "/workspace", "/workspace/", "./."] {
            assert!(parts(path).unwrap().is_empty(), "{path}");
        }
    }

    #[test]
    fn a_path_that_leads_out_or_is_hidden_is_refused() {
        for path in [
            "..",
            "a/..",
            "../a",
            "/etc/passwd",
            "/",
            "/workspace/../etc",
            "/workspaces",
            ".agentbot",
            "a/.agentbot/x",
            ".agentbot-tmp",
            "a\0b",
            "a\nb",
            "//etc",
            "a/../../../../etc/passwd",
        ] {
            assert!(parts(path).is_err(), "{path:?}");
        }
        assert!(parts(".agent").is_ok() && parts("..a").is_ok() && parts("...").is_ok());
    }

    #[test]
    fn lengths_pass_at_their_limits_and_not_beyond() {
        assert!(parts(&"a".repeat(MAX_NAME)).is_ok());
        assert!(parts(&"a".repeat(MAX_NAME + 1)).is_err());
        assert!(parts(&"a/".repeat(MAX_DEPTH)).is_ok());
        assert!(parts(&"a/".repeat(MAX_DEPTH + 1)).is_err());
        assert_eq!(parts(&format!("a{}", "/".repeat(MAX_PATH - 1))).unwrap(), ["a"]);
        assert!(parts(&format!("a{}", "/".repeat(MAX_PATH))).is_err());
    }

    proptest! {
        #[test]
        fn no_path_has_a_part_that_leads_out(path in "[./a\\\\~%2e\u{0}é]{0,40}") {
            if let Ok(parts) = parts(&path) {
                prop_assert!(parts.iter().all(|part| !part.contains('/') && part != ".." && part != "." && !part.is_empty()));
            }
        }
    }
}
