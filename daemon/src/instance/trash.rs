//! Removes a tree that somebody hostile may have made: however deep, wide or oddly named, with few open directories, a
//! stack that does not grow, and no step through a symbolic link.
//!
//! A directory below the top never stays where it is: its subdirectories are moved up beside it before it goes, so
//! everything that is left is at most one level deep, also after an end in the middle.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::NixPath;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, renameat};
use nix::sys::stat::Mode;
use nix::unistd::UnlinkatFlags::{NoRemoveDir, RemoveDir};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Directories are opened as such or not at all.
const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Removes a tree, at most so many entries of it; says whether it is gone. What vanishes meanwhile is fine.
///
/// # Errors
/// What the file system said of the first entry that would not go, once nothing else is left to remove.
pub fn remove_some(tree: &Path, entries: usize) -> io::Result<bool> {
    let (Some(parent), Some(name)) = (tree.parent(), tree.file_name()) else { return Err(Errno::EINVAL.into()) };
    let parent = match Dir::open(parent, DIRECTORY, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(true),
        opened => opened?,
    };
    let mut top = match Dir::openat(&parent, name, DIRECTORY, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(true),
        Err(Errno::ENOTDIR | Errno::ELOOP) => return Ok(unlink(parent.as_fd(), name, NoRemoveDir).map(|()| true)?),
        opened => opened?,
    };
    // A number that no call before this one began with.
    let begun = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let mut sweep = Sweep { left: entries, moved: u64::try_from(begun).unwrap_or_default(), refused: None };
    while sweep.pass(&mut top)? {
        if sweep.left == 0 {
            return Ok(false);
        }
    }
    if let Some(errno) = sweep.refused {
        return Err(errno.into());
    }
    unlink(parent.as_fd(), name, RemoveDir)?;
    Ok(true)
}

