//! How Markdown looks: with colours, or with its own marks where there are none.

use anstyle::{AnsiColor, Style};

/// With colours or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Styles of the terminal.
    Colour,
    /// Letters only; the marks of Markdown stay where they say something.
    Plain,
}

/// Gutters, rules, targets of links: there, but not in the way.
pub const DIM: Style = Style::new().dimmed();
/// Code within a line.
pub const CODE: Style = AnsiColor::Cyan.on_default();
/// Where a link leads.
pub const TARGET: Style = AnsiColor::Blue.on_default().underline();

impl Look {
    /// What standard output wants.
    #[must_use]
    pub fn detect() -> Self {
        match anstream::AutoStream::choice(&std::io::stdout()) {
            anstream::ColorChoice::Never => Self::Plain,
            _ => Self::Colour,
        }
    }

    /// The style of a heading.
    #[must_use]
    pub fn heading(self, level: usize) -> Style {
        match level {
            1 => AnsiColor::Magenta.on_default().bold().underline(),
            2 => AnsiColor::Magenta.on_default().bold(),
            _ => Style::new().bold(),
        }
    }

    /// A mark that only stands where there are no colours.
    #[must_use]
    pub fn mark(self, mark: &'static str) -> &'static str {
        match self {
            Self::Colour => "",
            Self::Plain => mark,
        }
    }

    /// A text in a style.
    #[must_use]
    pub fn paint(self, text: &str, style: Style) -> String {
        if self == Self::Plain || style.is_plain() || text.is_empty() {
            return text.to_owned();
        }
        format!("{style}{text}{style:#}")
    }
}

/// A style with what another one adds.
#[must_use]
pub fn with(below: Style, above: Style) -> Style {
    let effects = below.get_effects() | above.get_effects();
    let colour = above.get_fg_color().or_else(|| below.get_fg_color());
    Style::new().fg_color(colour).effects(effects)
}
