//! An agent's reasons in our words: bounded, of one line, and without codes that only the daemon can mean.

use agentbot_wire::{ApiError, Code};

use super::text::line;

/// The longest reason of an agent's, in characters.
const LONGEST: usize = 1_000;
/// Codes that an agent may give.
const TAKEN: [Code; 9] = [
    Code::ModelFailed,
    Code::Interrupted,
    Code::Cancelled,
    Code::TimedOut,
    Code::TooLarge,
    Code::LimitReached,
    Code::Unsupported,
    Code::Busy,
    Code::ShuttingDown,
];

/// What an agent said of why it gave up, or does not begin.
#[must_use]
pub(super) fn reason(code: Option<Code>, message: &str, hint: Option<&str>) -> ApiError {
    let code = code.filter(|code| TAKEN.contains(code)).unwrap_or(Code::AgentFailed);
    let said = line(message, LONGEST);
    let message = if said.trim().is_empty() { "the agent gave up and does not say why".to_owned() } else { said };
    let hint = hint.map(|hint| line(hint, LONGEST)).filter(|hint| !hint.trim().is_empty());
    ApiError { code, message, hint: hint.or_else(|| Some("ask again with chat.retry".to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_bounded_line_with_a_code_that_an_agent_may_give() {
        let said = reason(Some(Code::StorageFull), &format!("a\u{1b}[2J\nb{}", "x".repeat(200_000)), Some("\u{9b}c"));
        assert_eq!(said.code, Code::AgentFailed);
        assert!(said.message.starts_with("a [2J bx") && said.message.chars().count() == LONGEST);
        assert_eq!(said.hint.as_deref(), Some(" c"));
        let silent = reason(None, " \n", None);
        assert!(silent.message.contains("does not say why") && silent.hint.is_some());
        assert_eq!(reason(Some(Code::Busy), "x", None).code, Code::Busy);
    }
}
