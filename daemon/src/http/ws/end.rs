//! Why a session ends, and what is said at its end.

use super::counts::{Count, Counts};

/// Close code of RFC 6455: the daemon ends.
pub const CLOSE_GOING: u16 = 1001;
/// Close code: the credential is not valid any more.
pub const CLOSE_REVOKED: u16 = 4001;
/// Close code: no `connect` in time, or no sign of life.
pub const CLOSE_IDLE: u16 = 4008;
/// Close code: the client reads too slowly.
pub const CLOSE_SLOW: u16 = 4013;
/// Close code: the client asks too fast.
pub const CLOSE_FLOOD: u16 = 4029;

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client went, or its socket broke.
    Gone,
    /// The daemon ends.
    Going,
    /// The credential is not valid any more.
    Revoked,
    /// No `connect` in time.
    Unconnected,
    /// No sign of life.
    Idle,
    /// The client does not keep up.
    Slow,
    /// The client asks too fast.
    Flood,
    /// The client sent what the protocol has no use for.
    Unfit(u16, &'static str),
}

impl End {
    /// The close code and reason; `None` where nobody is left to read them.
    pub(super) fn close(self) -> Option<(u16, &'static str)> {
        Some(match self {
            Self::Gone => return None,
            Self::Going => (CLOSE_GOING, "the daemon ends"),
            Self::Revoked => (CLOSE_REVOKED, "the credential is not valid any more"),
            Self::Unconnected => (CLOSE_IDLE, "no connect in time"),
            Self::Idle => (CLOSE_IDLE, "no answer to pings"),
            Self::Slow => (CLOSE_SLOW, "it reads too slowly"),
            Self::Flood => (CLOSE_FLOOD, "too many frames"),
            Self::Unfit(code, why) => (code, why),
        })
    }

    /// Whether the client is told how far it has heard, to come back.
    pub(super) fn says_bye(self) -> Option<&'static str> {
        match self {
            Self::Going => Some("the daemon ends; come back when it is up"),
            Self::Slow => Some("events came faster than they were read; come back with these cursors"),
            _ => None,
        }
    }

    pub(super) fn count(self, counts: &Counts) -> Option<&Count> {
        match self {
            Self::Gone | Self::Going => None,
            Self::Revoked => Some(&counts.revoked),
            Self::Unconnected | Self::Idle => Some(&counts.idle),
            Self::Slow => Some(&counts.slow),
            Self::Flood => Some(&counts.flood),
            Self::Unfit(..) => Some(&counts.unfit),
        }
    }
}
