//! Event streams on their way through: whole lines only, and a look at what they say. Bounded, and without a copy of what
//! has been passed on.

use agentbot_wire::Usage;
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The longest line in bytes.
pub(super) const MAX_LINE: usize = 1024 * 1024;

/// A line without an end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Cuts a stream at the ends of its lines, so that what breaks off never leaves half a line behind.
#[derive(Debug, Default)]
pub(super) struct Lines {
    held: BytesMut,
}

impl Lines {
    /// Takes a piece; gives the lines that are whole with it.
    pub(super) fn push(&mut self, mut piece: Bytes) -> Result<Bytes, TooLong> {
        let Some(end) = piece.iter().rposition(|byte| *byte == b'\n') else {
            self.hold(&piece)?;
            return Ok(Bytes::new());
        };
        let whole = piece.split_to(end + 1);
        if self.held.is_empty() {
            self.hold(&piece)?;
            return Ok(whole);
        }
        let mut lines = std::mem::take(&mut self.held);
        lines.extend_from_slice(&whole);
        self.hold(&piece)?;
        Ok(lines.freeze())
    }

    fn hold(&mut self, piece: &[u8]) -> Result<(), TooLong> {
        if self.held.len() + piece.len() > MAX_LINE {
            return Err(TooLong);
        }
        self.held.extend_from_slice(piece);
        Ok(())
    }

    /// What came after the last whole line.
    pub(super) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.held).freeze()
    }
}

/// What a stream has said so far.
#[derive(Debug, Default)]
pub(super) struct Tee {
    /// Tokens, where it said them.
    pub(super) usage: Option<Usage>,
    /// A choice has ended.
    pub(super) finished: bool,
    /// `[DONE]` came.
    pub(super) done: bool,
    /// It said that something failed.
    pub(super) failed: bool,
}

/// The parts of a piece that are looked at.
#[derive(Deserialize)]
struct Piece {
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<Tokens>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    finish_reason: Option<IgnoredAny>,
}

/// Tokens as servers say them; some leave one out.
#[derive(Deserialize)]
struct Tokens {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
}

impl Tokens {
    fn known(&self) -> Option<Usage> {
        Some(Usage { prompt_tokens: self.prompt_tokens?, completion_tokens: self.completion_tokens? })
    }
}

impl Tee {
    /// Looks at whole lines.
    pub(super) fn watch(&mut self, lines: &[u8]) {
        for line in lines.split(|byte| matches!(byte, b'\n' | b'\r')) {
            if let Some(data) = data(line) {
                self.data(data);
            }
        }
    }

    fn data(&mut self, data: &[u8]) {
        if data == b"[DONE]" {
            self.done = true;
            return;
        }
        let Ok(piece) = serde_json::from_slice::<Piece>(data) else { return };
        self.usage = piece.usage.as_ref().and_then(Tokens::known).or(self.usage);
        self.failed |= piece.error.is_some();
        self.finished |= piece.choices.iter().flatten().any(|choice| choice.finish_reason.is_some());
    }
}

/// The value of a line of data.
pub(super) fn data(line: &[u8]) -> Option<&[u8]> {
    line.strip_prefix(b"data:").map(<[u8]>::trim_ascii)
}

/// The tokens that a whole answer says.
pub(super) fn usage_of(body: &[u8]) -> Option<Usage> {
    serde_json::from_slice::<Piece>(body).ok()?.usage.as_ref().and_then(Tokens::known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &str = concat!(
        ": a comment\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"Hé\"},\"finish_reason\":null}],\"usage\":null}\n\n",
        "event: x\r\ndata:{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\r\n\r\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":9,\"total_tokens\":16}}\n\n",
        "data: [DONE]\n\n",
    );

    fn through(pieces: &[&[u8]]) -> (Vec<u8>, Tee) {
        let (mut lines, mut tee, mut out) = (Lines::default(), Tee::default(), Vec::new());
        for piece in pieces {
            let whole = lines.push(Bytes::copy_from_slice(piece)).unwrap();
            assert!(whole.is_empty() || whole.ends_with(b"\n"));
            tee.watch(&whole);
            out.extend_from_slice(&whole);
        }
        out.extend_from_slice(&lines.rest());
        (out, tee)
    }

    #[test]
    fn a_stream_is_understood_and_passes_unchanged() {
        let (out, tee) = through(&[STREAM.as_bytes()]);
        assert_eq!(out, STREAM.as_bytes());
        assert_eq!(tee.usage, Some(Usage { prompt_tokens: 7, completion_tokens: 9 }));
        assert!(tee.finished && tee.done && !tee.failed);
    }

    #[test]
    fn an_error_in_the_stream_is_seen_and_noise_is_not_mistaken() {
        let (_, tee) = through(&[b"data: {\"error\":{\"message\":\"overloaded\"}}\n\n"]);
        assert!(tee.failed && !tee.done);
        let (_, tee) = through(&[b"data: {broken\ndata: \xff\xfe\ndata:\n[DONE]\ndata: {\"usage\":{}}\n"]);
        assert!(!tee.failed && !tee.done && !tee.finished && tee.usage.is_none());
    }

    #[test]
    fn a_line_has_a_limit() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(Bytes::from(vec![b'x'; MAX_LINE])), Ok(Bytes::new()));
        assert_eq!(lines.push(Bytes::from_static(b"y")), Err(TooLong));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// However the network cuts it, the same comes out and the same is understood.
        #[test]
        fn cuts_change_nothing(cuts in proptest::collection::vec(0..STREAM.len(), 0..20)) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &STREAM.as_bytes()[cut[0]..cut[1]]).collect();
            let (out, tee) = through(&pieces);
            prop_assert_eq!(out, STREAM.as_bytes());
            prop_assert_eq!(tee.usage, Some(Usage { prompt_tokens: 7, completion_tokens: 9 }));
            prop_assert!(tee.finished && tee.done);
        }

        #[test]
        fn any_bytes_pass(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..10)) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(through(&pieces).0, pieces.concat());
        }
    }
}
