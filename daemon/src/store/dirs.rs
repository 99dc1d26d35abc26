//! The state directory: made, or taken as it is found and closed to everybody else.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;

use nix::unistd::{AccessFlags, access, geteuid};

use super::error::file_error;
use crate::error::{Error, Result};

/// The bytes that the path of a Unix socket may have: `sun_path` less its end.
pub const SOCKET_PATH_MAX: usize = 107;

/// The longest name a socket gets below the state directory: a slot's, while it is being bound.
const LONGEST_SOCKET: &str = "slots/slt_00000000000000000000000000/run/agentbot.sock";

/// What stands in the state directory, and whether a container's root looks through it.
const PARTS: [(&str, bool); 4] = [("slots", true), ("snapshots", false), ("skills", false), ("spool", false)];

/// Makes the state directory and its parts, or takes those that are there: they become ours and private. With
/// `passthrough` the root of a remapped user namespace may pass through on the way to a slot, and list nothing.
///
/// # Errors
/// The path is too long for a socket, not a directory, a part is a symbolic link, or it cannot be written.
pub fn prepare(state: &Path, passthrough: bool) -> Result<()> {
    check_length(state)?;
    let parent = state.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        fs::create_dir_all(parent).map_err(|error| file_error("make", parent, error))?;
    }
    let mode = |passed: bool| if passthrough && passed { 0o711 } else { 0o700 };
    // The administrator may keep the state on another disk through a link; nobody else can have put one there.
    take(state, mode(true), |path| fs::metadata(path))?;
    access(state, AccessFlags::W_OK | AccessFlags::X_OK)
        .map_err(|errno| file_error("write to", state, io::Error::from(errno)))?;
    for (part, passed) in PARTS {
        take(&state.join(part), mode(passed), |path| fs::symlink_metadata(path))?;
    }
    Ok(())
}

/// Refuses a state directory whose sockets could not be bound.
///
/// # Errors
/// It is too long; the message says by how much.
pub fn check_length(state: &Path) -> Result<()> {
    let room = SOCKET_PATH_MAX - 1 - LONGEST_SOCKET.len();
    let length = state.as_os_str().as_bytes().len();
    if length <= room {
        return Ok(());
    }
    let rule = format!("its path has {length} bytes, the sockets in it leave room for {room}");
    Err(Error::invalid("state directory", rule).hint("name a shorter path with --state-dir"))
}

fn take(path: &Path, mode: u32, look: impl Fn(&Path) -> io::Result<Metadata>) -> Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(file_error("make", path, error)),
        _ => {}
    }
    let found = look(path).map_err(|error| file_error("look at", path, error))?;
    if !found.is_dir() {
        let what = if found.is_symlink() { "a symbolic link" } else { "not a directory" };
        return Err(Error::invalid("state directory", format!("{} is {what}", path.display()))
            .hint("move it away, or name another place with --state-dir"));
    }
    if found.uid() != geteuid().as_raw() {
        chown(path, Some(geteuid().as_raw()), None).map_err(|error| file_error("take over", path, error))?;
    }
    // Also for one just made: the umask had its say.
    if found.mode() & 0o7777 != mode {
        fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(|error| file_error("tighten the mode of", path, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;
    use agentbot_wire::Code;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn everything_is_made_private_and_a_second_time_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("var/lib/agentbot");
        for _ in 0..2 {
            prepare(&state, false).unwrap();
            assert_eq!(mode(&state), 0o700);
            for (part, _) in PARTS {
                assert_eq!(mode(&state.join(part)), 0o700, "{part}");
            }
        }
    }

    #[test]
    fn a_remapped_root_passes_through_to_the_slots_and_no_further() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("s");
        prepare(&state, true).unwrap();
        assert_eq!((mode(&state), mode(&state.join("slots")), mode(&state.join("skills"))), (0o711, 0o711, 0o700));
        prepare(&state, false).unwrap();
        assert_eq!((mode(&state), mode(&state.join("slots"))), (0o700, 0o700));
    }

    #[test]
    fn what_is_there_is_taken_with_its_content_and_tightened() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("s");
        fs::create_dir_all(state.join("skills")).unwrap();
        fs::write(state.join("skills/kept"), "x").unwrap();
        for path in [&state, &state.join("skills")] {
            fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
        }
        if geteuid().is_root() {
            chown(state.join("skills"), Some(12345), None).unwrap();
        }
        prepare(&state, false).unwrap();
        assert_eq!((mode(&state), mode(&state.join("skills"))), (0o700, 0o700));
        assert_eq!(fs::metadata(state.join("skills")).unwrap().uid(), geteuid().as_raw());
        assert_eq!(fs::read_to_string(state.join("skills/kept")).unwrap(), "x");
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("s");
        fs::write(&state, "").unwrap();
        let error = prepare(&state, false).unwrap_err();
        assert_eq!(error.code(), Code::Invalid);
        assert!(error.message().ends_with("is not a directory"), "{error}");
        let error = prepare(&state.join("below"), false).unwrap_err();
        assert_eq!(error.code(), Code::Invalid, "{error}");
    }

    #[test]
    fn a_planted_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (state, victim) = (dir.path().join("s"), dir.path().join("victim"));
        fs::create_dir(&victim).unwrap();
        fs::create_dir(&state).unwrap();
        fs::set_permissions(&victim, Permissions::from_mode(0o755)).unwrap();
        symlink(&victim, state.join("spool")).unwrap();
        let error = prepare(&state, false).unwrap_err();
        assert!(error.message().contains("symbolic link"));
        assert_eq!(mode(&victim), 0o755);
    }

    #[test]
    fn a_path_is_refused_one_byte_over_the_limit() {
        let room = SOCKET_PATH_MAX - 1 - LONGEST_SOCKET.len();
        check_length(&PathBuf::from("/".repeat(room))).unwrap();
        let error = check_length(&PathBuf::from("/".repeat(room + 1))).unwrap_err();
        assert_eq!(error.code(), Code::Invalid);
        assert!(error.to_api().hint.is_some());
    }
}
