//! Directories of slots.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use agentbot_wire::{Code, SlotId};
use nix::unistd::{Gid, Uid};

use super::trash;
use crate::error::{Error, Result};
use crate::store::Slot;

/// What the name of a directory begins with that is being removed; the slot's id follows.
const TRASH: &str = ".trash-";
/// Entries that are removed in one go, so that nothing waits long for a thread: some 200 ms.
const SHARE: usize = 20_000;

/// Where the directories of slots are.
#[derive(Clone, Debug)]
pub struct SlotDirs {
    state: PathBuf,
    slots: PathBuf,
}

impl SlotDirs {
    /// Below the state directory.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { state: state.to_owned(), slots: state.join("slots") }
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
    /// directories above it where container ids are remapped. Once this answers, not even a loss of power takes it away.
    ///
    /// # Errors
    /// `storage_full`, or what the file system said.
    pub async fn make_workspace(&self, slot: &Slot, host_uid: u32, remapped: bool) -> Result<()> {
        let (dirs, id, path) = (self.clone(), slot.id.clone(), self.workspace(slot));
        let (root, work) = (self.of(&id), self.of(&id).join("work"));
        blocking(move || {
            for dir in [&root, &work, &path] {
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            }
            for dir in [&root, &work, &path] {
                std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
            }
            nix::unistd::chown(&path, Some(Uid::from_raw(host_uid)), Some(Gid::from_raw(host_uid)))?;
            if remapped {
                dirs.open_passage(&id)?;
            }
            // A name lasts once the directory that holds it is on the disk.
            [&path, &work, &root, &dirs.slots].into_iter().try_for_each(|dir| sync(dir))
        })
        .await
        .map_err(|error| refuse("the workspace could not be made", &error))
    }

    /// Lets the remapped root of containers pass through to a slot, and list nothing on the way. Its uid is no user of the
    /// host, so nobody else gains by it.
    ///
    /// # Errors
    /// What the file system said.
    pub async fn let_pass(&self, slot: &SlotId) -> Result<()> {
        let (dirs, slot) = (self.clone(), slot.clone());
        blocking(move || dirs.open_passage(&slot))
            .await
            .map_err(|error| refuse("the way to the agent's directories could not be opened", &error))
    }

