//! Styled words in lines of a width.

use anstyle::Style;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// A stretch of text in one style, without line ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The text.
    pub text: String,
    /// How it looks.
    pub style: Style,
}

impl Span {
    /// A span.
    #[must_use]
    pub fn new(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }
}

/// Columns that a text takes on the screen. Where terminals disagree the larger number counts, so a line that is said
/// to fit does fit.
#[must_use]
pub fn columns(text: &str) -> usize {
    let apart: usize = text.chars().map(cost).sum();
    text.width().max(apart)
}

/// Columns of one character among others. The sign that turns a letter into a picture makes it wider.
fn cost(c: char) -> usize {
    if c == '\u{fe0f}' { 1 } else { c.width().unwrap_or_default() }
}

/// Columns of several spans.
#[must_use]
pub fn columns_of(spans: &[Span]) -> usize {
    spans.iter().map(|span| columns(&span.text)).sum()
}

/// Breaks spans into lines of at most `width` columns, between words where that is possible. Blanks at a break go.
#[must_use]
pub fn wrap(spans: &[Span], width: usize) -> Vec<Vec<Span>> {
    let mut lines = Lines { width: width.max(1), done: Vec::new(), line: Vec::new(), used: 0 };
    let mut word: Vec<Span> = Vec::new();
    for span in spans {
        for piece in pieces(&span.text) {
            if piece.starts_with(' ') {
                lines.word(&std::mem::take(&mut word));
                lines.blanks(piece, span.style);
            } else {
                word.push(Span::new(piece, span.style));
            }
        }
    }
    lines.word(&word);
    lines.end();
    lines.done
}

/// Breaks a text that must keep its blanks, such as code, wherever the width is full.
#[must_use]
pub fn chop(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for c in text.chars() {
        let more = cost(c);
        if used + more > width && used > 0 {
            lines.push(String::new());
            used = 0;
        }
        used += more;
        if let Some(line) = lines.last_mut() {
            line.push(c);
        }
    }
    lines
}

/// Words and the blanks between them.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let blank = rest.starts_with(' ');
        let end = rest.find(|c| (c == ' ') != blank).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

struct Lines {
    width: usize,
    done: Vec<Vec<Span>>,
    line: Vec<Span>,
    used: usize,
}

impl Lines {
    fn word(&mut self, word: &[Span]) {
        let wide = columns_of(word);
        if wide == 0 {
            return;
        }
        if self.used > 0 && self.used + wide > self.width && wide <= self.width {
            self.end();
        }
        if self.used + wide <= self.width {
            self.line.extend_from_slice(word);
            self.used += wide;
            return;
        }
        // Longer than a line, or writing without blanks: broken where the line is full.
        for span in word {
            for c in span.text.chars() {
                let more = cost(c);
                if self.used + more > self.width && self.used > 0 {
                    self.end();
                }
                self.used += more;
                match self.line.last_mut().filter(|last| last.style == span.style) {
                    Some(last) => last.text.push(c),
                    None => self.line.push(Span::new(c, span.style)),
                }
            }
        }
    }

    fn blanks(&mut self, blanks: &str, style: Style) {
        if self.used > 0 && self.used + blanks.len() < self.width {
            self.line.push(Span::new(blanks, style));
            self.used += blanks.len();
        } else if self.used > 0 {
            self.end();
        }
    }

    fn end(&mut self) {
        while self.line.last().is_some_and(|last| last.text.trim_end_matches(' ').is_empty()) {
            self.line.pop();
        }
        if !self.line.is_empty() {
            self.done.push(std::mem::take(&mut self.line));
        }
        self.used = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(text: &str, width: usize) -> Vec<String> {
        let join = |line: Vec<Span>| line.into_iter().map(|span| span.text).collect();
        wrap(&[Span::new(text, Style::new())], width).into_iter().map(join).collect()
    }

    #[test]
    fn lines_break_between_words_and_never_pass_the_width() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("one two three", 8), ["one two", "three"]);
        assert_eq!(wrapped("abcdefghij kl", 4), ["abcd", "efgh", "ij", "kl"]);
        assert_eq!(wrapped("日本語のとても長い文", 8), ["日本語の", "とても長", "い文"]);
        assert_eq!(wrapped("", 8), Vec::<String>::new());
    }

    #[test]
    fn a_word_of_several_styles_stays_together() {
        let spans =
            [Span::new("aa bb", Style::new()), Span::new("cc", Style::new().bold()), Span::new(".", Style::new())];
        let lines = wrap(&spans, 7);
        assert_eq!(lines.len(), 2);
        assert_eq!(columns_of(&lines[1]), 5);
    }

    #[test]
    fn code_keeps_its_blanks() {
        assert_eq!(chop("    if x", 6), ["    if", " x"]);
        assert_eq!(chop("", 6), [""]);
    }
}
