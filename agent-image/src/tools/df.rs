//! `df`: shows free space.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use nix::sys::statvfs::statvfs;

use super::args::Args;
use super::size::human;
use super::{Done, complain};
use crate::proc::mountinfo::{self, Mount};

pub const HELP: &str = "\
Usage: df [-ahkT] [PATH...]
Shows size, use and free space of the mounted file systems, or of those that
hold the paths, in KiB.
  -a  also those without a size and those below /proc, /sys and /dev
  -h  with units
  -T  with the kind of file system
  -k  in KiB, as it is
Exits with 1 when a path cannot be looked at.
";

pub fn run(args: &Args) -> Done {
    let mut code = ExitCode::SUCCESS;
    let mut fail = |what: &OsStr, error: &dyn std::fmt::Display| {
        complain(&format!("df: {}: {error}", what.to_string_lossy()));
        code = ExitCode::FAILURE;
    };
    let mounts = match std::fs::read_to_string("/proc/self/mountinfo") {
        Ok(text) => mountinfo::parse(&text),
        Err(error) => {
            fail(OsStr::new("/proc/self/mountinfo"), &error);
            Vec::new()
        }
    };
    let mut rows = Vec::new();
    if args.words.is_empty() {
        let wanted = mounts.iter().filter(|mount| args.has('a') || is_storage(mount));
        rows.extend(wanted.filter_map(|mount| Row::of(mount, args.has('a'))));
    }
    for word in &args.words {
        match std::fs::canonicalize(word) {
            Ok(path) => match mountinfo::covering(&mounts, &path.to_string_lossy()) {
                Some(mount) => rows.extend(Row::of(mount, true)),
                None => fail(word, &"no mount holds it"),
            },
            Err(error) => fail(word, &error),
        }
    }
    io::stdout().lock().write_all(table(&rows, args.has('h'), args.has('T')).as_bytes())?;
    Ok(code)
}

/// Whether a person who looks for space wants to see it: a directory that is not the kernel's.
fn is_storage(mount: &Mount) -> bool {
    let kernel = ["/proc", "/sys", "/dev"]
        .iter()
        .any(|place| mount.target.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    (!kernel || mount.target == "/dev/shm") && Path::new(&mount.target).is_dir()
}

struct Row {
    source: String,
    fstype: String,
    target: String,
    size: u64,
    used: u64,
    free: u64,
}

impl Row {
    /// The figures of a mount; `None` when it has no size, unless those are wanted too, or cannot be asked.
    fn of(mount: &Mount, sizeless: bool) -> Option<Self> {
        let figures = statvfs(mount.target.as_str()).ok()?;
        let unit = figures.fragment_size();
        let row = Self {
            source: mount.source.clone(),
            fstype: mount.fstype.clone(),
            target: mount.target.clone(),
            size: figures.blocks().saturating_mul(unit),
            used: figures.blocks().saturating_sub(figures.blocks_free()).saturating_mul(unit),
            free: figures.blocks_available().saturating_mul(unit),
        };
        (sizeless || row.size > 0).then_some(row)
    }

    /// Used part of what is not reserved, rounded up; `-` when there is nothing to use.
    fn percent(&self) -> String {
        match self.used.saturating_add(self.free) {
            0 => "-".to_owned(),
            usable => format!("{}%", (u128::from(self.used) * 100).div_ceil(u128::from(usable))),
        }
    }
}

fn table(rows: &[Row], units: bool, kinds: bool) -> String {
    let amount = |bytes: u64| if units { human(bytes) } else { bytes.div_ceil(1024).to_string() };
    let width = rows.iter().map(|row| row.source.chars().count()).max().unwrap_or(0).max(14);
    let line = |source: &str, kind: &str, figures: [&str; 4], target: &str| {
        let kind = if kinds { format!("{kind:<8} ") } else { String::new() };
        let [size, used, free, percent] = figures;
        format!("{source:<width$} {kind}{size:>10} {used:>10} {free:>10} {percent:>4} {target}\n")
    };
    let size = if units { "Size" } else { "1K-blocks" };
    let mut text = line("Filesystem", "Type", [size, "Used", "Available", "Use%"], "Mounted on");
    for row in rows {
        let figures = [&*amount(row.size), &*amount(row.used), &*amount(row.free), &*row.percent()];
        text.push_str(&line(&row.source, &row.fstype, figures, &row.target));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(used: u64, free: u64) -> Row {
        Row { source: "tmpfs".into(), fstype: "tmpfs".into(), target: "/tmp".into(), size: used + free, used, free }
    }

    #[test]
    fn a_row_is_in_kib_or_with_units() {
        let rows = [row(1 << 20, 63 << 20)];
        assert!(table(&rows, false, false).contains("     65536       1024      64512   2% /tmp\n"));
        assert!(
            table(&rows, true, true).contains("tmpfs          tmpfs           64M       1.0M        63M   2% /tmp\n")
        );
    }

    #[test]
    fn one_byte_of_many_is_not_nothing() {
        assert_eq!(row(1, 1 << 40).percent(), "1%");
    }

    #[test]
    fn nothing_to_use_has_no_percentage() {
        assert_eq!(row(0, 0).percent(), "-");
    }
}
