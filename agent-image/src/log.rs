//! One line of JSON per event on standard output.
//!
//! The engine reads the other end of that pipe. Should it stop reading, lines are dropped and counted: an agent never
//! waits for its log.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::unix::fs::FileTypeExt;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde::Serialize;

/// Longest line in bytes, newline included. Linux writes this much (PIPE_BUF) to a pipe whole or not at all.
const MAX_LINE: usize = 4096;

/// Longest message in bytes: escaped, each may become six, and the line must still fit.
const MAX_MESSAGE: usize = 600;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Expected in the life of an agent.
    Info,
    /// Something is away or wrong, and is tried again.
    Warn,
    /// The agent cannot do its work.
    Error,
}

#[derive(Serialize)]
struct Line<'a> {
    time: &'a str,
    level: Level,
    msg: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    dropped: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Writes lines to standard output.
#[derive(Debug, Default)]
pub struct Log {
    dropped: AtomicU64,
    #[cfg(test)]
    silent: bool,
}

impl Log {
    /// A log on standard output, which is made non-blocking if it is a pipe or a socket. A terminal or a file is left
    /// as it is: others share it, and it does not stop reading.
    #[must_use]
    pub fn to_stdout() -> Self {
        let stdout = io::stdout();
        if is_pipe() {
            let flags = fcntl(&stdout, FcntlArg::F_GETFL).map_or(OFlag::empty(), OFlag::from_bits_retain);
            // Refused, the log works as before, only that a stalled reader can hold it up.
            let _ = fcntl(&stdout, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK));
        }
        Self::default()
    }

    /// A log that says nothing.
    #[cfg(test)]
    pub fn silent() -> Self {
        Self { silent: true, ..Self::default() }
    }

    /// Logs what is expected.
    pub fn info(&self, msg: &str) {
        self.write(Level::Info, msg);
    }

    /// Logs what is wrong for now.
    pub fn warn(&self, msg: &str) {
        self.write(Level::Warn, msg);
    }

    /// Logs what ends the agent.
    pub fn error(&self, msg: &str) {
        self.write(Level::Error, msg);
    }

    fn write(&self, level: Level, msg: &str) {
        #[cfg(test)]
        if self.silent {
            return;
        }
        let dropped = self.dropped.load(Ordering::Relaxed);
        let text = line(&now(), level, msg, dropped);
        let mut stdout = io::stdout().lock();
        // Rust's standard output is line-buffered: the line goes out with its newline, in one write.
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => self.dropped.store(0, Ordering::Relaxed),
            Err(_) => self.dropped.store(dropped + 1, Ordering::Relaxed),
        }
    }
}

fn is_pipe() -> bool {
    std::fs::metadata("/proc/self/fd/1")
        .is_ok_and(|stdout| stdout.file_type().is_fifo() || stdout.file_type().is_socket())
}

/// The time as RFC 3339, UTC, with milliseconds.
fn now() -> String {
    let mut text = String::with_capacity(24);
    let _ = write!(text, "{:.3}", jiff::Timestamp::now());
    text
}

/// One line, never longer than [`MAX_LINE`].
fn line(time: &str, level: Level, msg: &str, dropped: u64) -> String {
    let msg = &msg[..msg.floor_char_boundary(MAX_MESSAGE)];
    // Strings and a number: serialising them cannot fail.
    let mut text = serde_json::to_string(&Line { time, level, msg, dropped }).unwrap_or_default();
    text.push('\n');
    debug_assert!(text.len() <= MAX_LINE, "a line that may be torn");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: &str = "2026-01-02T12:00:00.000Z";

    #[test]
    fn a_line_has_time_level_and_message() {
        assert_eq!(
            line(NOON, Level::Warn, "the daemon is away", 0),
            "{\"time\":\"2026-01-02T12:00:00.000Z\",\"level\":\"warn\",\"msg\":\"the daemon is away\"}\n"
        );
    }

    #[test]
    fn lines_that_were_lost_are_counted_in_the_next_one() {
        assert!(line(NOON, Level::Info, "back", 7).contains("\"dropped\":7"));
    }

    #[test]
    fn the_worst_message_still_fits_a_whole_pipe_write() {
        for fill in ["\u{1}", "a", "\"", "é", "😀"] {
            assert!(line(NOON, Level::Error, &fill.repeat(10_000), u64::MAX).len() <= MAX_LINE);
        }
    }

    #[test]
    fn a_newline_in_a_message_does_not_make_a_second_line() {
        assert_eq!(line(NOON, Level::Info, "one\ntwo", 0).matches('\n').count(), 1);
    }

    #[test]
    fn the_time_is_utc_with_milliseconds() {
        let now = now();
        assert_eq!((now.len(), &now[23..]), (24, "Z"), "{now}");
    }
}
