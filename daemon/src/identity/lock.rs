//! One daemon per state directory.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use agentbot_wire::Code;

use crate::error::{Error, Result};
use crate::store::file_error;

/// The lock of a state directory, held until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct DaemonLock {
    _file: File,
}

impl DaemonLock {
    /// Takes the lock and writes our process id into its file. The file stays when the lock goes: removing it would
    /// let two daemons lock two files of one name.
    ///
    /// # Errors
    /// Another daemon holds it; the message names its process id. Or the file cannot be made.
    pub fn acquire(path: &Path) -> Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|error| file_error("open the lock", path, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(&mut file, path)),
            Err(TryLockError::Error(error)) => return Err(file_error("lock", path, error)),
        }
        file.set_permissions(Permissions::from_mode(0o600))
            .and_then(|()| file.set_len(0))
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(|error| file_error("write", path, error))?;
        Ok(Self { _file: file })
    }
}

fn held(file: &mut File, path: &Path) -> Error {
    let mut text = String::new();
    let pid = file.take(16).read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok());
    let who = pid.map_or_else(|| "another daemon".to_owned(), |pid| format!("the daemon with process id {pid}"));
    let dir = path.parent().unwrap_or(path).display();
    Error::new(Code::Conflict, format!("{who} already runs on {dir}"))
        .hint("use that one, stop it first, or name another place with --state-dir")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_second_daemon_learns_who_is_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        fs::write(&path, "4194304 and the rest of an older, longer text").unwrap();
        let first = DaemonLock::acquire(&path).unwrap();
        let error = DaemonLock::acquire(&path).unwrap_err();
        assert_eq!(error.code(), Code::Conflict);
        assert!(error.message().contains(&format!("process id {}", std::process::id())), "{error}");
        assert!(error.to_api().hint.is_some());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(first);
        assert!(path.exists());
        DaemonLock::acquire(&path).unwrap();
    }

    #[test]
    fn a_lock_whose_text_says_nothing_still_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let file = File::create(&path).unwrap();
        file.lock().unwrap();
        let error = DaemonLock::acquire(&path).unwrap_err();
        assert!(error.message().starts_with("another daemon"), "{error}");
    }

    #[test]
    fn a_directory_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = DaemonLock::acquire(dir.path()).unwrap_err();
        assert_eq!(error.code(), Code::Invalid, "{error}");
    }
}
