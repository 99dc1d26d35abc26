//! The lower end of a terminal: finished lines scroll away, open ones are painted again when they change.

use std::io::Write;

use crate::markdown::{self, Look};

/// Columns where the terminal does not say.
const COLUMNS: usize = 80;
/// Rows where the terminal does not say.
const ROWS: usize = 24;

/// A terminal whose last lines are ours.
pub struct Screen {
    out: Box<dyn Write>,
    look: Look,
    /// Whether the cursor can be moved; without that lines are only added.
    moves: bool,
    size: Box<dyn Fn() -> (usize, usize)>,
    painted: Vec<String>,
}

impl Screen {
    /// The terminal on standard output.
    #[must_use]
    pub fn detect() -> Self {
        let moves = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        Self {
            out: Box::new(std::io::stdout()),
            look: Look::detect(),
            moves,
            size: Box::new(size),
            painted: Vec::new(),
        }
    }

    /// With colours or without.
    #[must_use]
    pub fn look(&self) -> Look {
        self.look
    }

    /// Columns at this moment. The last one stays free: what is written there makes some terminals wrap.
    #[must_use]
    pub fn width(&self) -> usize {
        (self.size)().0.saturating_sub(1).max(markdown::NARROWEST)
    }

    /// Whether lines can be painted again.
    #[must_use]
    pub fn moves(&self) -> bool {
        self.moves
    }

    /// Adds lines that are finished, and below them shows those that may still change.
    pub fn paint(&mut self, finished: Vec<String>, open: Vec<String>) {
        let count = finished.len();
        let mut all = finished;
        if self.moves {
            all.extend(open);
        }
        let (columns, rows) = (self.size)();
        // What has left the screen at its top cannot be painted again.
        let reach = self.reach(columns, rows);
        let same = self.painted.iter().zip(&all).take_while(|(old, new)| old == new).count().max(reach).min(all.len());
        let mut text = String::new();
        if same < self.painted.len() {
            let up: usize = self.painted.iter().skip(same).map(|line| height(line, columns)).sum();
            text.push_str(&format!("\x1b[{up}A\r\x1b[J"));
        }
        for line in all.iter().skip(same) {
            text.push_str(line);
            text.push('\n');
        }
        self.painted = all.split_off(count.min(all.len()));
        if !text.is_empty() {
            // Shown at once where the terminal knows how; others do not mind.
            let text = if self.moves { format!("\x1b[?2026h{text}\x1b[?2026l") } else { text };
            // A terminal that is gone ends the program by its signal.
            let _ = self.out.write_all(text.as_bytes());
            let _ = self.out.flush();
        }
    }

    /// The first painted line that is still on the screen.
    fn reach(&self, columns: usize, rows: usize) -> usize {
        let mut room = rows.saturating_sub(1);
        let kept = self.painted.iter().rev().take_while(|line| {
            let height = height(line, columns);
            let fits = height <= room;
            room = room.saturating_sub(height);
            fits
        });
        self.painted.len() - kept.count()
    }
}

/// Rows that a line takes; more than one after the terminal became narrower.
fn height(line: &str, columns: usize) -> usize {
    markdown::columns(&anstream::adapter::strip_str(line).to_string()).div_ceil(columns.max(1)).max(1)
}

fn size() -> (usize, usize) {
    match terminal_size::terminal_size_of(std::io::stdout()) {
        Some((columns, rows)) if columns.0 > 0 && rows.0 > 0 => (usize::from(columns.0), usize::from(rows.0)),
        _ => (COLUMNS, ROWS),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    #[derive(Clone, Default)]
    struct Shared(Rc<RefCell<Vec<u8>>>);
    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    struct Test {
        screen: Screen,
        out: Shared,
        size: Rc<Cell<(usize, usize)>>,
    }

    fn test(moves: bool) -> Test {
        let (out, size) = (Shared::default(), Rc::new(Cell::new((80, 24))));
        let asked = Rc::clone(&size);
        let screen = Screen {
            out: Box::new(out.clone()),
            look: Look::Plain,
            moves,
            size: Box::new(move || asked.get()),
            painted: Vec::new(),
        };
        Test { screen, out, size }
    }

    impl Test {
        fn paint(&mut self, finished: &[&str], open: &[&str]) -> String {
            let own = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
            self.screen.paint(own(finished), own(open));
            let text = String::from_utf8(std::mem::take(&mut *self.out.0.borrow_mut())).unwrap();
            text.replace("\x1b[?2026h", "").replace("\x1b[?2026l", "")
        }
    }

    #[test]
    fn only_lines_that_changed_are_painted_again() {
        let mut test = test(true);
        assert_eq!(test.paint(&[], &["one", "tw"]), "one\ntw\n");
        assert_eq!(test.paint(&[], &["one", "two"]), "\x1b[1A\r\x1b[Jtwo\n");
        assert_eq!(test.paint(&[], &["one", "two"]), "");
        assert_eq!(test.paint(&["one", "two", ""], &["three"]), "\nthree\n");
        assert_eq!(test.paint(&[], &[]), "\x1b[1A\r\x1b[J");
    }

    #[test]
    fn what_has_left_the_screen_is_left_alone() {
        let mut test = test(true);
        test.size.set((80, 3));
        test.paint(&[], &["a", "b", "c"]);
        assert_eq!(test.paint(&[], &["x", "y", "z"]), "\x1b[2A\r\x1b[Jy\nz\n");
    }

    #[test]
    fn a_terminal_that_became_narrower_has_wrapped_what_was_there() {
        let mut test = test(true);
        test.paint(&[], &[&"a".repeat(60)]);
        test.size.set((40, 24));
        assert_eq!(test.paint(&[], &["short"]), "\x1b[2A\r\x1b[Jshort\n");
    }

    #[test]
    fn a_terminal_without_cursor_movement_gets_each_line_once() {
        let mut test = test(false);
        assert_eq!(test.paint(&[], &["one"]), "");
        assert_eq!(test.paint(&["one"], &["two"]), "one\n");
        assert_eq!(test.paint(&["two"], &[]), "two\n");
    }
}
