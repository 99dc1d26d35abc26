//! What a text may be: checked where people and programs send one, cleaned where an agent does.

use agentbot_wire::{Code, MAX_CHAT_KEY, MAX_MESSAGE, MAX_TOPIC};

use crate::error::{Error, Result};

fn is_forbidden(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t'
}

/// Checks a message on its way in.
///
/// # Errors
/// `too_large` over [`MAX_MESSAGE`] bytes; `invalid` when it is empty or has control characters.
pub fn check_message(text: &str) -> Result<()> {
    if text.len() > MAX_MESSAGE {
        let error = format!("the message has {} bytes, and {MAX_MESSAGE} are allowed", text.len());
        return Err(Error::new(Code::TooLarge, error).hint("send it in parts, or as a file in the workspace"));
    }
    if text.trim().is_empty() {
        return Err(Error::invalid("message", "is empty").hint("say something"));
    }
    match text.char_indices().find(|(_, c)| is_forbidden(*c)) {
        None => Ok(()),
        Some((at, c)) => {
            let rule = format!("has the control character U+{:04X} at byte {at}", u32::from(c));
            Err(Error::invalid("message", rule).hint("newline and tab are the only ones allowed"))
        }
    }
}

/// Checks the name of a conversation.
///
/// # Errors
/// `invalid` when it is empty, longer than [`MAX_TOPIC`] characters, or has control characters.
pub fn check_topic(topic: &str) -> Result<()> {
    let length = topic.chars().count();
    let rule = if topic.trim().is_empty() {
        "is empty".to_owned()
    } else if length > MAX_TOPIC {
        format!("is longer than {MAX_TOPIC} characters")
    } else if topic.chars().any(char::is_control) {
        "has control characters".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::invalid("topic", rule).hint("name the conversation in a few words"))
}

/// Checks an idempotency key.
///
/// # Errors
/// `invalid` when it is empty, longer than [`MAX_CHAT_KEY`], or not visible ASCII.
pub fn check_key(key: &str) -> Result<()> {
    if (1..=MAX_CHAT_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err(Error::invalid("idempotency_key", format!("is not 1 to {MAX_CHAT_KEY} visible ASCII characters"))
        .hint("a UUID will do"))
}

/// What an agent said, without control characters other than newline and tab.
#[must_use]
pub fn clean(text: String) -> String {
    if text.contains(is_forbidden) { text.chars().filter(|c| !is_forbidden(*c)).collect() } else { text }
}

/// The longest beginning of a text that a message holds.
#[must_use]
pub fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_MESSAGE)]
}

/// A line of an agent's for people: no control characters at all, and at most `most` characters.
#[must_use]
pub fn line(text: &str, most: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_longest_message_passes_and_one_byte_more_does_not() {
        assert!(check_message(&"é".repeat(MAX_MESSAGE / 2)).is_ok());
        let error = check_message(&format!("{}x", "é".repeat(MAX_MESSAGE / 2))).unwrap_err();
        assert_eq!(error.code(), Code::TooLarge);
    }

    #[test]
    fn newline_and_tab_are_the_only_control_characters_of_a_message() {
        assert!(check_message("a\n\tb \u{202e}c 🦀").is_ok());
        for bad in ["", " \n", "\0", "a\rb", "\x1b[31m", "\u{7f}", "\u{9b}2J"] {
            assert_eq!(check_message(bad).unwrap_err().code(), Code::Invalid, "{bad:?}");
        }
    }

    #[test]
    fn topics_and_keys_have_their_limits() {
        assert!(check_topic(&"é".repeat(MAX_TOPIC)).is_ok());
        for bad in [&"é".repeat(MAX_TOPIC + 1), "", "  ", "a\nb"] {
            assert!(check_topic(bad).is_err(), "{bad:?}");
        }
        assert!(check_key(&"k".repeat(MAX_CHAT_KEY)).is_ok());
        for bad in [&"k".repeat(MAX_CHAT_KEY + 1), "", "a b", "é", "a\n"] {
            assert!(check_key(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_long_answer_is_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        let long = format!("x{}", "é".repeat(MAX_MESSAGE / 2));
        assert_eq!(cut(&long).len(), MAX_MESSAGE - 1);
    }

    proptest! {
        #[test]
        fn what_is_cleaned_passes_the_check(text in any::<String>()) {
            let clean = clean(text.clone());
            prop_assert!(!clean.chars().any(is_forbidden));
            prop_assert!(clean.trim().is_empty() || check_message(&clean).is_ok());
            prop_assert!(line(&text, 9).chars().count() <= 9);
        }
    }
}
