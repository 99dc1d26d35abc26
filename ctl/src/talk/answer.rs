//! An answer while it grows: blocks that are finished, and the one that is still open.

use super::safe::Filter;
use crate::markdown::{self, Look};

/// The text of one answer, and how much of it has been given out as finished lines.
#[derive(Debug, Default)]
pub struct Answer {
    filter: Filter,
    text: String,
    given: usize,
    /// Something was given out before, so that the next block stands apart from it.
    any: bool,
}

impl Answer {
    /// Adds a piece.
    pub fn push(&mut self, piece: &str) {
        let seen = self.filter.push(piece);
        self.text.push_str(&seen);
    }

    /// Puts the whole text in the place of all pieces. Says whether what was given out is still its beginning.
    #[must_use]
    pub fn replace(&mut self, whole: &str) -> bool {
        let mut next = Self::default();
        next.push(whole);
        let begins = next.text.get(..self.given) == self.text.get(..self.given);
        (next.given, next.any) = if begins { (self.given, self.any) } else { (0, false) };
        *self = next;
        begins
    }

    /// Whether there is nothing to see that was not given out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open().trim().is_empty()
    }

    /// Lines of blocks that cannot change any more; each is given once. A link whose definition comes in a later block
    /// stays as it was painted: what has scrolled away cannot be painted again.
    #[must_use]
    pub fn finished(&mut self, width: usize, look: Look) -> Vec<String> {
        let end = markdown::last_block(self.open());
        self.give(end, width, look)
    }

    /// Lines of all that is left.
    #[must_use]
    pub fn rest(&mut self, width: usize, look: Look) -> Vec<String> {
        self.give(self.open().len(), width, look)
    }

    /// Lines of the block that still grows.
    #[must_use]
    pub fn growing(&self, width: usize, look: Look) -> Vec<String> {
        self.apart(markdown::render(self.open(), width, look))
    }

    fn open(&self) -> &str {
        self.text.get(self.given..).unwrap_or_default()
    }

    fn give(&mut self, end: usize, width: usize, look: Look) -> Vec<String> {
        let block = self.open().get(..end).unwrap_or_default();
        let lines = self.apart(markdown::render(block, width, look));
        self.given += end;
        self.any |= !lines.is_empty();
        lines
    }

    fn apart(&self, mut lines: Vec<String>) -> Vec<String> {
        if self.any && !lines.is_empty() {
            lines.insert(0, String::new());
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SOURCE: &str = "# Plan\nFirst **this**,\nthen that.\n\n- one\n- two\n\n  more\n\n```sh\nls\n\ncd\n```\n> wise\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nThe *end*.";

    proptest! {
        #[test]
        fn pieces_give_the_lines_of_the_whole(cuts in prop::collection::vec(0..SOURCE.len(), 0..12)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            cuts.push(SOURCE.len());
            let (mut answer, mut lines, mut from) = (Answer::default(), Vec::new(), 0);
            for to in cuts {
                answer.push(&SOURCE[from..to]);
                lines.extend(answer.finished(60, Look::Plain));
                from = to;
            }
            lines.extend(answer.rest(60, Look::Plain));
            prop_assert_eq!(lines, markdown::render(SOURCE, 60, Look::Plain));
        }
    }

    #[test]
    fn a_finished_block_stays_as_painted_whatever_a_later_definition_says() {
        let mut answer = Answer::default();
        answer.push("see [it][1]\n\nnext\n");
        assert_eq!(answer.finished(60, Look::Plain), ["see [it][1]"]);
        answer.push("\n[1]: http://a.example\n");
        assert!(answer.replace("see [it][1]\n\nnext\n\n[1]: http://a.example\n"));
        assert_eq!(answer.rest(60, Look::Plain), ["", "next"]);
    }

    #[test]
    fn a_definition_right_behind_its_block_still_counts() {
        let mut answer = Answer::default();
        for piece in "see [it][1]\n\n[1]: http://a.example\n".split_inclusive('\n') {
            answer.push(piece);
            assert!(answer.finished(60, Look::Plain).is_empty());
        }
        assert_eq!(answer.rest(60, Look::Plain), ["see it (http://a.example)"]);
    }

    #[test]
    fn a_snapshot_goes_on_after_what_was_given_and_says_when_it_cannot() {
        let mut answer = Answer::default();
        answer.push("one\n\ntwo\n\nth");
        assert_eq!(answer.finished(60, Look::Plain), ["one"]);
        assert!(answer.replace("one\n\ntwo and more"));
        assert_eq!(answer.rest(60, Look::Plain), ["", "two and more"]);
        assert!(!answer.replace("another"));
        assert_eq!(answer.rest(60, Look::Plain), ["another"]);
    }

    #[test]
    fn an_escape_split_over_pieces_is_no_way_in() {
        let mut answer = Answer::default();
        for piece in ["a\x1b", "]52;c;", "Zm9v\x07b", "\x1b", "[2", "Jc"] {
            answer.push(piece);
        }
        assert_eq!(answer.rest(60, Look::Plain), ["abc"]);
    }
}
