//! Text of agents, models and users before it is shown: nothing in it may command the terminal or turn what is read.

/// Takes terminal control out of a text that comes in pieces. A sequence may be split over them anywhere.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and what announces one more character, such as a character set.
    Intermediate,
    /// Within a control sequence, until its final character.
    Sequence,
    /// Within a control string (title, clipboard, link), until its terminator.
    Control,
    /// Within a control string, after ESC.
    ControlEscape,
}

impl Filter {
    /// What of a piece may be seen.
    #[must_use]
    pub fn push(&mut self, piece: &str) -> String {
        let mut seen = String::with_capacity(piece.len());
        for c in piece.chars() {
            self.state = self.step(c, &mut seen);
        }
        seen
    }

    fn step(&self, c: char, seen: &mut String) -> State {
        // A line end ends every sequence: what is broken or never ends hides one line at most.
        if c == '\n' {
            seen.push(c);
            return State::Text;
        }
        match (self.state, c) {
            (State::Control, '\u{1b}') => State::ControlEscape,
            (_, '\u{1b}') => State::Escape,
            (_, '\u{9b}') => State::Sequence,
            (_, '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}') => State::Control,
            (State::Control | State::ControlEscape, '\u{7}' | '\u{9c}') => State::Text,
            (State::ControlEscape, '\\') => State::Text,
            (State::ControlEscape, _) | (State::Control, _) => State::Control,
            (State::Escape, '[') => State::Sequence,
            (State::Escape, ']' | 'P' | 'X' | '^' | '_') => State::Control,
            (State::Escape | State::Intermediate, ' '..='/') => State::Intermediate,
            (State::Escape | State::Intermediate, '0'..='~') => State::Text,
            (State::Sequence, ' '..='?') => State::Sequence,
            (State::Sequence, '@'..='~') => State::Text,
            (State::Text | State::Escape | State::Intermediate | State::Sequence, _) => {
                if is_seen(c) {
                    seen.push(c);
                }
                State::Text
            }
        }
    }
}

/// A whole text without terminal control; line ends and tabs stay.
#[must_use]
pub fn clean(text: &str) -> String {
    Filter::default().push(text)
}

/// Whether a character is shown, and does nothing else: no control (line end and tab aside), nothing that turns the
/// direction of what is read, nothing that cannot be seen. Joiners are kept: scripts and signs need them.
#[must_use]
pub fn is_seen(c: char) -> bool {
    match c {
        '\n' | '\t' | '\u{200c}' | '\u{200d}' => true,
        c => !crate::output::text::is_hidden(c),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_attacks_leave_nothing_that_acts() {
        for (attack, seen) in [
            ("\x1b]52;c;cm0gLXJmIC8=\x07copied", "copied"),
            ("\x1b]52;c;cm0gLXJmIC8=\x1b\\copied", "copied"),
            ("\x1b]8;;http://evil\x1b\\good\x1b]8;;\x1b\\", "good"),
            ("\x1b]0;title\x07text", "text"),
            ("\x1b[2J\x1b[H\x1b[1Aup", "up"),
            ("\x1b[?1049h\x1b[>4;2mx", "x"),
            ("safe\rover", "safeover"),
            ("\u{9b}31mred", "red"),
            ("\u{9d}0;title\u{9c}text", "text"),
            ("\x1bPq#0\x1b\\sixel", "sixel"),
            ("\x1b_apc\x1b\\a\x1b^pm\x1b\\b\x1bXsos\x1b\\c", "abc"),
            ("\x1bc\x1b(0\x1b#8reset", "reset"),
            ("bell\x07\x08\x7f\0", "bell"),
            ("\u{202e}gpj.exe\u{2066}x\u{2069}", "gpj.exex"),
            ("tag\u{e0041}\u{e0042}s \u{61c}marks", "tags marks"),
            ("\x1b]0;never ends\nnext line", "\nnext line"),
            ("a\tb\nc", "a\tb\nc"),
            ("نمی‌خواهم 👩‍🚀 ä", "نمی‌خواهم 👩‍🚀 ä"),
        ] {
            assert_eq!(clean(attack), seen, "{attack:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_gives(text in "[\u{1b}\u{9b}\u{9d}\u{7}\\[\\]\\\\;0-9a-cmP\n]{0,40}", at in 0_usize..40) {
            let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            let mut filter = Filter::default();
            let pieces = filter.push(&text[..at]) + &filter.push(&text[at..]);
            prop_assert_eq!(pieces, clean(&text));
        }

        #[test]
        fn nothing_that_acts_is_left(text: String) {
            prop_assert!(clean(&text).chars().all(is_seen));
        }
    }
}
