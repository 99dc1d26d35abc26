//! What went wrong, as every door says it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::words::words;

words! {
    /// The kind of an error: stable words that programs may match on.
    Code {
        /// The request breaks a rule; the message names field and rule.
        Invalid = "invalid",
        /// What is asked for does not exist in this version.
        Unsupported = "unsupported",
        /// No valid credential.
        Unauthenticated = "unauthenticated",
        /// The actor may not do this.
        Forbidden = "forbidden",
        /// There is no such thing, or it is not the actor's.
        NotFound = "not_found",
        /// The path exists, the method does not.
        MethodNotAllowed = "method_not_allowed",
        /// The name is taken, or the agent's state forbids it.
        Conflict = "conflict",
        /// An idempotency key was used with another request.
        IdempotencyMismatch = "idempotency_mismatch",
        /// Body, frame or field over its limit.
        TooLarge = "too_large",
        /// A limit of the host or the configuration is reached.
        LimitReached = "limit_reached",
        /// Too many requests or connections at once.
        Busy = "busy",
        /// This caller asks more often than it may.
        RateLimited = "rate_limited",
        /// The disk is full; nothing was changed.
        StorageFull = "storage_full",
        /// The engine does not answer.
        EngineUnavailable = "engine_unavailable",
        /// The engine answered with an error.
        EngineRefused = "engine_refused",
        /// A container of somebody else stands in the way.
        ForeignContainer = "foreign_container",
        /// The container is not as hardened as it was asked to be.
        NotHardened = "not_hardened",
        /// The agent did not do its part in time.
        AgentUnresponsive = "agent_unresponsive",
        /// The agent gave up on an answer, for a reason of its own.
        AgentFailed = "agent_failed",
        /// The model, or the server that has it, failed.
        ModelFailed = "model_failed",
        /// The agent stopped in the middle of its answer.
        Interrupted = "interrupted",
        /// The messages after that cursor are not kept any more.
        CursorExpired = "cursor_expired",
        /// The workspace is gone.
        DataLost = "data_lost",
        /// Another operation won.
        Superseded = "superseded",
        /// Ended by its caller.
        Cancelled = "cancelled",
        /// The time given was not enough; it goes on.
        TimedOut = "timed_out",
        /// The daemon ends.
        ShuttingDown = "shutting_down",
        /// A fault of ours.
        Internal = "internal",
    }
}

/// An error as it crosses a border.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// Its kind; a word that this version does not know reads as `internal`.
    #[serde(deserialize_with = "known")]
    pub code: Code,
    /// One sentence: what happened.
    #[serde(default)]
    pub message: String,
    /// What to do about it.
    #[serde(default)]
    pub hint: Option<String>,
}

fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Code, D::Error> {
    let word = String::deserialize(deserializer)?;
    Ok(Code::from_word(&word).unwrap_or(Code::Internal))
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_error_of_a_stranger_is_read_all_the_same() {
        let error: ApiError = serde_json::from_str(r#"{"code":"overloaded","message":"later"}"#).unwrap();
        assert_eq!((error.code, error.message.as_str(), error.hint), (Code::Internal, "later", None));
        assert!(serde_json::from_str::<ApiError>(r#"{"code":7}"#).is_err());
    }
}