/// Removes one name; one that is gone is fine.
fn unlink<P: NixPath + ?Sized>(dir: BorrowedFd<'_>, name: &P, what: UnlinkatFlags) -> nix::Result<()> {
    match unlinkat(dir, name, what) {
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

/// What became of an entry.
#[derive(PartialEq, Eq)]
enum Fate {
    /// It is not there any more.
    Gone,
    /// It is a directory with something in it.
    Full,
}

/// One call's share of the work.
struct Sweep {
    /// Entries that may still go.
    left: usize,
    /// The number of the last directory that was moved up.
    moved: u64,
    /// Why an entry stayed in this pass.
    refused: Option<Errno>,
}

impl Sweep {
    /// Goes through the top once; says whether anything went. What is moved up meanwhile may wait for the next pass.
    fn pass(&mut self, top: &mut Dir) -> nix::Result<bool> {
        self.refused = None;
        let fd = top.as_fd().try_clone_to_owned().map_err(|error| errno(&error))?;
        let mut progress = false;
        for entry in top.iter() {
            let entry = entry?;
            if self.left == 0 {
                break;
            }
            match self.take(fd.as_fd(), None, entry.file_name(), entry.file_type()) {
                Ok(Some(Fate::Gone)) => progress = true,
                Ok(Some(Fate::Full)) => progress |= self.empty(fd.as_fd(), entry.file_name())?,
                Ok(None) => {}
                Err(errno) => self.refuse(errno),
            }
        }
        Ok(progress)
    }

    /// Empties a directory of the top and removes it; says whether anything went.
    fn empty(&mut self, top: BorrowedFd<'_>, name: &CStr) -> nix::Result<bool> {
        let mut dir = match Dir::openat(top, name, DIRECTORY, Mode::empty()) {
            Ok(dir) => dir,
            Err(errno) => {
                self.refuse(errno);
                return Ok(false);
            }
        };
        let fd = dir.as_fd().try_clone_to_owned().map_err(|error| errno(&error))?;
        let mut progress = false;
        loop {
            let mut went = false;
            for entry in dir.iter() {
                let entry = entry?;
                if self.left == 0 {
                    return Ok(true);
                }
                match self.take(fd.as_fd(), Some(top), entry.file_name(), entry.file_type()) {
                    Ok(fate) => went |= fate.is_some(),
                    Err(errno) => self.refuse(errno),
                }
            }
            progress |= went;
            if !went {
                break;
            }
        }
        match unlink(top, name, RemoveDir) {
            Ok(()) => progress = true,
            Err(errno) => self.refuse(errno),
        }
        Ok(progress)
    }

    /// Removes an entry; nothing becomes of a directory's own two names. A directory that is not empty is moved `up`, or
    /// stays where there is no such place.
    fn take(
        &mut self,
        dir: BorrowedFd<'_>,
        up: Option<BorrowedFd<'_>>,
        name: &CStr,
        kind: Option<Type>,
    ) -> nix::Result<Option<Fate>> {
        if name == c"." || name == c".." {
            return Ok(None);
        }
        let fate = remove(dir, name, kind)?;
        match up {
            Some(up) if fate == Fate::Full => self.lift(dir, name, up)?,
            None if fate == Fate::Full => return Ok(Some(Fate::Full)),
            _ => {}
        }
        self.left -= 1;
        Ok(Some(Fate::Gone))
    }

    fn lift(&mut self, dir: BorrowedFd<'_>, name: &CStr, up: BorrowedFd<'_>) -> nix::Result<()> {
        loop {
            self.moved += 1;
            match renameat(dir, name, up, format!("~{}", self.moved).as_str()) {
                Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {}
                Ok(()) | Err(Errno::ENOENT) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
    }

    fn refuse(&mut self, errno: Errno) {
        self.refused.get_or_insert(errno);
    }
}

fn remove(dir: BorrowedFd<'_>, name: &CStr, kind: Option<Type>) -> nix::Result<Fate> {
    if kind != Some(Type::Directory) {
        match unlink(dir, name, NoRemoveDir) {
            // Not every file system tells kinds.
            Err(Errno::EISDIR) => {}
            other => return other.map(|()| Fate::Gone),
        }
    }
    match unlink(dir, name, RemoveDir) {
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(Fate::Full),
        other => other.map(|()| Fate::Gone),
    }
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::OwnedFd;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use nix::fcntl::{open, openat};
    use nix::sys::stat::mkdirat;

    use super::*;

    const ALL: usize = usize::MAX;

    /// Directories in one another, deeper than any path can name.
    fn nest(at: &Path, depth: usize) {
        let mut dir: OwnedFd = open(at, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..depth {
            mkdirat(&dir, "d", Mode::S_IRWXU).unwrap();
            dir = openat(&dir, "d", DIRECTORY, Mode::empty()).unwrap();
        }
    }

    fn tree() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        (dir, tree)
    }

    #[test]
    fn thirty_thousand_directories_in_one_another_go_on_a_small_stack() {
        // In memory where there is such a place: some disks take a millisecond for each directory that goes.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        nest(&tree, 30_000);
        let gone = std::thread::Builder::new().stack_size(128 * 1024).spawn({
            let tree = tree.clone();
            move || remove_some(&tree, ALL).unwrap()
        });
        assert!(gone.unwrap().join().unwrap());
        assert!(!tree.exists());
    }

    #[test]
    fn what_links_lead_to_survives() {
        let (dir, tree) = tree();
        let (victim, file) = (dir.path().join("victim"), dir.path().join("victim/file"));
        fs::create_dir(&victim).unwrap();
        fs::write(&file, "keep me").unwrap();
        fs::create_dir_all(tree.join("a/b")).unwrap();
        for (target, link) in [(&victim, "dir"), (&file, "a/file"), (&victim, "a/b/dir")] {
            symlink(target, tree.join(link)).unwrap();
        }
        symlink("..", tree.join("a/b/up")).unwrap();
        symlink("nowhere", tree.join("a/dangling")).unwrap();
        fs::hard_link(&file, tree.join("hard")).unwrap();
        assert!(remove_some(&tree, ALL).unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "keep me");
        symlink(&victim, &tree).unwrap();
        assert!(remove_some(&tree, ALL).unwrap(), "a link in the tree's own place");
        assert!(victim.is_dir() && tree.symlink_metadata().is_err());
    }

    #[test]
    fn odd_kinds_names_and_modes_go_too() {
        let (_dir, tree) = tree();
        for name in [&[b'x'; 255][..], b"~1", b"~2", b" ", b"\xff\n", b"..."] {
            fs::create_dir_all(tree.join("in").join(std::ffi::OsStr::from_bytes(name)).join("deeper")).unwrap();
        }
        nix::unistd::mkfifo(&tree.join("in/fifo"), Mode::S_IRWXU).unwrap();
        drop(std::os::unix::net::UnixListener::bind(tree.join("in/socket")).unwrap());
        fs::write(tree.join("in/file"), "").unwrap();
        if nix::unistd::geteuid().is_root() {
            // Whose files these are, nobody else may look into them.
            for closed in ["in/~1", "in/~1/deeper", "in/file", "in"] {
                fs::set_permissions(tree.join(closed), fs::Permissions::from_mode(0o0)).unwrap();
            }
        }
        assert!(remove_some(&tree, ALL).unwrap());
        assert!(!tree.exists());
    }

    #[test]
    fn a_wide_and_deep_tree_goes_bit_by_bit_and_is_never_deeper_than_before() {
        let (_dir, tree) = tree();
        for outer in 0..40 {
            for inner in 0..40 {
                fs::create_dir_all(tree.join(format!("{outer}/{inner}/x/y"))).unwrap();
            }
            fs::write(tree.join(format!("{outer}/file")), "").unwrap();
        }
        nest(&tree, 500);
        let mut calls = 1;
        while !remove_some(&tree, 100).unwrap() {
            calls += 1;
            assert!(calls < 1000, "each call brings it further");
        }
        assert!(calls > 40, "no call does more than its share");
        assert!(remove_some(&tree, 100).unwrap(), "what is gone is gone");
    }

    #[test]
    fn a_tree_without_a_place_is_gone() {
        let (dir, _tree) = tree();
        assert!(remove_some(&dir.path().join("no/where"), 1).unwrap());
        assert!(remove_some(&dir.path().join("nowhere"), 1).unwrap());
    }

    #[test]
    fn two_at_once_do_not_hinder_each_other() {
        let (_dir, tree) = tree();
        for number in 0..500 {
            fs::create_dir_all(tree.join(format!("{number}/x/y/z"))).unwrap();
        }
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| while remove_some(&tree, 50).is_ok_and(|gone| !gone) {});
            }
        });
        assert!(remove_some(&tree, ALL).unwrap());
        assert!(!tree.exists());
    }
}
