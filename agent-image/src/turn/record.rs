//! What outlives the process: which turns were begun, whether they showed anything, and how they ended.
//!
//! One small file each, replaced as a whole, in a directory that the model's tools do not reach. A workspace that cannot
//! be written costs this memory and nothing else.

use std::cell::Cell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use agentbot_wire::TurnId;
use serde::{Deserialize, Serialize};

use super::live::Outcome;
use crate::log::Log;

/// Where the files lie in the workspace.
const PLACE: &str = ".agentbot/turns";
/// Turns that are remembered; the daemon repeats only open ones, of which there are few.
const REMEMBERED: usize = 64;
/// The longest file in bytes: the longest answer, escaped, and some more.
const MAX_FILE: u64 = 512 * 1024;

/// One turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Whether output or the use of a tool was shown.
    pub shown: bool,
    /// How it ended.
    pub outcome: Option<Outcome>,
}

/// The files.
#[derive(Debug)]
pub struct Records {
    place: PathBuf,
    complained: Cell<bool>,
}

impl Records {
    /// Those of a workspace.
    #[must_use]
    pub fn of(workspace: &Path) -> Self {
        Self { place: workspace.join(PLACE), complained: Cell::new(false) }
    }

    /// What is known of a turn. A file that cannot be understood is set aside.
    pub async fn find(&self, turn: &TurnId, log: &Log) -> Option<Record> {
        let path = self.path(turn);
        let found = tokio::task::spawn_blocking(move || read(&path)).await.unwrap_or(Ok(None));
        found.unwrap_or_else(|error| {
            log.warn(&format!("what was known of {turn} cannot be read and is set aside: {error}"));
            None
        })
    }

    /// Remembers a turn.
    pub async fn keep(&self, turn: &TurnId, record: &Record, log: &Log) {
        let (place, path) = (self.place.clone(), self.path(turn));
        let Ok(content) = serde_json::to_vec(record) else { return };
        let kept = tokio::task::spawn_blocking(move || write(&place, &path, &content)).await;
        match kept.map_err(io::Error::other).and_then(|kept| kept) {
            Ok(()) => self.complained.set(false),
            Err(error) if !self.complained.replace(true) => {
                log.warn(&format!("turns cannot be remembered in {}: {error}", self.place.display()));
            }
            Err(_) => {}
        }
    }

    fn path(&self, turn: &TurnId) -> PathBuf {
        // An id is letters, digits and an underscore.
        self.place.join(format!("{turn}.json"))
    }
}

fn read(path: &Path) -> io::Result<Option<Record>> {
    let content = match fs::symlink_metadata(path) {
        Ok(about) if about.is_file() && about.len() <= MAX_FILE => fs::read(path),
        Ok(_) => Err(io::Error::other("it is no file of ours")),
        // No such file, or no such workspace.
        Err(_) => return Ok(None),
    };
    let record = content.and_then(|content| serde_json::from_slice(&content).map_err(io::Error::other));
    record.map(Some).inspect_err(|_| {
        // Where that fails too, the next write replaces it.
        let _ = fs::rename(path, path.with_extension("corrupt"));
    })
}

fn write(place: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let is_new = match fs::create_dir(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(place)?;
            true
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => !path.exists(),
        made => {
            made?;
            true
        }
    };
    let unborn = path.with_extension("new");
    fs::write(&unborn, content)?;
    fs::rename(unborn, path)?;
    if is_new {
        forget(place)?;
    }
    Ok(())
}

/// Removes all but the newest files. Ids sort by age.
fn forget(place: &Path) -> io::Result<()> {
    let mut names: Vec<_> = fs::read_dir(place)?.flatten().map(|entry| entry.file_name()).collect();
    if let Some(old) = names.len().checked_sub(REMEMBERED).filter(|old| *old > 0) {
        names.sort_unstable();
        for name in &names[..old] {
            fs::remove_file(place.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn turn(number: usize) -> TurnId {
        format!("trn_{number:026}").parse().unwrap()
    }

    fn record(shown: bool) -> Record {
        Record { shown, outcome: shown.then(|| Outcome::Done("é\n".to_owned())) }
    }

    #[tokio::test]
    async fn what_is_kept_is_found_by_the_next_process() {
        let (workspace, log) = (tempfile::tempdir().unwrap(), Log::silent());
        for kept in [record(false), record(true)] {
            Records::of(workspace.path()).keep(&turn(1), &kept, &log).await;
            assert_eq!(Records::of(workspace.path()).find(&turn(1), &log).await, Some(kept));
        }
        assert_eq!(Records::of(workspace.path()).find(&turn(2), &log).await, None);
    }

    #[tokio::test]
    async fn a_file_cut_at_any_byte_is_set_aside_and_can_be_written_again() {
        let (workspace, log) = (tempfile::tempdir().unwrap(), Log::silent());
        let records = Records::of(workspace.path());
        let whole = serde_json::to_vec(&record(true)).unwrap();
        for cut in 0..whole.len() {
            records.keep(&turn(1), &record(true), &log).await;
            fs::write(records.path(&turn(1)), &whole[..cut]).unwrap();
            assert_eq!(records.find(&turn(1), &log).await, None, "cut at {cut}");
            assert!(!records.path(&turn(1)).exists());
        }
        records.keep(&turn(1), &record(true), &log).await;
        assert!(records.find(&turn(1), &log).await.is_some());
    }

    #[tokio::test]
    async fn only_the_newest_are_kept() {
        let (workspace, log) = (tempfile::tempdir().unwrap(), Log::silent());
        let records = Records::of(workspace.path());
        for number in 0..=REMEMBERED {
            records.keep(&turn(number), &record(false), &log).await;
        }
        assert_eq!(records.find(&turn(0), &log).await, None);
        assert!(records.find(&turn(1), &log).await.is_some());
        assert_eq!(fs::read_dir(&records.place).unwrap().count(), REMEMBERED);
    }

    #[tokio::test]
    async fn a_workspace_that_is_missing_or_in_the_way_is_no_fault() {
        let (workspace, log) = (tempfile::tempdir().unwrap(), Log::silent());
        fs::write(workspace.path().join(".agentbot"), "a file").unwrap();
        fs::set_permissions(workspace.path(), fs::Permissions::from_mode(0o500)).unwrap();
        for path in [workspace.path(), Path::new("/proc/none")] {
            let records = Records::of(path);
            records.keep(&turn(1), &record(true), &log).await;
            assert_eq!(records.find(&turn(1), &log).await, None);
        }
    }

    #[tokio::test]
    async fn a_link_in_the_place_of_a_file_is_not_followed() {
        let (workspace, log) = (tempfile::tempdir().unwrap(), Log::silent());
        let records = Records::of(workspace.path());
        records.keep(&turn(2), &record(false), &log).await;
        std::os::unix::fs::symlink("/etc/passwd", records.path(&turn(1))).unwrap();
        assert_eq!(records.find(&turn(1), &log).await, None);
    }
}
