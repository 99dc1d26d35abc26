//! How an agent ended, and when it may start again.

use std::time::Duration;

use crate::engine::{Exit, Observed};

/// Why an agent is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It never said hello.
    NoHello,
    /// It fell silent.
    Silent,
}

/// The fingerprint by which an exit is known to be accounted for.
#[must_use]
pub fn fingerprint(observed: &Observed, exit: &Exit) -> String {
    let at = exit.finished_at.or(observed.started_at).map_or_else(String::new, |at| at.to_string());
    format!("{}@{at}", observed.id)
}

/// The pause before the next start after an unasked end: none after the first, then `base`, twice that, and so on.
#[must_use]
pub fn backoff(streak: u32, base: Duration, max: Duration) -> Duration {
    match streak.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => base.saturating_mul(2_u32.saturating_pow(doublings)).min(max),
    }
}

/// Says in words how a process ended.
#[must_use]
pub fn cause(exit: &Exit, verdict: Option<Verdict>) -> String {
    match (verdict, exit) {
        (Some(Verdict::NoHello), _) => "killed: it did not say hello in time".to_owned(),
        (Some(Verdict::Silent), _) => "killed: it fell silent and left a ping unanswered".to_owned(),
        (None, Exit { oom_killed: true, .. }) => "killed by the kernel: out of memory".to_owned(),
        (None, Exit { error: Some(error), .. }) if !error.is_empty() => format!("could not start: {error}"),
        (None, Exit { code, .. }) if (129..=192).contains(code) => {
            format!("ended by signal {} (exit code {code})", code - 128)
        }
        (None, Exit { code, .. }) => format!("exited with code {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: i64) -> Exit {
        Exit { code, oom_killed: false, finished_at: None, error: None }
    }

    #[test]
    fn the_first_restart_comes_at_once_and_the_pauses_double_to_the_limit() {
        let (base, max) = (Duration::from_secs(1), Duration::from_secs(300));
        let pauses: Vec<u64> = (0..12).map(|streak| backoff(streak, base, max).as_secs()).collect();
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(backoff(u32::MAX, base, max), max);
    }

    #[test]
    fn the_cause_names_what_the_owner_can_act_on() {
        assert_eq!(cause(&exit(3), None), "exited with code 3");
        assert_eq!(cause(&exit(137), None), "ended by signal 9 (exit code 137)");
        assert_eq!(cause(&Exit { oom_killed: true, ..exit(137) }, None), "killed by the kernel: out of memory");
        assert_eq!(cause(&exit(137), Some(Verdict::NoHello)), "killed: it did not say hello in time");
        let failed = Exit { error: Some("no such file".to_owned()), ..exit(127) };
        assert_eq!(cause(&failed, None), "could not start: no such file");
    }
}
