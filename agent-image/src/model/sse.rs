//! The parser of a server-sent event stream, as models send it.

/// The longest event in bytes, and the longest line: more is a broken stream.
pub const MAX_EVENT: usize = 256 * 1024;

/// The stream has a line or an event over [`MAX_EVENT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// Finds the data of events in a stream that comes in pieces of any size. Lines end with LF, CRLF or CR; comments and
/// fields other than `data` are passed over.
#[derive(Debug, Default)]
pub struct Sse {
    line: Vec<u8>,
    data: Option<Vec<u8>>,
    /// The last byte was a CR: an LF now belongs to it.
    after_cr: bool,
    /// A line has ended: a byte order mark stands before the first one only.
    begun: bool,
}

impl Sse {
    /// Takes a piece of the stream; the data of each event that it completes is added to `events`.
    ///
    /// # Errors
    /// When a line or an event is too long.
    pub fn push(&mut self, piece: &[u8], events: &mut impl Extend<Vec<u8>>) -> Result<(), TooLong> {
        let mut rest = piece;
        if piece.is_empty() {
            return Ok(());
        }
        if std::mem::take(&mut self.after_cr) && rest.first() == Some(&b'\n') {
            rest = &rest[1..];
        }
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.extend(&rest[..end])?;
            self.end_line(events)?;
            let cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            if cr {
                match rest.first() {
                    Some(b'\n') => rest = &rest[1..],
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
        }
        self.extend(rest)
    }

    /// The stream has ended: what an event lacks of its blank line is overlooked.
    ///
    /// # Errors
    /// When the last event is too long.
    pub fn finish(&mut self, events: &mut impl Extend<Vec<u8>>) -> Result<(), TooLong> {
        if !self.line.is_empty() {
            self.end_line(events)?;
        }
        self.end_line(events)
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.line.len() + bytes.len() > MAX_EVENT {
            return Err(TooLong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, events: &mut impl Extend<Vec<u8>>) -> Result<(), TooLong> {
        let mark: &[u8] = if std::mem::replace(&mut self.begun, true) { b"" } else { "\u{feff}".as_bytes() };
        let line = self.line.strip_prefix(mark).unwrap_or(&self.line);
        if line.is_empty() {
            events.extend(self.data.take());
        } else if let Some(value) = line.strip_prefix(b"data") {
            let value = match value {
                [b':', b' ', value @ ..] | [b':', value @ ..] => value,
                [] => value,
                // Another field whose name begins so.
                [..] => {
                    self.line.clear();
                    return Ok(());
                }
            };
            let data = match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data
                }
                none => none.insert(Vec::new()),
            };
            if data.len() + value.len() > MAX_EVENT {
                return Err(TooLong);
            }
            data.extend_from_slice(value);
        }
        self.line.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events(pieces: &[&[u8]]) -> Vec<String> {
        let (mut sse, mut events) = (Sse::default(), Vec::new());
        for piece in pieces {
            sse.push(piece, &mut events).unwrap();
        }
        sse.finish(&mut events).unwrap();
        events.into_iter().map(|event| String::from_utf8(event).unwrap()).collect()
    }

    #[test]
    fn events_are_found_whatever_ends_their_lines() {
        for end in ["\n", "\r\n", "\r"] {
            let text = ["data: a", "", "data:b", "", ""].join(end);
            assert_eq!(events(&[text.as_bytes()]), ["a", "b"], "{end:?}");
        }
    }

    #[test]
    fn comments_and_other_fields_are_passed_over() {
        let text = ": hello\n\nevent: x\nid: 7\ndatabase: no\ndata: a\nretry: 1\n\n";
        assert_eq!(events(&[text.as_bytes()]), ["a"]);
    }

    #[test]
    fn several_data_lines_are_one_event() {
        assert_eq!(events(&[b"data: a\ndata\ndata: b\n\n"]), ["a\n\nb"]);
    }

    #[test]
    fn a_missing_blank_line_at_the_end_is_overlooked() {
        assert_eq!(events(&[b"data: a"]), ["a"]);
        assert_eq!(events(&[b"data: a\n"]), ["a"]);
        assert_eq!(events(&["\u{feff}data: a\r".as_bytes(), b"\n\r\n"]), ["a"]);
        assert!(events(&[b""]).is_empty());
    }

    #[test]
    fn a_byte_order_mark_counts_at_the_start_of_the_stream_only() {
        assert_eq!(events(&["\u{feff}data: a\n\ndata: b\n\u{feff}data: c\n\n".as_bytes()]), ["a", "b"]);
        assert_eq!(events(&["\n\u{feff}data: a\n\n".as_bytes()]), [""; 0]);
    }

    #[test]
    fn an_empty_piece_changes_nothing() {
        assert_eq!(events(&[b"data: a\r", b"", b"\ndata: b\r\n\r\n"]), ["a\nb"]);
    }

    #[test]
    fn the_longest_line_passes_and_one_byte_more_does_not() {
        let line = |fill: usize| [b"data:".as_slice(), &vec![b'a'; fill], b"\n\n"].concat();
        let room = MAX_EVENT - 5;
        assert_eq!(Sse::default().push(&line(room), &mut Vec::new()), Ok(()));
        assert_eq!(Sse::default().push(&line(room + 1), &mut Vec::new()), Err(TooLong));
    }

    #[test]
    fn an_event_without_end_is_cut_off() {
        let mut sse = Sse::default();
        let lines = std::iter::repeat_n(b"data: 0123456789\n", MAX_EVENT / 10);
        assert!(lines.map(|line| sse.push(line, &mut Vec::new())).any(|pushed| pushed == Err(TooLong)));
    }

    proptest! {
        #[test]
        fn where_a_stream_is_cut_makes_no_difference(
            parts in prop::collection::vec(r"(data: ?[a-zé]{0,8}|: [a-z]*|event: x|)(\n|\r\n|\r)", 0..24),
            cuts in prop::collection::vec(0_usize..200, 0..12),
        ) {
            let text = parts.concat().into_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            prop_assert_eq!(events(&pieces), events(&[&text]));
        }

        #[test]
        fn no_bytes_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..16)) {
            let mut sse = Sse::default();
            for piece in pieces {
                let _ = sse.push(&piece, &mut Vec::new());
            }
            let _ = sse.finish(&mut Vec::new());
        }
    }
}
