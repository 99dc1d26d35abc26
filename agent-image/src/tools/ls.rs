//! `ls`: lists directories.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::sys::stat::{major, minor};

use super::args::Args;
use super::size::human;
use super::{Done, USAGE, complain};

pub const HELP: &str = "\
Usage: ls [-alAdh1] [PATH...]
Lists the paths, directories with what is in them; without a path, the
current directory. One name per line. Times are UTC.
  -l  with mode, links, user, group, size and time of change
  -a  also names that begin with a dot
  -A  as -a, without . and ..
  -d  directories themselves
  -h  sizes with units
  -1  one name per line, as it is
Exits with 1 when something listed cannot be looked at, 2 when a path cannot.
";

/// A name and what is known about it.
struct Entry {
    name: OsString,
    path: PathBuf,
    metadata: Metadata,
}

pub fn run(args: &Args) -> Done {
    let mut out = io::stdout().lock();
    let hide = out.is_terminal();
    let mut worst = 0;
    let here = [OsString::from(".")];
    let words = if args.words.is_empty() { &here[..] } else { &args.words };
    let (mut files, mut directories) = (Vec::new(), Vec::new());
    for word in words {
        // A link on the command line is followed, unless the answer would show that it is one.
        let metadata = if args.has('l') || args.has('d') { fs::symlink_metadata(word) } else { fs::metadata(word) };
        match metadata {
            Ok(found) if found.is_dir() && !args.has('d') => directories.push(word),
            Ok(metadata) => files.push(Entry { name: word.clone(), path: word.into(), metadata }),
            Err(error) => {
                complain(&format!("ls: {}: {error}", word.to_string_lossy()));
                worst = USAGE;
            }
        }
    }
    out.write_all(&listing(files, args, hide))?;
    for (position, directory) in directories.iter().enumerate() {
        if words.len() > 1 {
            let gap = if position > 0 || words.len() > directories.len() { "\n" } else { "" };
            out.write_all(gap.as_bytes())?;
            out.write_all(&shown(directory, hide))?;
            out.write_all(b":\n")?;
        }
        match read(Path::new(directory), args) {
            Ok((entries, complete)) => {
                out.write_all(&listing(entries, args, hide))?;
                worst = if complete { worst } else { worst.max(1) };
            }
            Err(error) => {
                complain(&format!("ls: {}: {error}", directory.to_string_lossy()));
                worst = USAGE;
            }
        }
    }
    Ok(ExitCode::from(worst))
}

/// What is in a directory, and whether all of it could be looked at.
fn read(directory: &Path, args: &Args) -> io::Result<(Vec<Entry>, bool)> {
    let mut names: Vec<OsString> =
        fs::read_dir(directory)?.map(|entry| entry.map(|e| e.file_name())).collect::<Result<_, _>>()?;
    if !args.has('a') && !args.has('A') {
        names.retain(|name| !name.as_bytes().starts_with(b"."));
    }
    if args.has('a') {
        names.extend([".".into(), "..".into()]);
    }
    let mut complete = true;
    let mut entries = Vec::with_capacity(names.len());
    for name in names {
        let path = directory.join(&name);
        match fs::symlink_metadata(&path) {
            Ok(metadata) => entries.push(Entry { name, path, metadata }),
            // Removed since it was read: no longer there to be listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                complain(&format!("ls: {}: {error}", path.display()));
                complete = false;
            }
        }
    }
    Ok((entries, complete))
}

fn listing(mut entries: Vec<Entry>, args: &Args, hide: bool) -> Vec<u8> {
    entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let mut text = Vec::new();
    let rows: Vec<[String; 6]> =
        if args.has('l') { entries.iter().map(|e| row(e, args)).collect() } else { Vec::new() };
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths = [0, width(1), width(2), width(3), width(4), 0];
    for (position, entry) in entries.iter().enumerate() {
        if let Some(row) = rows.get(position) {
            for (field, width) in row.iter().zip(widths) {
                text.extend_from_slice(format!("{field:>width$} ").as_bytes());
            }
        }
        text.extend_from_slice(&shown(&entry.name, hide));
        if args.has('l')
            && entry.metadata.is_symlink()
            && let Ok(target) = fs::read_link(&entry.path)
        {
            text.extend_from_slice(b" -> ");
            text.extend_from_slice(&shown(target.as_os_str(), hide));
        }
        text.push(b'\n');
    }
    text
}

/// Mode, links, user, group, size or device numbers, time.
fn row(entry: &Entry, args: &Args) -> [String; 6] {
    let about = &entry.metadata;
    let kind = about.file_type();
    let size = if kind.is_block_device() || kind.is_char_device() {
        format!("{}, {}", major(about.rdev()), minor(about.rdev()))
    } else if args.has('h') {
        human(about.size())
    } else {
        about.size().to_string()
    };
    let time = jiff::Timestamp::from_second(about.mtime())
        .map_or_else(|_| "-".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M").to_string());
    [mode(about.mode()), about.nlink().to_string(), about.uid().to_string(), about.gid().to_string(), size, time]
}

/// The mode as ten letters.
fn mode(mode: u32) -> String {
    let kind = match mode & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o140_000 => 's',
        0o010_000 => 'p',
        0o020_000 => 'c',
        0o060_000 => 'b',
        _ => '-',
    };
    let mut text = String::with_capacity(10);
    text.push(kind);
    for (shift, special, marks) in [(6, 0o4000, ['s', 'S']), (3, 0o2000, ['s', 'S']), (0, 0o1000, ['t', 'T'])] {
        let bits = mode >> shift;
        text.push(if bits & 4 == 0 { '-' } else { 'r' });
        text.push(if bits & 2 == 0 { '-' } else { 'w' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => marks[0],
            (true, false) => marks[1],
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// A name as it is, or for a terminal without what could steer it.
fn shown(name: &OsStr, hide: bool) -> Vec<u8> {
    if !hide {
        return name.as_bytes().to_vec();
    }
    name.to_string_lossy().chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_read_as_users_know_them() {
        assert_eq!(mode(0o100_644), "-rw-r--r--");
        assert_eq!(mode(0o040_700), "drwx------");
        assert_eq!(mode(0o041_777), "drwxrwxrwt");
        assert_eq!(mode(0o104_755), "-rwsr-xr-x");
        assert_eq!(mode(0o102_640), "-rw-r-S---");
        assert_eq!(mode(0o140_660), "srw-rw----");
    }

    #[test]
    fn a_name_cannot_steer_a_terminal() {
        assert_eq!(shown(OsStr::new("a\u{1b}[31m\n"), true), b"a?[31m?");
        assert_eq!(shown(OsStr::new("a\n"), false), b"a\n");
    }
}
