//! `files`: the agent's workspace.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::Deserialize;
use serde_json::{Value, json};

use super::beneath::{self, HIDDEN, Inside, Refused};
use super::{Used, short};

/// The tool's name.
pub const NAME: &str = "files";

/// Bytes that are read of a file.
const MAX_READ: usize = 32 * 1024;
/// Bytes that are written at once.
const MAX_WRITE: usize = 256 * 1024;
/// The longest file that is appended to, in bytes.
const MAX_FILE: u64 = 16 * 1024 * 1024;
/// Entries of a list.
const MAX_LIST: usize = 200;
/// Entries that are looked at for it.
const MAX_WALKED: usize = 10_000;

const ACTIONS: [&str; 5] = ["list", "read", "write", "append", "delete"];

/// The tool as a model is told of it.
#[must_use]
pub fn schema() -> Value {
    let text = "Files of your workspace. list: the entries of the directory `path`. read: a text file. write: makes or \
        replaces the file `path` with `content`. append: adds `content` to its end. delete: a file or an empty directory.";
    let others = json!({
        "path": {"type": "string", "description": "relative to the workspace"},
        "content": {"type": "string"},
    });
    super::schema(NAME, text, &ACTIONS, others)
}

#[derive(Deserialize)]
struct Arguments {
    action: String,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    content: Option<String>,
}

/// Does what the model asks. It may block.
#[must_use]
pub fn work(workspace: &Path, arguments: Value) -> Used {
    let done = match serde_json::from_value::<Arguments>(arguments) {
        Ok(arguments) => act(workspace, &arguments),
        Err(error) => Err(format!("the arguments are not of the tool's shape: {error}")),
    };
    done.unwrap_or_else(Used::failed)
}

fn act(workspace: &Path, arguments: &Arguments) -> Result<Used, String> {
    let path = arguments.path.as_deref().unwrap_or_default();
    let said = |refused: Refused| match path {
        "" => refused.to_string(),
        path => format!("{}: {refused}", short(path)),
    };
    let inside = Inside::read(path).map_err(said)?;
    let content = || match arguments.content.as_deref() {
        None => Err("`content` is missing".to_owned()),
        Some(content) if content.len() > MAX_WRITE => {
            Err(format!("the content has {} bytes, {MAX_WRITE} can be written at once", content.len()))
        }
        Some(content) => Ok(content),
    };
    match arguments.action.as_str() {
        "list" => list(workspace, &inside).map_err(said),
        "read" => read(workspace, &inside).map_err(said),
        "write" => write(workspace, &inside, content()?).map_err(said),
        "append" => append(workspace, &inside, content()?).map_err(said),
        "delete" => delete(workspace, &inside).map_err(said),
        other => Err(format!("there is no action `{}`; there are {}", short(other), ACTIONS.join(", "))),
    }
}

const NO_FILE: Refused = Refused::Path("`path` must name a file");

fn list(workspace: &Path, inside: &Inside) -> Result<Used, Refused> {
    let (parent, name) = inside.parent(workspace, false)?;
    let directory = match name {
        None => parent,
        Some(name) => {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            openat(&parent, name.as_c_str(), flags, Mode::empty())?
        }
    };
    let mut names = Vec::new();
    for entry in Dir::from_fd(directory.try_clone()?)?.iter().take(MAX_WALKED) {
        let entry = entry?;
        let name = entry.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") && !name.to_bytes().starts_with(HIDDEN.as_bytes()) {
            names.push((name, entry.file_type()));
        }
    }
    names.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    let mut text = String::new();
    for (name, kind) in names.iter().take(MAX_LIST) {
        let shown: String = name.to_string_lossy().chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        text.push_str(&shown);
        match kind {
            Some(Type::Directory) => text.push('/'),
            Some(Type::Symlink) => text.push_str(" (link)"),
            _ => {
                if let Ok(about) = fstatat(&directory, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                    text.push_str(&format!(" ({} bytes)", about.st_size));
                }
            }
        }
        text.push('\n');
    }
    if names.len() > MAX_LIST {
        text.push_str(&format!("({} more)\n", names.len() - MAX_LIST));
    }
    if names.is_empty() {
        text.push_str(r#"{"entries":[]}"#);
    }
    Ok(Used::done(text, format!("{} entries", names.len())))
}

