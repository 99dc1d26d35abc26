//! The file itself: whether it is ours, how it is made, and what is refused untouched.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use agentbot_wire::Code;
use refinery::Runner;
use rusqlite::Connection;

use super::connection::{self, APPLICATION_ID};
use super::error::{RESTORE, file_error};
use super::meta;
use super::migrate::{self, Migrated};
use crate::error::{Error, Result};

/// The first SQLite without the fault that could lose an acknowledged commit when two connections checkpoint at once.
const OLDEST_SQLITE: i32 = 3_051_003;

/// Where the application id stands in the header of a database, after SQLite's magic words.
const HEADER: usize = 72;
const MAGIC: &[u8] = b"SQLite format 3\0";

/// Refuses a library that is too old, whatever it was built with.
pub(super) fn check_version(number: i32) -> Result<()> {
    if number >= OLDEST_SQLITE {
        return Ok(());
    }
    let (major, minor, patch) = (number / 1_000_000, number / 1000 % 1000, number % 1000);
    Err(Error::new(Code::Unsupported, format!("SQLite {major}.{minor}.{patch} can lose acknowledged changes"))
        .hint("build with SQLite 3.51.3 or newer: the one that rusqlite bundles"))
}

/// Opens the database for writing, in WAL mode, at the newest schema. Says whether it was made, and what was migrated.
pub(super) fn open(
    path: &Path,
    runner: &Runner,
    busy: Duration,
    copies: usize,
) -> Result<(Connection, bool, Option<Migrated>)> {
    let exists = inspect(path)?;
    if exists {
        verify(path, runner, busy)?;
    } else {
        create(path, runner, busy)?;
    }
    for suffix in ["", "-wal", "-shm"] {
        tighten(&beside(path, suffix))?;
    }
    let mut conn = connection::writer(path, busy)?;
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Error::new(Code::Unsupported, format!("SQLite cannot keep a log beside {}", path.display()))
            .hint("put the state directory on a local disk"));
    }
    let migrated = migrate::bring_up(&mut conn, path, runner, copies)?;
    Ok((conn, !exists, migrated))
}

/// Looks without touching: `true` for a database of ours, `false` for none. Everything else is an error.
fn inspect(path: &Path) -> Result<bool> {
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return nothing_left_of(path).map(|()| false),
        Err(error) => return Err(file_error("open", path, error)),
    };
    let kind = file.metadata().map_err(|error| file_error("look at", path, error))?;
    if !kind.is_file() {
        return Err(not_ours(path, "is not a file"));
    }
    if kind.len() == 0 {
        return Err(Error::new(Code::Internal, format!("{} is empty", path.display())).hint(RESTORE));
    }
    let mut header = [0; HEADER];
    match file.read_exact(&mut header) {
        Ok(()) if header.starts_with(MAGIC) => {}
        Ok(()) => return Err(not_ours(path, "is not a database")),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(not_ours(path, "is not a database")),
        Err(error) => return Err(file_error("read", path, error)),
    }
    if header[HEADER - 4..] == APPLICATION_ID.to_be_bytes() {
        Ok(true)
    } else {
        Err(not_ours(path, "is a database of something else"))
    }
}

/// A log without its database holds changes that SQLite would throw away.
fn nothing_left_of(path: &Path) -> Result<()> {
    let log = beside(path, "-wal");
    match fs::metadata(&log) {
        Ok(kind) if kind.len() > 0 => {
            let message = format!("{} is missing, its log {} is there", path.display(), log.display());
            Err(Error::new(Code::Internal, message)
                .hint("put agentbot.db back beside its log; or, to begin anew, move the log away"))
        }
        _ => Ok(()),
    }
}

fn not_ours(path: &Path, what: &str) -> Error {
    Error::new(Code::Internal, format!("{} {what}: it was not made by Agentbot", path.display()))
        .hint("nothing was changed; move it away, or name another place with --state-dir")
}

/// Refuses what is damaged or of a newer version; through a connection that cannot write.
fn verify(path: &Path, runner: &Runner, busy: Duration) -> Result<()> {
    let conn = connection::reader(path, busy)?;
    let verdict: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(Error::new(Code::Internal, "the database is damaged").hint(RESTORE).caused_by(verdict));
    }
    migrate::check(&conn, runner)
}

/// Makes the database under another name, so that a half-made one never bears the true one.
fn create(path: &Path, runner: &Runner, busy: Duration) -> Result<()> {
    let new = beside(path, ".new");
    for suffix in ["", "-journal", "-wal", "-shm"] {
        remove(&beside(&new, suffix))?;
    }
    make_private(&new)?;
    let mut conn = connection::writer(&new, busy)?;
    conn.pragma_update(None, "application_id", APPLICATION_ID)?;
    migrate::apply(&mut conn, runner)?;
    meta::make_daemon_id(&conn)?;
    conn.close().map_err(|(_, error)| error)?;
    put_in_place(&new, path)
}

/// Renames a finished file to its true name, durably.
pub(super) fn put_in_place(new: &Path, path: &Path) -> Result<()> {
    File::open(new).and_then(|file| file.sync_all()).map_err(|error| file_error("save", new, error))?;
    fs::rename(new, path).map_err(|error| file_error("make", path, error))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(|error| file_error("save", parent, error))
}

/// An empty file that only its owner can open, whatever the umask.
pub(super) fn make_private(path: &Path) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|file| file.set_permissions(Permissions::from_mode(0o600)))
        .map_err(|error| file_error("make", path, error))
}

pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error("remove", path, error)),
        _ => Ok(()),
    }
}

fn tighten(path: &Path) -> Result<()> {
    match fs::set_permissions(path, Permissions::from_mode(0o600)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error("tighten the mode of", path, error)),
        _ => Ok(()),
    }
}

/// The path with something appended to its last part.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_is_refused_below_the_version_that_keeps_its_promise() {
        let error = check_version(3_051_002).unwrap_err();
        assert_eq!(error.message(), "SQLite 3.51.2 can lose acknowledged changes");
        check_version(3_051_003).unwrap();
        check_version(rusqlite::version_number()).unwrap();
    }
}
