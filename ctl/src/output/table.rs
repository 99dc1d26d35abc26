//! Tables without borders, and sheets of labelled values.

use comfy_table::{Cell, ColumnConstraint, ContentArrangement, Row, Table, presets};

use super::{style, text};

/// One value of a row with the colour it is shown in.
pub struct Field {
    text: String,
    colour: Option<anstyle::Style>,
}

impl Field {
    /// A value without colour; whatever could command a terminal is taken out.
    #[must_use]
    pub fn plain(value: &str) -> Self {
        Self { text: text::line(value), colour: None }
    }

    /// A value in a colour.
    #[must_use]
    pub fn coloured(value: &str, colour: anstyle::Style) -> Self {
        Self { text: text::line(value), colour: Some(colour) }
    }

    fn cell(self) -> Cell {
        let cell = Cell::new_owned(self.text);
        let Some(style) = self.colour else { return cell };
        let mut cell = match style.get_fg_color() {
            Some(anstyle::Color::Ansi(colour)) => cell.fg(foreground(colour)),
            _ => cell,
        };
        for (effect, attribute) in [
            (anstyle::Effects::BOLD, comfy_table::Attribute::Bold),
            (anstyle::Effects::DIMMED, comfy_table::Attribute::Dim),
        ] {
            if style.get_effects().contains(effect) {
                cell = cell.add_attribute(attribute);
            }
        }
        cell
    }
}

fn foreground(colour: anstyle::AnsiColor) -> comfy_table::Color {
    match colour {
        anstyle::AnsiColor::Green => comfy_table::Color::DarkGreen,
        anstyle::AnsiColor::Yellow => comfy_table::Color::DarkYellow,
        anstyle::AnsiColor::Red => comfy_table::Color::DarkRed,
        anstyle::AnsiColor::Cyan => comfy_table::Color::DarkCyan,
        _ => comfy_table::Color::Reset,
    }
}

/// How a column takes part when the terminal is narrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// Never cut: a name or a number that somebody will copy.
    Whole,
    /// Cut with `…` where there is no room.
    Cut,
}

/// A table with a header. `width` is the terminal's width in columns, none where the reader is a program: then nothing
/// is cut.
#[must_use]
pub fn table(header: &[(&str, Width)], rows: Vec<Vec<Field>>, width: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_truncation_indicator("…").force_no_tty().enforce_styling();
    // Cells are coloured, the blanks that align them are not.
    table.style_text_only();
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    } else {
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    table.set_header(header.iter().map(|(name, _)| Cell::new(name)).collect::<Vec<_>>());
    for fields in rows {
        let mut row = Row::from(fields.into_iter().map(Field::cell).collect::<Vec<_>>());
        row.max_height(1);
        table.add_row(row);
    }
    let last = header.len().saturating_sub(1);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if index == last { 0 } else { 2 }));
        if header.get(index).is_some_and(|(_, width)| *width == Width::Whole) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A terminal that says it is narrower does not know its width.
const NARROWEST: u16 = 20;

/// The terminal's width where standard output is one.
#[must_use]
pub fn terminal_width() -> Option<u16> {
    Table::new().width().filter(|width| *width >= NARROWEST)
}

/// Labelled values, one per line, labels in one column. Further lines of a value stand below its first.
#[derive(Debug, Default)]
pub struct Sheet {
    lines: Vec<(String, String)>,
}

impl Sheet {
    /// Adds a value; an empty one is left out.
    #[must_use]
    pub fn with(mut self, label: &str, value: impl Into<String>) -> Self {
        let value = value.into();
        if !value.is_empty() {
            self.lines.push((label.to_owned(), value));
        }
        self
    }

    /// The sheet as text.
    #[must_use]
    pub fn render(&self) -> String {
        let width = self.lines.iter().map(|(label, _)| label.chars().count()).max().unwrap_or_default();
        let mut out = String::new();
        for (label, value) in &self.lines {
            let mut label = label.as_str();
            for line in value.lines() {
                out.push_str(&format!("{}{label:<width$}{:#}  {line}\n", style::LABEL, style::LABEL));
                label = "";
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    fn agents(width: Option<u16>) -> String {
        let header = [("NAME", Width::Whole), ("STATUS", Width::Cut), ("MODEL", Width::Cut), ("AGE", Width::Whole)];
        let row = |name: &str, status: &str, model: &str| {
            vec![Field::plain(name), Field::coloured(status, style::BAD), Field::plain(model), Field::plain("12m")]
        };
        let name = "a".repeat(40);
        plain(&table(
            &header,
            vec![
                row(&name, "crash_loop: out of memory, killed by the kernel", "anthropic/a-model-with-a-long-name"),
                row("helper", "running", "builtin/basic"),
            ],
            width,
        ))
    }

    #[test]
    fn a_table_fits_the_terminal_and_never_cuts_a_name() {
        let text = agents(Some(80));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains(&"a".repeat(40)) && text.contains('…') && text.contains("12m"), "{text}");
    }

    #[test]
    fn a_program_gets_every_value_whole() {
        let text = agents(None);
        assert!(text.contains("killed by the kernel") && text.contains("a-model-with-a-long-name"), "{text}");
        assert!(!text.contains('…'));
        assert!(text.lines().all(|line| line == line.trim_end()));
    }

    #[test]
    fn a_sheet_aligns_its_labels_and_leaves_out_what_is_empty() {
        let sheet = Sheet::default().with("a", "1").with("none", "").with("long", "x\ny");
        assert_eq!(plain(&sheet.render()), "a     1\nlong  x\n      y\n");
    }
}