/// Opens a file that is one: neither a link nor a pipe that would wait for its other end.
fn open(parent: &OwnedFd, name: &CStr, flags: OFlag) -> Result<File, Refused> {
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = File::from(openat(parent, name, flags, Mode::from_bits_truncate(0o644))?);
    let about = file.metadata()?;
    match about.is_file() {
        true => Ok(file),
        false if about.is_dir() => Err(Errno::EISDIR.into()),
        false => Err(Refused::Path("it is not a regular file")),
    }
}

fn read(workspace: &Path, inside: &Inside) -> Result<Used, Refused> {
    let (parent, name) = inside.parent(workspace, false)?;
    let file = open(&parent, name.ok_or(NO_FILE)?, OFlag::O_RDONLY)?;
    let length = file.metadata()?.size();
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_READ).unwrap_or(u64::MAX);
    // One character more than is shown, so that a cut one is not taken for broken text.
    file.take(limit.saturating_add(4)).read_to_end(&mut bytes)?;
    let is_cut = bytes.len() > MAX_READ;
    let valid = match std::str::from_utf8(&bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() && is_cut => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => "\0",
    };
    if valid.contains('\0') {
        return Err(Refused::Path("it is a binary file, and only text can be read"));
    }
    let mut text = valid[..valid.floor_char_boundary(MAX_READ)].to_owned();
    let detail = format!("{} bytes read", text.len());
    if is_cut {
        text.push_str(&format!("\n(cut: {} of {length} bytes are shown)", text.len()));
    }
    Ok(Used::done(text, detail))
}

/// Writes a new file and puts it in the place of the old one: whoever dies in between leaves the old one whole.
fn write(workspace: &Path, inside: &Inside, content: &str) -> Result<Used, Refused> {
    let (parent, name) = inside.parent(workspace, true)?;
    let name = name.ok_or(NO_FILE)?.as_c_str();
    match fstatat(&parent, name, AtFlags::AT_SYMLINK_NOFOLLOW).map(|about| SFlag::from_bits_truncate(about.st_mode)) {
        Ok(mode) if mode & SFlag::S_IFMT == SFlag::S_IFLNK => return Err(Errno::ELOOP.into()),
        Ok(mode) if mode & SFlag::S_IFMT == SFlag::S_IFDIR => return Err(Errno::EISDIR.into()),
        Ok(mode) if mode & SFlag::S_IFMT != SFlag::S_IFREG => return Err(Refused::Path("it is not a regular file")),
        Ok(_) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let unborn = Unborn::make(workspace, content)?;
    renameat(&unborn.place, unborn.name.as_str(), &parent, name).inspect_err(|_| unborn.remove())?;
    Ok(done(content.len()))
}

/// A written file that has no place yet. It lies in the agent's own directory, on the same file system: a process that
/// is killed here leaves nothing where the model looks, and the next one writes over it.
struct Unborn {
    place: OwnedFd,
    name: String,
}

impl Unborn {
    fn make(workspace: &Path, content: &str) -> Result<Self, Refused> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("new-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let unborn = Self { place: beneath::hidden(workspace)?, name };
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&unborn.place, unborn.name.as_str(), flags, Mode::from_bits_truncate(0o644))?;
        File::from(file).write_all(content.as_bytes()).inspect_err(|_| unborn.remove())?;
        Ok(unborn)
    }

    fn remove(&self) {
        // What stays is written over.
        let _ = unlinkat(&self.place, self.name.as_str(), UnlinkatFlags::NoRemoveDir);
    }
}

fn append(workspace: &Path, inside: &Inside, content: &str) -> Result<Used, Refused> {
    let (parent, name) = inside.parent(workspace, true)?;
    let mut file = open(&parent, name.ok_or(NO_FILE)?, OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT)?;
    let length = file.metadata()?.size();
    if length.saturating_add(u64::try_from(content.len()).unwrap_or(u64::MAX)) > MAX_FILE {
        return Err(Refused::Path("the file would be longer than 16 MiB"));
    }
    file.write_all(content.as_bytes())?;
    Ok(done(content.len()))
}

fn done(bytes: usize) -> Used {
    let text = format!("{bytes} bytes written");
    Used::done(text.clone(), text)
}

fn delete(workspace: &Path, inside: &Inside) -> Result<Used, Refused> {
    let (parent, name) = inside.parent(workspace, false)?;
    let name = name.ok_or(NO_FILE)?.as_c_str();
    match unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir) {
        // Linux says EISDIR, POSIX EPERM.
        Err(Errno::EISDIR | Errno::EPERM) => unlinkat(&parent, name, UnlinkatFlags::RemoveDir)?,
        deleted => deleted?,
    }
    Ok(Used::done("deleted", "deleted"))
}

#[cfg(test)]
mod tests;
