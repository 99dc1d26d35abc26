//! What SQLite and the file system say, in our words: a code, a sentence, a hint.

use std::io;
use std::path::Path;

use agentbot_wire::Code;
use rusqlite::ErrorCode;
use rusqlite::ffi::{SQLITE_CONSTRAINT_FOREIGNKEY, SQLITE_IOERR_SHMSIZE};

use crate::error::Error;

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let Some(failure) = error.sqlite_error().copied() else { return Self::internal(error) };
        let translated = match failure.code {
            // Growing the index of the log says so in its own way.
            _ if failure.extended_code == SQLITE_IOERR_SHMSIZE => storage_full(),
            ErrorCode::DiskFull => storage_full(),
            ErrorCode::ReadOnly => Self::new(Code::Internal, "the database cannot be written: it is read-only")
                .hint("nothing was changed; look for a file system mounted read-only (`mount`, `dmesg`)"),
            ErrorCode::SystemIoFailure => Self::new(Code::Internal, "the disk failed while the database was used")
                .hint("nothing was changed; `dmesg` tells what is wrong with the disk"),
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
                Self::new(Code::Internal, "the database is damaged").hint(RESTORE)
            }
            ErrorCode::CannotOpen => Self::new(Code::Internal, "the database cannot be opened")
                .hint("nothing was changed; check mode and owner of the state directory, and free inodes (`df -i`)"),
            ErrorCode::PermissionDenied => Self::new(Code::Internal, "the database may not be used")
                .hint("nothing was changed; check mode and owner of the state directory"),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
                Self::new(Code::Busy, "another process holds the database").hint(
                    "nothing was changed; end what else has agentbot.db open (`fuser agentbot.db`), then try again",
                )
            }
            ErrorCode::OperationInterrupted => Self::new(Code::TimedOut, "the database took too long")
                .hint("nothing was changed; try again, with less at once"),
            ErrorCode::OutOfMemory => Self::new(Code::LimitReached, "no memory left for the database")
                .hint("nothing was changed; free memory on this host, then try again"),
            ErrorCode::TooBig => Self::new(Code::TooLarge, "a value is too large to be stored"),
            _ => return Self::internal(error),
        };
        translated.caused_by(error)
    }
}

pub(super) const RESTORE: &str = "nothing was changed; put a good copy in its place (agentbot.db.before-v<n>, or a backup), keep the damaged one aside";

fn storage_full() -> Error {
    Error::new(Code::StorageFull, "the disk is full").hint("nothing was changed; free space, then try again")
}

/// A file operation of the state directory that failed; `doing` completes "cannot …".
pub(crate) fn file_error(doing: &str, path: &Path, error: io::Error) -> Error {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::new(Code::StorageFull, format!("cannot {doing} {path}: the disk is full"))
                .hint("nothing was changed; free space, then try again")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            Error::new(Code::Internal, format!("cannot {doing} {path}: its file system is read-only"))
                .hint("mount it writable, or name another place with --state-dir")
        }
        io::ErrorKind::PermissionDenied => {
            Error::new(Code::Forbidden, format!("cannot {doing} {path}: permission denied"))
                .hint("run the daemon as root, and check who owns the directory")
        }
        io::ErrorKind::NotFound => Error::new(Code::NotFound, format!("cannot {doing} {path}: it does not exist"))
            .hint("make the directory, or name another place with --state-dir"),
        io::ErrorKind::NotADirectory => {
            Error::new(Code::Invalid, format!("cannot {doing} {path}: a part of the path is not a directory"))
                .hint("move that file away, or name another place with --state-dir")
        }
        io::ErrorKind::AlreadyExists => {
            Error::new(Code::Invalid, format!("cannot {doing} {path}: something else stands there"))
                .hint("move it away, or name another place with --state-dir")
        }
        io::ErrorKind::IsADirectory => Error::new(Code::Invalid, format!("cannot {doing} {path}: it is a directory"))
            .hint("move it away, or name another place with --state-dir"),
        _ => Error::new(Code::Internal, format!("cannot {doing} {path}"))
            .hint("its cause stands in the daemon's log; `dmesg` tells more about the disk"),
    }
    .caused_by(error)
}

/// The columns whose uniqueness an insert or update broke, as SQLite names them: `instances.tenant_id, instances.name`.
/// `None` when it failed for another reason.
#[must_use]
pub fn unique_violation(error: &rusqlite::Error) -> Option<&str> {
    match error {
        rusqlite::Error::SqliteFailure(failure, Some(text)) if failure.code == ErrorCode::ConstraintViolation => {
            text.strip_prefix("UNIQUE constraint failed: ")
        }
        _ => None,
    }
}

/// Whether an insert or update named a row that is not there.
#[must_use]
pub fn foreign_key_violation(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|failure| failure.extended_code == SQLITE_CONSTRAINT_FOREIGNKEY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::{Connection, ffi};

    #[test]
    fn each_storage_failure_has_its_code_and_a_hint() {
        for (result, code) in [
            (ffi::SQLITE_FULL, Code::StorageFull),
            (ffi::SQLITE_IOERR_SHMSIZE, Code::StorageFull),
            (ffi::SQLITE_IOERR_FSYNC, Code::Internal),
            (ffi::SQLITE_READONLY, Code::Internal),
            (ffi::SQLITE_CORRUPT, Code::Internal),
            (ffi::SQLITE_NOTADB, Code::Internal),
            (ffi::SQLITE_CANTOPEN, Code::Internal),
            (ffi::SQLITE_BUSY, Code::Busy),
            (ffi::SQLITE_INTERRUPT, Code::TimedOut),
            (ffi::SQLITE_NOMEM, Code::LimitReached),
        ] {
            let error = Error::from(rusqlite::Error::SqliteFailure(ffi::Error::new(result), None));
            assert_eq!(error.code(), code, "{result}");
            assert!(error.to_api().hint.is_some_and(|hint| hint.contains("nothing was changed")), "{result}");
        }
    }

    #[test]
    fn a_broken_uniqueness_names_its_columns() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(
            "CREATE TABLE t (id TEXT PRIMARY KEY, a TEXT, b TEXT, gone INTEGER) STRICT;
             CREATE UNIQUE INDEX t_by_a_b ON t (a, b) WHERE gone IS NULL;
             INSERT INTO t VALUES ('1', 'x', 'y', NULL);",
        )
        .unwrap();
        let partial = conn.execute("INSERT INTO t VALUES ('2', 'x', 'y', NULL)", []).unwrap_err();
        assert_eq!(unique_violation(&partial), Some("t.a, t.b"));
        let primary = conn.execute("INSERT INTO t VALUES ('1', 'p', 'q', NULL)", []).unwrap_err();
        assert_eq!(unique_violation(&primary), Some("t.id"));
        let another = conn.execute("INSERT INTO t VALUES (1)", []).unwrap_err();
        assert_eq!(unique_violation(&another), None);
    }

    #[test]
    fn a_full_disk_is_told_from_a_read_only_one() {
        let path = Path::new("/state/x");
        let full = file_error("make", path, io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!((full.code(), full.message()), (Code::StorageFull, "cannot make /state/x: the disk is full"));
        let sealed = file_error("make", path, io::Error::from(io::ErrorKind::ReadOnlyFilesystem));
        assert!(sealed.message().contains("read-only"));
    }
}
