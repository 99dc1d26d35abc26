//! Tables: columns as wide as they must be, cells wrapped where the terminal is narrower.

use pulldown_cmark::Alignment;

use super::look::{self, Look};
use super::wrap::{Span, columns_of, wrap};

/// A column that is narrower than this is no column: the rows are shown one below the other then.
const LEAST: usize = 4;
const BETWEEN: &str = " │ ";
/// Columns of [`BETWEEN`].
const GAP: usize = 3;

/// A table as it is read. The first row is the header.
#[derive(Debug, Default)]
pub struct Table {
    /// How columns are aligned.
    pub alignments: Vec<Alignment>,
    /// Cells of each row.
    pub rows: Vec<Vec<Vec<Span>>>,
}

impl Table {
    /// The table as lines within the width.
    #[must_use]
    pub fn lines(&self, width: usize, look: Look) -> Vec<String> {
        let count = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        match self.widths(count, width) {
            Some(widths) => self.grid(&widths, look),
            None => self.stack(width, look),
        }
    }

    /// The width of each column, or none when they do not fit.
    fn widths(&self, count: usize, width: usize) -> Option<Vec<usize>> {
        let mut widths = vec![1; count];
        for row in &self.rows {
            for (cell, widest) in row.iter().zip(&mut widths) {
                *widest = columns_of(cell).max(*widest);
            }
        }
        let room = width.checked_sub(GAP * count.saturating_sub(1))?;
        let mut over = widths.iter().sum::<usize>().saturating_sub(room);
        while over > 0 {
            // The widest column gives, down to the next one, so that short columns stay whole.
            let widest = widths.iter().copied().max().filter(|widest| *widest > LEAST)?;
            let next = widths.iter().copied().filter(|other| *other < widest).max().unwrap_or(LEAST).max(LEAST);
            for one in widths.iter_mut().filter(|one| **one == widest) {
                let less = (widest - next).min(over).min(widest - LEAST);
                *one -= less;
                over -= less;
            }
        }
        Some(widths)
    }

    fn grid(&self, widths: &[usize], look: Look) -> Vec<String> {
        let mut lines = Vec::new();
        for (index, row) in self.rows.iter().enumerate() {
            let cells: Vec<_> = widths
                .iter()
                .enumerate()
                .map(|(at, width)| row.get(at).map_or_else(Vec::new, |cell| wrap(cell, *width)))
                .collect();
            let height = cells.iter().map(Vec::len).max().unwrap_or_default().max(1);
            for below in 0..height {
                let mut line = String::new();
                for (at, (cell, width)) in cells.iter().zip(widths).enumerate() {
                    if at > 0 {
                        line.push_str(&look.paint(BETWEEN, look::DIM));
                    }
                    let none = Vec::new();
                    let spans = cell.get(below).unwrap_or(&none);
                    let blank = width.saturating_sub(columns_of(spans));
                    let left = match self.alignments.get(at) {
                        Some(Alignment::Right) => blank,
                        Some(Alignment::Center) => blank / 2,
                        _ => 0,
                    };
                    line.push_str(&" ".repeat(left));
                    for span in spans {
                        let style = if index == 0 {
                            look::with(span.style, look::DIM.effects(anstyle::Effects::BOLD))
                        } else {
                            span.style
                        };
                        line.push_str(&look.paint(&span.text, style));
                    }
                    line.push_str(&" ".repeat(blank - left));
                }
                lines.push(line.trim_end().to_owned());
            }
            if index == 0 {
                let rule: Vec<_> = widths.iter().map(|width| "─".repeat(*width)).collect();
                lines.push(look.paint(&rule.join("─┼─"), look::DIM));
            }
        }
        lines
    }

    /// Rows one below the other, each value behind the name of its column.
    fn stack(&self, width: usize, look: Look) -> Vec<String> {
        let mut lines = Vec::new();
        let Some((header, rows)) = self.rows.split_first() else { return lines };
        for (index, row) in rows.iter().enumerate() {
            if index > 0 {
                lines.push(String::new());
            }
            for (at, cell) in row.iter().enumerate() {
                let mut spans: Vec<_> = header.get(at).cloned().unwrap_or_default();
                spans.iter_mut().for_each(|span| span.style = span.style.bold());
                spans.push(Span::new(": ", anstyle::Style::new()));
                spans.extend(cell.iter().cloned());
                for line in wrap(&spans, width) {
                    lines.push(line.iter().map(|span| look.paint(&span.text, span.style)).collect());
                }
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use crate::markdown::{Look, render};

    const SOURCE: &str =
        "| Name | Count | Remark |\n|:--|--:|---|\n| apple | 3 | a red one |\n| kiwi | 12 | `green` and **soft** |\n";

    #[test]
    fn columns_align_and_shrink_where_there_is_no_room() {
        let text = render(SOURCE, 60, Look::Plain).join("\n");
        assert_eq!(
            text,
            "Name  │ Count │ Remark\n──────┼───────┼─────────────────────\napple │     3 │ a red one\n\
             kiwi  │    12 │ `green` and **soft**"
        );
        let text = render(SOURCE, 26, Look::Plain).join("\n");
        assert!(text.contains("apple │     3 │ a red one\nkiwi  │    12 │ `green`"), "{text}");
    }

    #[test]
    fn a_table_with_too_many_columns_is_a_list_of_values() {
        let head = "|a".repeat(12);
        let source = format!("{head}|\n{}|\n{}|\n", "|-".repeat(12), "|some value".repeat(12));
        let text = render(&source, 40, Look::Plain).join("\n");
        assert!(text.starts_with("a: some value\na: some value"), "{text}");
    }
}
