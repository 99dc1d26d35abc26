//! The end of a text that comes in pieces, without keeping the rest.

use std::collections::VecDeque;

/// What is kept at most, in bytes.
pub const LIMIT: usize = 64 * 1024;

/// The last lines of what was pushed, at most [`LIMIT`] bytes.
#[derive(Debug)]
pub struct Tail {
    lines: usize,
    bytes: VecDeque<u8>,
}

impl Tail {
    /// Keeps at most `lines` lines.
    #[must_use]
    pub fn new(lines: u32) -> Self {
        Self { lines: usize::try_from(lines).unwrap_or(usize::MAX), bytes: VecDeque::new() }
    }

    /// Takes the next piece.
    pub fn push(&mut self, piece: &[u8]) {
        let piece = &piece[piece.len().saturating_sub(LIMIT)..];
        let over = (self.bytes.len() + piece.len()).saturating_sub(LIMIT);
        self.bytes.drain(..over);
        self.bytes.extend(piece);
    }

    /// The last lines as text; bytes that are no UTF-8 become U+FFFD.
    #[must_use]
    pub fn into_text(self) -> String {
        if self.lines == 0 {
            return String::new();
        }
        let bytes: Vec<u8> = self.bytes.into();
        let inner = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let mut starts = inner.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        let start = starts.nth(self.lines - 1).unwrap_or(0);
        let mut text = String::from_utf8_lossy(&bytes[start..]).into_owned();
        // A replacement character is longer than the byte it stands for.
        let over = text.len().saturating_sub(LIMIT);
        text.drain(..text.ceil_char_boundary(over));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(lines: u32, pieces: &[&[u8]]) -> String {
        let mut tail = Tail::new(lines);
        pieces.iter().for_each(|piece| tail.push(piece));
        tail.into_text()
    }

    #[test]
    fn the_last_lines_are_kept_wherever_the_pieces_break() {
        assert_eq!(tail(2, &[b"a\nb", b"\nc\n"]), "b\nc\n");
        assert_eq!(tail(2, &[b"a\nb\nc"]), "b\nc");
        assert_eq!(tail(9, &[b"a\nb\n"]), "a\nb\n");
        assert_eq!(tail(1, &[b"\n"]), "\n");
        assert_eq!(tail(0, &[b"a\n"]), "");
        assert_eq!(tail(3, &[]), "");
    }

    #[test]
    fn a_line_as_long_as_the_limit_is_whole_and_one_byte_more_loses_its_first() {
        let line = vec![b'x'; LIMIT];
        assert_eq!(tail(1, &[&line]).len(), LIMIT);
        assert_eq!(tail(1, &[b"y", &line[1..]]).as_bytes()[0], b'y');
        assert_eq!(tail(1, &[b"y", &line]).as_bytes()[0], b'x');
    }

    #[test]
    fn bytes_that_are_no_text_never_make_it_longer_than_the_limit() {
        assert_eq!(tail(1, &[b"\xff\xfea"]), "\u{fffd}\u{fffd}a");
        assert!(tail(1, &[&vec![0xff; LIMIT]]).len() <= LIMIT);
    }
}
