//! How a command ends: its exit code, and what is said when it did not succeed.

use agentbot_wire::{ApiError, Code, Operation};
use serde_json::{Value, json};

/// The exit codes of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Tried and failed.
    Failed = 1,
    /// The command line, or a value in it, breaks a rule.
    Usage = 2,
    /// Not allowed.
    NotAllowed = 3,
    /// No such thing.
    NotFound = 4,
    /// The name is taken, or the state forbids it.
    Conflict = 5,
    /// The daemon or the engine does not answer.
    Unreachable = 6,
    /// The time given was not enough.
    TimedOut = 7,
    /// Ended with Ctrl-C, as a shell counts it.
    Interrupted = 130,
}

impl Exit {
    /// The exit code that a daemon's error code leads to.
    #[must_use]
    pub fn of(code: Code) -> Self {
        match code {
            Code::Invalid | Code::Unsupported | Code::TooLarge => Self::Usage,
            Code::Unauthenticated | Code::Forbidden => Self::NotAllowed,
            Code::NotFound => Self::NotFound,
            Code::Conflict | Code::IdempotencyMismatch | Code::ForeignContainer | Code::Superseded => Self::Conflict,
            Code::EngineUnavailable | Code::ShuttingDown => Self::Unreachable,
            Code::TimedOut => Self::TimedOut,
            Code::MethodNotAllowed
            | Code::LimitReached
            | Code::Busy
            | Code::RateLimited
            | Code::ModelFailed
            | Code::Interrupted
            | Code::CursorExpired
            | Code::StorageFull
            | Code::EngineRefused
            | Code::NotHardened
            | Code::AgentUnresponsive
            | Code::AgentFailed
            | Code::DataLost
            | Code::Cancelled
            | Code::Internal => Self::Failed,
        }
    }

    /// The exit code for an HTTP status whose error code this version does not know.
    #[must_use]
    pub fn of_status(status: u16) -> Self {
        match status {
            400 | 413 | 422 => Self::Usage,
            401 | 403 => Self::NotAllowed,
            404 | 410 => Self::NotFound,
            409 => Self::Conflict,
            502 | 503 => Self::Unreachable,
            408 | 504 => Self::TimedOut,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not succeed.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// What the process exits with.
    pub exit: Exit,
    /// A stable word: one of the daemon's codes, or one of ours (`usage`, `daemon_unreachable`, `bad_reply`,
    /// `interrupted`, `output`).
    pub code: String,
    /// One sentence: what happened.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The daemon's id of the request, for its log.
    pub request_id: Option<String>,
    /// The operation that is meant, where there is one.
    pub operation: Option<Box<Operation>>,
}

impl Failure {
    /// A failure of the command line's own.
    #[must_use]
    pub fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self { exit, code: code.to_owned(), message: message.into(), hint: None, request_id: None, operation: None }
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With the operation that is meant.
    #[must_use]
    pub fn about(mut self, operation: &Operation) -> Self {
        self.operation = Some(Box::new(operation.clone()));
        self
    }

    /// Whether the daemon could not be reached, so that asking again may help.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        self.code == UNREACHABLE
    }

    /// The `error` part of the document on standard output.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut error = json!({"code": self.code, "message": self.message, "hint": self.hint});
        if let Some(id) = &self.request_id {
            error["request_id"] = json!(id);
        }
        if let Some(operation) = &self.operation {
            error["operation"] = json!(operation);
        }
        error
    }

    /// The whole document on standard output.
    #[must_use]
    pub fn to_document(&self) -> Value {
        json!({"ok": false, "error": self.to_value()})
    }
}

/// The code for a daemon that does not answer.
pub const UNREACHABLE: &str = "daemon_unreachable";
/// The code for an answer that is not the daemon's.
pub const BAD_REPLY: &str = "bad_reply";
/// The code for a wrong command line.
pub const USAGE: &str = "usage";

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self { hint: error.hint, ..Self::new(Exit::of(error.code), error.code.as_str(), error.message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_the_documented_numbers() {
        let numbers = [
            (Exit::Ok, 0),
            (Exit::Failed, 1),
            (Exit::Usage, 2),
            (Exit::NotAllowed, 3),
            (Exit::NotFound, 4),
            (Exit::Conflict, 5),
            (Exit::Unreachable, 6),
            (Exit::TimedOut, 7),
            (Exit::Interrupted, 130),
        ];
        for (exit, number) in numbers {
            assert_eq!(exit as u8, number);
        }
    }

    #[test]
    fn each_kind_of_error_leads_to_its_exit_code() {
        for (code, exit) in [
            (Code::Invalid, Exit::Usage),
            (Code::Forbidden, Exit::NotAllowed),
            (Code::NotFound, Exit::NotFound),
            (Code::Conflict, Exit::Conflict),
            (Code::Superseded, Exit::Conflict),
            (Code::EngineUnavailable, Exit::Unreachable),
            (Code::TimedOut, Exit::TimedOut),
            (Code::Internal, Exit::Failed),
        ] {
            assert_eq!(Exit::of(code), exit, "{code}");
        }
        assert!(Code::ALL.iter().all(|code| Exit::of(*code) != Exit::Ok));
    }

    #[test]
    fn the_document_of_a_failure_says_ok_false_and_names_what_is_known() {
        let failure = Failure::new(Exit::Usage, USAGE, "no").hint("so");
        assert_eq!(
            failure.to_document(),
            json!({"ok": false, "error": {"code": "usage", "message": "no", "hint": "so"}})
        );
    }
}
