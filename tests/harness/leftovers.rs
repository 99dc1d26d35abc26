//! What a daemon and its agents leave behind on the machine.

use std::path::Path;

/// Mount points below a directory, from the kernel's own list.
pub(crate) fn mounts_below(dir: &Path) -> Vec<String> {
    let list = std::fs::read_to_string("/proc/self/mountinfo").expect("/proc/self/mountinfo");
    let mut found: Vec<String> = list
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| Path::new(point).starts_with(dir))
        .map(str::to_owned)
        .collect();
    // What was mounted last stands last, and goes first.
    found.reverse();
    found
}

/// Processes whose command line names something below a directory: pid and command line.
pub(crate) fn processes_naming(dir: &Path) -> Vec<(i32, String)> {
    let needle = dir.display().to_string();
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if pid != own && line.contains(&needle) {
            found.push((pid, line));
        }
    }
    found
}

/// Sockets below a directory.
pub(crate) fn sockets_below(dir: &Path) -> Vec<String> {
    use std::os::unix::fs::FileTypeExt;
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_socket() {
                found.push(entry.path().display().to_string());
            }
        }
    }
    found
}
