//! The error of every module: a kind, a sentence for the caller, a hint, and a cause that only the log sees.
//!
//! It knows no transport. A door turns it into its own shape as the last step.

use std::fmt;

use agentbot_wire::{ApiError, Code};

/// What every fallible function of the daemon returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error with what its caller may see apart from what only the log may.
#[derive(Debug)]
pub struct Error {
    code: Code,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of the given kind; `message` is one sentence that the caller sees.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, source: None }
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The cause, for the log alone.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// A field that breaks a rule.
    #[must_use]
    pub fn invalid(field: &str, rule: impl fmt::Display) -> Self {
        Self::new(Code::Invalid, format!("{field}: {rule}"))
    }

    /// There is no such thing.
    #[must_use]
    pub fn not_found(what: &str, id: impl fmt::Display) -> Self {
        Self::new(Code::NotFound, format!("no {what} `{id}`"))
    }

    /// The state of things forbids it.
    #[must_use]
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Code::Conflict, message)
    }

    /// A fault of ours: the caller learns that it happened, the log learns what.
    #[must_use]
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(Code::Internal, "the daemon failed inside").hint("its log has the cause").caused_by(source)
    }

    /// Its kind.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The sentence for the caller.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the caller may see.
    #[must_use]
    pub fn to_api(&self) -> ApiError {
        ApiError { code: self.code, message: self.message.clone(), hint: self.hint.clone() }
    }
}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        Self { code: error.code, message: error.message, hint: error.hint, source: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut cause = self.source.as_deref().map(|source| source as &dyn std::error::Error);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_never_sees_the_cause() {
        let error = Error::internal("secret path /x").hint("look at the log");
        assert!(!serde_json::to_string(&error.to_api()).unwrap().contains("secret"));
        assert!(error.to_string().contains("secret path"));
    }
}
