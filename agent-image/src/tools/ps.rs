//! `ps`: lists processes.

use std::io::{self, Write as _};
use std::process::ExitCode;

use super::Done;
use crate::proc::process::Process;

pub const HELP: &str = "\
Usage: ps
Lists every process of this container: id, parent, user, state, resident
memory in KiB, command line. The options -a -e -f -u -x change nothing.
";

pub fn run() -> Done {
    let mut out = io::stdout().lock();
    out.write_all(table(&Process::all()).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn table(processes: &[Process]) -> String {
    let mut text = format!("{:>7} {:>7} {:>7} S {:>8} COMMAND\n", "PID", "PPID", "UID", "RSS");
    for Process { pid, ppid, uid, state, resident_kib, command } in processes {
        // A command line can hold anything, escape sequences too.
        let command: String = command.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        text.push_str(&format!("{pid:>7} {ppid:>7} {uid:>7} {state} {resident_kib:>8} {command}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_cannot_write_on_the_terminal() {
        let evil =
            Process { pid: 1, ppid: 0, uid: 20001, state: 'S', resident_kib: 948, command: "x\u{1b}[2J\ny".to_owned() };
        assert_eq!(
            table(&[evil]),
            "    PID    PPID     UID S      RSS COMMAND\n      1       0   20001 S      948 x?[2J?y\n"
        );
    }
}
