//! The processes of this PID namespace.

use std::fs;
use std::path::Path;

use super::status::Status;

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its parent's id.
    pub ppid: u32,
    /// Its effective user id.
    pub uid: u32,
    /// One letter: R running, S sleeping, D waiting, Z zombie, T stopped.
    pub state: char,
    /// Resident memory in KiB.
    pub resident_kib: u64,
    /// Its command line, or its name in brackets.
    pub command: String,
}

impl Process {
    /// Every process, by rising id. One that ends while it is read is left out.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut pids: Vec<u32> = fs::read_dir("/proc")
            .map(|entries| entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
            .unwrap_or_default();
        pids.sort_unstable();
        pids.into_iter().filter_map(Self::read).collect()
    }

    fn read(pid: u32) -> Option<Self> {
        let directory = Path::new("/proc").join(pid.to_string());
        let (name, state, ppid) = parse_stat(&lossy(&fs::read(directory.join("stat")).ok()?))?;
        let status = Status::parse(&lossy(&fs::read(directory.join("status")).ok()?));
        let command = command_line(&fs::read(directory.join("cmdline")).unwrap_or_default());
        Some(Self {
            pid,
            ppid,
            uid: status.uid.get(1).copied()?,
            state,
            resident_kib: status.resident_kib.unwrap_or(0),
            command: command.unwrap_or_else(|| format!("[{name}]")),
        })
    }
}

/// Name, state and parent from `/proc/<pid>/stat`. The name may hold blanks and parentheses: the last one closes it.
fn parse_stat(text: &str) -> Option<(String, char, u32)> {
    let (_, rest) = text.split_once('(')?;
    let (name, rest) = rest.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    Some((name.to_owned(), fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// The arguments with blanks between them; `None` when there are none.
fn command_line(raw: &[u8]) -> Option<String> {
    let words: Vec<_> = raw.split(|byte| *byte == 0).collect();
    let words = words.strip_suffix(&[&[][..]]).unwrap_or(&words);
    let line = words.iter().map(|word| lossy(word)).collect::<Vec<_>>().join(" ");
    (!line.is_empty()).then_some(line)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_hide_the_state() {
        assert_eq!(parse_stat("42 (a) b (c)) Z 7 42 42 0 -1"), Some(("a) b (c)".to_owned(), 'Z', 7)));
    }

    #[test]
    fn a_torn_stat_is_left_out() {
        assert_eq!(parse_stat("42 (sh"), None);
        assert_eq!(parse_stat("42 (sh) S"), None);
    }

    #[test]
    fn arguments_are_joined_with_blanks() {
        assert_eq!(command_line(b"/agentbot-agent\0ls\0-la\0").as_deref(), Some("/agentbot-agent ls -la"));
        assert_eq!(command_line(b"sh\0-c\0\0").as_deref(), Some("sh -c "));
    }

    #[test]
    fn a_zombie_has_no_arguments() {
        assert_eq!(command_line(b""), None);
    }

    #[test]
    fn this_process_is_among_all() {
        let me = std::process::id();
        let own = Process::all().into_iter().find(|process| process.pid == me).unwrap();
        assert!(own.resident_kib > 0 && own.command.contains("agentbot"), "{own:?}");
    }
}