    fn open_passage(&self, slot: &SlotId) -> io::Result<()> {
        let root = self.of(slot);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
        for dir in [&self.state, &self.slots, &root, &root.join("work")] {
            match std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o711)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes everything of a slot, whatever its agent made of it. What is gone already is fine; what an end in the middle
    /// leaves is removed by the next call, or by [`Self::sweep`].
    ///
    /// # Errors
    /// What the file system said.
    pub async fn remove(&self, slot: &SlotId) -> Result<()> {
        let (root, trash, slots) = (self.of(slot), self.slots.join(format!("{TRASH}{slot}")), self.slots.clone());
        let removal = async {
            clear(&trash).await?;
            let aside = trash.clone();
            // From here on no part of it can be taken for a workspace.
            blocking(move || match std::fs::rename(&root, &aside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            })
            .await?;
            clear(&trash).await?;
            blocking(move || sync(&slots)).await
        };
        removal.await.map_err(|error: io::Error| refuse("the agent's files could not be removed", &error))
    }

    /// Removes what removals left that did not come to their end; says how many there were.
    ///
    /// # Errors
    /// What the file system said of the first that would not go.
    pub async fn sweep(&self) -> Result<usize> {
        let slots = self.slots.clone();
        let left = blocking(move || {
            let named = |entry: &std::fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(TRASH.as_bytes());
            let entries = std::fs::read_dir(slots)?.collect::<io::Result<Vec<_>>>()?;
            Ok(entries.iter().filter(|entry| named(entry)).map(std::fs::DirEntry::path).collect::<Vec<_>>())
        });
        let sweep = async {
            let left = left.await?;
            let (count, mut refused) = (left.len(), None);
            for trash in left {
                if let Err(error) = clear(&trash).await {
                    refused.get_or_insert(error);
                }
            }
            refused.map_or(Ok(count), Err)
        };
        sweep.await.map_err(|error| refuse("the rest of a purged agent could not be removed", &error))
    }
}

/// Removes a tree in shares: whoever gives up waiting ends it after the share that is under way.
async fn clear(tree: &Path) -> io::Result<()> {
    loop {
        let tree = tree.to_owned();
        if blocking(move || trash::remove_some(&tree, SHARE)).await? {
            return Ok(());
        }
    }
}

fn sync(dir: &Path) -> io::Result<()> {
    std::fs::File::open(dir)?.sync_all()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::super::test_support::an_instance;
    use super::*;

    fn dirs() -> (tempfile::TempDir, SlotDirs, Slot) {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("s");
        crate::store::dirs::prepare(&state, false).unwrap();
        (dir, SlotDirs::new(&state), an_instance().slot)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn own_uid() -> u32 {
        nix::unistd::geteuid().as_raw()
    }

    #[tokio::test]
    async fn a_workspace_is_its_agents_alone_and_nobody_passes() {
        let (_dir, dirs, slot) = dirs();
        dirs.make_workspace(&slot, own_uid(), false).await.unwrap();
        fs::write(dirs.workspace(&slot).join("note"), "keep me").unwrap();
        dirs.make_workspace(&slot, own_uid(), false).await.unwrap();
        let all = [dirs.state.clone(), dirs.slots.clone(), dirs.of(&slot.id), dirs.of(&slot.id).join("work")];
        assert!(all.iter().all(|dir| mode(dir) == 0o700));
        assert_eq!(fs::read_to_string(dirs.workspace(&slot).join("note")).unwrap(), "keep me");
        assert!(dirs.has_workspace(&slot).await);
    }

    #[tokio::test]
    async fn a_remapped_root_passes_to_the_workspace_and_lists_nothing() {
        let (_dir, dirs, slot) = dirs();
        dirs.make_workspace(&slot, own_uid(), true).await.unwrap();
        let way = [dirs.state.clone(), dirs.slots.clone(), dirs.of(&slot.id), dirs.of(&slot.id).join("work")];
        assert!(way.iter().all(|dir| mode(dir) == 0o711));
        assert_eq!(mode(&dirs.workspace(&slot)), 0o700);
        // The next start of the daemon closes it, and the first door opens it again.
        crate::store::dirs::prepare(&dirs.state, false).unwrap();
        dirs.let_pass(&slot.id).await.unwrap();
        assert!(way.iter().all(|dir| mode(dir) == 0o711));
    }

    #[tokio::test]
    async fn nothing_of_a_slot_is_left_and_others_are_untouched() {
        let (_dir, dirs, slot) = dirs();
        let other = an_instance().slot;
        dirs.make_workspace(&slot, own_uid(), false).await.unwrap();
        dirs.make_workspace(&other, own_uid(), false).await.unwrap();
        for _ in 0..2 {
            dirs.remove(&slot.id).await.unwrap();
            assert_eq!(fs::read_dir(&dirs.slots).unwrap().count(), 1);
        }
        assert!(dirs.has_workspace(&other).await);
    }

    #[tokio::test]
    async fn a_removal_that_was_cut_off_is_finished_by_the_next_or_by_the_sweep() {
        let (_dir, dirs, slot) = dirs();
        let trash = dirs.slots.join(format!("{TRASH}{}", slot.id));
        fs::create_dir_all(trash.join("work/1/deep")).unwrap();
        dirs.make_workspace(&slot, own_uid(), false).await.unwrap();
        assert_eq!(dirs.sweep().await.unwrap(), 1);
        assert!(!trash.exists() && dirs.has_workspace(&slot).await, "only what was given up goes");
        fs::create_dir_all(trash.join("work/1/deep")).unwrap();
        dirs.remove(&slot.id).await.unwrap();
        assert_eq!(fs::read_dir(&dirs.slots).unwrap().count(), 0);
        assert_eq!(dirs.sweep().await.unwrap(), 0);
    }
}
