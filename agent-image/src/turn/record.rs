//! What outlives the process: which turns were begun, whether they showed anything, and how they ended.
//!
//! One small file each, replaced as a whole, in a directory that the model's tools do not reach. They are for the death
//! of a process. They are not forced to the disk, which costs some 8 ms before the first word of an answer and as much
//! before its end: after the death of the machine the daemon's database says which turns are open and what they showed,
//! and a file that is not whole counts as none. A workspace that cannot be written, or hangs, costs this memory and
//! nothing else.

use std::cell::Cell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agentbot_wire::TurnId;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::live::Outcome;
use crate::log::Log;

/// Where the files lie in the workspace.
const PLACE: &str = ".agentbot/turns";
/// Turns that are remembered; the daemon repeats only open ones, of which there are few.
const REMEMBERED: usize = 64;
/// Files that could not be understood and are kept for people to look at.
const SET_ASIDE: usize = 8;
/// The workspace has this long to find or remember a turn.
const LIMIT: Duration = Duration::from_secs(2);
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
    limit: Duration,
    complained: Cell<bool>,
    /// Held by the threads that read and write: one at a time.
    turnstile: Arc<Mutex<()>>,
}

impl Records {
    /// Those of a workspace.
    #[must_use]
    pub fn of(workspace: &Path) -> Self {
        Self {
            place: workspace.join(PLACE),
            limit: LIMIT,
            complained: Cell::new(false),
            turnstile: Arc::new(Mutex::new(())),
        }
    }

    /// What is known of a turn. A file that cannot be understood is set aside.
    pub async fn find(&self, turn: &TurnId, log: &Log) -> Option<Record> {
        let path = self.path(turn);
        self.through(move || read(&path)).await.unwrap_or_else(|error| {
            log.warn(&format!("what was known of {turn} cannot be read: {error}"));
            None
        })
    }

    /// Remembers a turn.
    pub async fn keep(&self, turn: &TurnId, record: &Record, log: &Log) {
        let (place, path) = (self.place.clone(), self.path(turn));
        let Ok(content) = serde_json::to_vec(record) else { return };
        match self.through(move || write(&place, &path, &content)).await {
            Ok(()) => self.complained.set(false),
            Err(error) if !self.complained.replace(true) => {
                log.warn(&format!("turns cannot be remembered in {}: {error}", self.place.display()));
            }
            Err(_) => {}
        }
    }

    /// Does something with the files, within the limit. What waits for its turn when it is given up is not done any
    /// more, so that it cannot undo what comes after it.
    async fn through<T: Send + 'static>(&self, act: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
        let (turnstile, given_up) = (Arc::clone(&self.turnstile), GivenUp::default());
        let seen = Arc::clone(&given_up.0);
        let work = spawn_blocking(move || {
            let _passed = turnstile.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            act()
        });
        let late = || io::Error::other(format!("the file system did not answer within {} s", self.limit.as_secs()));
        timeout(self.limit, work).await.map_err(|_| late())?.map_err(io::Error::other)?
    }

    fn path(&self, turn: &TurnId) -> PathBuf {
        // An id is letters, digits and an underscore.
        self.place.join(format!("{turn}.json"))
    }
}

/// Says on its end that nobody waits any more.
#[derive(Debug, Default)]
struct GivenUp(Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
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
    record.map(Some).map_err(|error| {
        // Where that fails too, the next write replaces it.
        let _ = fs::rename(path, path.with_extension("corrupt"));
        io::Error::other(format!("{error}; it is set aside"))
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
        forget(place);
    }
    Ok(())
}

/// Removes all but the newest files of each kind, and what a write that was killed left. Ids sort by age. What is not
/// ours or cannot be removed stays, and costs nothing but its place.
fn forget(place: &Path) {
    let Ok(entries) = fs::read_dir(place) else { return };
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .map(|entry| entry.path())
        .collect();
    files.sort_unstable();
    for (kind, kept) in [("json", REMEMBERED), ("corrupt", SET_ASIDE), ("new", 0)] {
        let of_kind = files.iter().rev().filter(|file| file.extension().is_some_and(|extension| extension == kind));
        for old in of_kind.skip(kept) {
            let _ = fs::remove_file(old);
        }
    }
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
    async fn what_is_no_record_neither_counts_nor_disturbs() {
        let (workspace, log) = (tempfile::tempdir().unwrap(), Log::silent());
        let records = Records::of(workspace.path());
        records.keep(&turn(900), &record(false), &log).await;
        // As old as can be: a directory in a record's place and in the place of one that was set aside.
        fs::create_dir_all(records.path(&turn(0)).join("full")).unwrap();
        fs::create_dir_all(records.path(&turn(0)).with_extension("corrupt").join("full")).unwrap();
        for number in 1..=SET_ASIDE + 1 {
            fs::write(records.path(&turn(number)).with_extension("corrupt"), "{").unwrap();
        }
        fs::write(records.path(&turn(1)).with_extension("new"), "{").unwrap();
        for number in 901..900 + REMEMBERED {
            records.keep(&turn(number), &record(false), &log).await;
            assert!(!records.complained.get(), "{number}");
        }
        let files = |kind: &str| {
            let entries = fs::read_dir(&records.place).unwrap().flatten().map(|entry| entry.path());
            entries.filter(|path| path.is_file() && path.extension().is_some_and(|found| found == kind)).count()
        };
        assert_eq!([files("json"), files("corrupt"), files("new")], [REMEMBERED, SET_ASIDE, 0]);
        assert!(records.find(&turn(900), &log).await.is_some(), "only records count");
        assert!(!records.path(&turn(1)).with_extension("corrupt").exists(), "the oldest one goes");
    }

    #[tokio::test]
    async fn a_file_system_that_hangs_is_not_waited_for_and_what_was_given_up_is_not_done_later() {
        let (workspace, log) = (tempfile::tempdir().unwrap(), Log::silent());
        let records = Records { limit: Duration::from_millis(50), ..Records::of(workspace.path()) };
        let turnstile = Arc::clone(&records.turnstile);
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let hanging = spawn_blocking(move || {
            let _passed = turnstile.lock().unwrap();
            let _ = held.recv();
        });
        while records.turnstile.try_lock().is_ok() {
            tokio::task::yield_now().await;
        }
        records.keep(&turn(1), &record(false), &log).await;
        assert!(records.complained.get());
        assert_eq!(records.find(&turn(1), &log).await, None);
        drop(hold);
        hanging.await.unwrap();
        let records = Records { limit: LIMIT, ..records };
        records.keep(&turn(2), &record(true), &log).await;
        assert_eq!(records.find(&turn(1), &log).await, None);
        assert_eq!(records.find(&turn(2), &log).await, Some(record(true)));
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
