//! Directories of one daemon under a short path, and small disks to run out of.

use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

/// Where one daemon has its configuration, state, runtime directory and log.
#[derive(Debug)]
pub struct Home {
    dir: TempDir,
    state: PathBuf,
}

impl Home {
    /// A new empty home. Its path is short, because socket paths have at most 107 bytes, and other users may pass
    /// through it, because some tests knock as such.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::Builder::new().prefix("ab").tempdir_in("/tmp").expect("a directory under /tmp");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).expect("its mode can be set");
        let state = dir.path().join("s");
        Self { dir, state }
    }

    /// The same home with its state in a directory of exactly this many bytes of path.
    ///
    /// # Panics
    /// When the home's own path is longer than that.
    #[must_use]
    pub fn with_state_path_of(mut self, bytes: usize) -> Self {
        const LONGEST_NAME: usize = 200;
        let mut path = self.dir.path().display().to_string();
        while path.len() < bytes {
            path.push('/');
            path.push_str(&"s".repeat((bytes - path.len()).min(LONGEST_NAME)));
        }
        assert_eq!(path.len(), bytes, "a path of this length can be built");
        self.state = PathBuf::from(path);
        self
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// `--state-dir`.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.state.clone()
    }

    /// `--runtime-dir`.
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        self.path().join("r")
    }

    /// `--config`.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.path().join("agentbot.toml")
    }

    /// What the daemon wrote on stderr, over all its starts.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.path().join("log")
    }

    /// The admin socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.runtime().join("agentbot.sock")
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

/// A file system in memory of a given size, mounted until dropped.
#[derive(Debug)]
pub struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Mounts it.
    ///
    /// # Panics
    /// When it cannot be mounted: that takes root.
    #[must_use]
    pub fn mount(at: &Path, bytes: u64) -> Self {
        std::fs::create_dir_all(at).expect("the mount point can be made");
        let options = format!("size={bytes},mode=0755");
        mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .unwrap_or_else(|error| panic!("tmpfs at {}: {error}", at.display()));
        Self { at: at.to_owned() }
    }

    /// Forbids writing to it, or allows it again.
    ///
    /// # Panics
    /// When it cannot be mounted anew.
    pub fn read_only(&self, read_only: bool) {
        let flag = if read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
        mount(None::<&str>, &self.at, None::<&str>, MsFlags::MS_REMOUNT | flag, None::<&str>)
            .unwrap_or_else(|error| panic!("remount {}: {error}", self.at.display()));
    }

    /// Writes a file until nothing more fits, and gives its path.
    ///
    /// # Panics
    /// When the file cannot even be made.
    pub fn fill(&self) -> PathBuf {
        use std::io::Write;
        let path = self.at.join("filler");
        let mut file = std::fs::File::create(&path).expect("room for a name");
        let mut chunk = vec![0_u8; 64 * 1024];
        // Smaller and smaller, until not one byte is left.
        while !chunk.is_empty() {
            if file.write(&chunk).is_err() {
                chunk.truncate(chunk.len() / 2);
            }
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.at, MntFlags::MNT_DETACH) {
            eprintln!("{} stays mounted: {error}", self.at.display());
        }
        // In a story that fails the home around it may have been dropped before, and could not go.
        if std::fs::remove_dir(&self.at).is_ok() {
            let _ = self.at.parent().map(std::fs::remove_dir);
        }
    }
}
