//! Words, times and sizes as a person reads them, and text that cannot command a terminal.

use jiff::{SignedDuration, Timestamp};

/// One line without terminal escapes, control characters and direction overrides; line ends and tabs become blanks.
#[must_use]
pub fn line(text: &str) -> String {
    if text.bytes().all(is_plain) {
        return text.trim().to_owned();
    }
    block(text).replace(['\n', '\t'], " ").trim().to_owned()
}

/// As [`line`], but keeps line ends.
#[must_use]
pub fn block(text: &str) -> String {
    // Nearly every text: nothing of it can begin an escape.
    if text.bytes().all(|byte| is_plain(byte) || byte == b'\n' || byte == b'\t') {
        return text.to_owned();
    }
    let plain = anstream::adapter::strip_str(text).to_string();
    plain.chars().filter(|c| *c == '\n' || *c == '\t' || !is_hidden(*c)).collect()
}

fn is_plain(byte: u8) -> bool {
    byte == b' ' || byte.is_ascii_graphic()
}

/// Whether a character acts on the terminal or on the order of what is read instead of being seen.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
        || matches!(c, '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// At most `most` characters; a text that is longer ends in `…`.
#[must_use]
pub fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// How long ago, in its largest whole unit: `5s`, `3m`, `2h`, `4d`.
#[must_use]
pub fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).max(SignedDuration::ZERO).as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A length of time with the precision a person watches: `0.4s`, `12.0s`, `3m 05s`.
#[must_use]
pub fn took(time: std::time::Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 { format!("{:.1}s", time.as_secs_f64()) } else { format!("{}m {:02}s", seconds / 60, seconds % 60) }
}

/// Bytes in the largest binary unit that leaves at least one: `256 MiB`, `1.5 GiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut unit = None;
    let mut whole = count;
    let mut rest = 0;
    for next in units {
        if whole < 1024 {
            break;
        }
        rest = whole % 1024;
        whole /= 1024;
        unit = Some(next);
    }
    let tenths = rest * 10 / 1024;
    match unit {
        None => format!("{count} B"),
        Some(unit) if tenths == 0 => format!("{whole} {unit}"),
        Some(unit) => format!("{whole}.{tenths} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    #[test]
    fn colours_titles_and_links_from_the_daemon_are_taken_out() {
        for (raw, seen) in [
            ("\x1b[31mred\x1b[0m", "red"),
            ("\x1b]0;owned\x07name", "name"),
            ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("a\u{9b}31mb", "a31mb"),
            ("a\rb\u{8}c\0d\u{7f}", "abcd"),
            ("safe\u{202e}exe.txt", "safeexe.txt"),
            ("turned\u{61c} tag\u{e0041}\u{e007f}", "turned tag"),
            ("two\nlines\tand a tab", "two lines and a tab"),
            ("ä ✓ 日本", "ä ✓ 日本"),
        ] {
            assert_eq!(line(raw), seen, "{raw:?}");
        }
        assert_eq!(block("a\n\x1b[2Jb\n"), "a\nb\n");
    }

    #[test]
    fn a_text_is_shortened_only_past_its_limit() {
        assert_eq!(shorten("12345", 5), "12345");
        assert_eq!(shorten("123456", 5), "1234…");
        assert_eq!(shorten("ääääää", 5), "ääää…");
        assert_eq!(shorten("abc defgh", 5), "abc…");
    }

    #[test]
    fn ages_change_unit_at_the_border_and_are_never_negative() {
        let then: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (seconds, text) in [
            (-5, "0s"),
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3599, "59m"),
            (3600, "1h"),
            (86_399, "23h"),
            (86_400, "1d"),
        ] {
            assert_eq!(age(then, then + SignedDuration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn times_and_sizes_read_well() {
        assert_eq!(took(Duration::from_millis(440)), "0.4s");
        assert_eq!(took(Duration::from_secs(185)), "3m 05s");
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (268_435_456, "256 MiB"),
            (1_610_612_736, "1.5 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
