//! Directories of slots.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use agentbot_wire::{Code, SlotId};
use nix::unistd::{Gid, Uid};

use crate::error::{Error, Result};
use crate::store::Slot;

/// Where the directories of slots are.
#[derive(Clone, Debug)]
pub struct SlotDirs {
    slots: PathBuf,
}

impl SlotDirs {
    /// Below the state directory.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { slots: state.join("slots") }
    }

    /// Everything of a slot.
    #[must_use]
    pub fn of(&self, slot: &SlotId) -> PathBuf {
        self.slots.join(slot.as_str())
    }

    /// The directory with the agent's socket.
    #[must_use]
    pub fn run(&self, slot: &SlotId) -> PathBuf {
        self.of(slot).join("run")
    }

    /// The workspace in use.
    #[must_use]
    pub fn workspace(&self, slot: &Slot) -> PathBuf {
        self.of(&slot.id).join("work").join(slot.workspace_gen.to_string())
    }

    /// Whether the workspace in use is there.
    pub async fn has_workspace(&self, slot: &Slot) -> bool {
        let path = self.workspace(slot);
        tokio::task::spawn_blocking(move || path.is_dir()).await.unwrap_or(false)
    }

    /// Makes the workspace in use, owned by the agent alone; one that is there stays as it is. Others may pass through the
    /// directories above it where container ids are remapped.
    ///
    /// # Errors
    /// `storage_full`, or what the file system said.
    pub async fn make_workspace(&self, slot: &Slot, host_uid: u32, remapped: bool) -> Result<()> {
        let (root, path) = (self.of(&slot.id), self.workspace(slot));
        let passage = if remapped { 0o711 } else { 0o700 };
        blocking(move || {
            for dir in [&root, &root.join("work")] {
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
                std::fs::set_permissions(dir, std::fs::Permissions::from_mode(passage))?;
            }
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))?;
            nix::unistd::chown(&path, Some(Uid::from_raw(host_uid)), Some(Gid::from_raw(host_uid)))?;
            // A crash right after the row says "made" must not find the directory missing.
            std::fs::File::open(root.join("work"))?.sync_all()
        })
        .await
        .map_err(|error| refuse("the workspace could not be made", &error))
    }

    /// Removes everything of a slot. What is gone already is fine.
    ///
    /// # Errors
    /// What the file system said.
    pub async fn remove(&self, slot: &SlotId) -> Result<()> {
        let path = self.of(slot);
        blocking(move || match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
        .await
        .map_err(|error| refuse("the agent's files could not be removed", &error))
    }
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
}

fn refuse(what: &str, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::new(Code::StorageFull, format!("{what}: the disk is full"))
                .hint("free some space; it is tried again")
        }
        _ => {
            Error::new(Code::Internal, format!("{what}: {error}")).hint("look at owner and mode of the state directory")
        }
    }
}
