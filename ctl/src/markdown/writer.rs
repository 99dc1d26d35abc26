//! Turns the events of a parsed text into lines.

use anstyle::Style;
use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Tag, TagEnd};

use super::look::{self, Look};
use super::table::Table;
use super::wrap::{Span, chop, columns, wrap};
use crate::talk::safe;

const TAB: &str = "    ";
const GUTTER: &str = "  │ ";
/// The longest rule in columns.
const RULE: usize = 72;

/// What stands before the lines of a block: before its first, and before the others.
#[derive(Debug)]
struct Prefix {
    first: Option<String>,
    rest: String,
}

/// Where a link leads, and where its text begins among the spans.
#[derive(Debug)]
struct Link {
    target: String,
    begins: usize,
    image: bool,
}

/// Builds lines.
#[derive(Debug)]
pub struct Writer {
    width: usize,
    look: Look,
    lines: Vec<String>,
    prefixes: Vec<Prefix>,
    spans: Vec<Span>,
    styles: Vec<Style>,
    lists: Vec<Option<u64>>,
    links: Vec<Link>,
    table: Option<Table>,
    code: Option<String>,
    gap: bool,
    /// A line that keeps the next block apart, written once that has a line.
    blank: Option<String>,
}

impl Writer {
    /// A writer for a width.
    #[must_use]
    pub fn new(width: usize, look: Look) -> Self {
        Self {
            width,
            look,
            lines: Vec::new(),
            prefixes: Vec::new(),
            spans: Vec::new(),
            styles: Vec::new(),
            lists: Vec::new(),
            links: Vec::new(),
            table: None,
            code: None,
            gap: false,
            blank: None,
        }
    }

    /// Takes the next event.
    pub fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => match &mut self.code {
                Some(code) => code.push_str(&text),
                None => self.text(&text, Style::new()),
            },
            Event::Code(text) => {
                let mark = self.look.mark("`");
                self.text(&format!("{mark}{text}{mark}"), look::CODE);
            }
            Event::Html(text) => {
                self.text(text.trim_end_matches('\n'), look::DIM);
                self.flush();
            }
            Event::InlineHtml(text) => self.text(&text, look::DIM),
            Event::SoftBreak | Event::HardBreak if self.table.is_none() => self.flush(),
            Event::SoftBreak | Event::HardBreak => self.text(" ", Style::new()),
            Event::Rule => {
                self.open();
                let rule = "─".repeat(self.room().min(RULE));
                self.line(&self.look.paint(&rule, look::DIM));
                self.gap = true;
            }
            Event::TaskListMarker(done) => self.text(if done { "[x] " } else { "[ ] " }, Style::new()),
            Event::InlineMath(text) | Event::DisplayMath(text) | Event::FootnoteReference(text) => {
                self.text(&text, Style::new());
            }
        }
    }

    /// The lines.
    #[must_use]
    pub fn finish(mut self) -> Vec<String> {
        self.flush();
        self.lines
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Heading { level, .. } => {
                self.open();
                let level = depth(level);
                self.styles.push(self.look.heading(level));
                let mark = self.look.mark("######");
                self.text(mark.get(..level).unwrap_or_default(), Style::new());
                self.text(self.look.mark(" "), Style::new());
            }
            Tag::BlockQuote(_) => {
                self.open();
                let bar = self.look.paint("│", look::DIM) + " ";
                self.prefix(Some(bar.clone()), bar);
            }
            Tag::CodeBlock(CodeBlockKind::Indented | CodeBlockKind::Fenced(_)) => {
                self.open();
                self.code = Some(String::new());
            }
            Tag::List(first) => {
                self.flush();
                // A list within an item stands right below the item's words.
                self.gap &= self.lists.is_empty();
                self.open();
                self.lists.push(first);
            }
            Tag::Item => {
                self.flush();
                self.gap = false;
                let mark = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        *number = number.saturating_add(1);
                        format!("{}. ", number.saturating_sub(1))
                    }
                    _ => "• ".to_owned(),
                };
                let blank = " ".repeat(columns(&mark));
                self.prefix(Some(mark), blank);
            }
            Tag::Table(alignments) => {
                self.open();
                self.table = Some(Table { alignments, rows: Vec::new() });
            }
            Tag::TableHead | Tag::TableRow => {
                if let Some(table) = &mut self.table {
                    table.rows.push(Vec::new());
                }
            }
            Tag::Emphasis => self.emphasis("*", Style::new().italic()),
            Tag::Strong => self.emphasis("**", Style::new().bold()),
            Tag::Strikethrough => self.emphasis("~~", Style::new().strikethrough()),
            Tag::Link { dest_url, .. } => self.link(&dest_url, false),
            Tag::Image { dest_url, .. } => {
                self.link(&dest_url, true);
                self.text("[image: ", Style::new());
            }
            Tag::Paragraph | Tag::HtmlBlock => self.open(),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Paragraph | TagEnd::HtmlBlock => self.close(),
            TagEnd::Heading(_) => {
                self.close();
                self.styles.pop();
            }
            TagEnd::BlockQuote(_) => {
                self.close();
                self.prefixes.pop();
            }
            TagEnd::CodeBlock => {
                let code = self.code.take().unwrap_or_default();
                self.block(&code);
            }
            TagEnd::List(_) => {
                self.close();
                self.lists.pop();
            }
            TagEnd::Item => {
                // An item without words still has its mark.
                if self.spans.is_empty() && self.prefixes.last().is_some_and(|prefix| prefix.first.is_some()) {
                    self.line("");
                }
                self.close();
                self.prefixes.pop();
            }
            TagEnd::Table => {
                if let Some(table) = self.table.take() {
                    for line in table.lines(self.room(), self.look) {
                        self.line(&line);
                    }
                    self.gap = true;
                }
            }
            TagEnd::TableCell => {
                let cell = std::mem::take(&mut self.spans);
                if let Some(row) = self.table.as_mut().and_then(|table| table.rows.last_mut()) {
                    row.push(cell);
                }
            }
            TagEnd::Emphasis => self.emphasis_ends("*"),
            TagEnd::Strong => self.emphasis_ends("**"),
            TagEnd::Strikethrough => self.emphasis_ends("~~"),
            TagEnd::Link | TagEnd::Image => self.link_ends(),
            _ => {}
        }
    }

    fn emphasis(&mut self, mark: &'static str, style: Style) {
        self.styles.push(style);
        self.text(self.look.mark(mark), Style::new());
    }

    fn emphasis_ends(&mut self, mark: &'static str) {
        self.text(self.look.mark(mark), Style::new());
        self.styles.pop();
    }

    fn link(&mut self, target: &str, image: bool) {
        let target = target.chars().filter(|c| safe::is_seen(*c) && *c != '\n' && *c != '\t').collect();
        self.links.push(Link { target, begins: self.spans.len(), image });
    }

    fn link_ends(&mut self) {
        let Some(link) = self.links.pop() else { return };
        if link.image {
            self.text("]", Style::new());
        }
        // Spans may have gone to a line by now: then the whole target is shown, which is never wrong.
        let shown: String = self.spans.iter().skip(link.begins).map(|span| span.text.as_str()).collect();
        let same = shown == link.target || link.target.strip_prefix("mailto:") == Some(shown.as_str());
        if !same && !link.target.is_empty() {
            self.text(" (", Style::new());
            self.text(&link.target, look::TARGET);
            self.text(")", Style::new());
        }
    }

    /// Words within the block.
    fn text(&mut self, text: &str, style: Style) {
        let style = self.styles.iter().fold(style, |above, below| look::with(*below, above));
        for (index, part) in text.split('\n').enumerate() {
            if index > 0 && self.table.is_none() {
                self.flush();
            }
            let part: String = part.replace('\t', TAB).chars().filter(|c| safe::is_seen(*c)).collect();
            if !part.is_empty() {
                self.spans.push(Span::new(part, style));
            }
        }
    }

    /// Code, with its gutter.
    fn block(&mut self, code: &str) {
        let room = self.room().saturating_sub(columns(GUTTER)).max(1);
        let gutter = self.look.paint(GUTTER.trim_end(), look::DIM);
        for line in code.trim_end_matches('\n').split('\n') {
            let line: String = line.replace('\t', TAB).chars().filter(|c| safe::is_seen(*c)).collect();
            for part in chop(&line, room) {
                self.line(format!("{gutter} {part}").trim_end());
            }
        }
        self.gap = true;
    }

    /// A block begins.
    fn open(&mut self) {
        self.flush();
        if std::mem::take(&mut self.gap) && !self.lines.is_empty() {
            let blank: String = self.prefixes.iter().map(|prefix| prefix.rest.as_str()).collect();
            // A block without a line does not stand apart: the one around it does.
            let around = self.blank.take().filter(|around| around.len() <= blank.len());
            self.blank = Some(around.unwrap_or(blank));
        }
    }

    /// A block of words ends.
    fn close(&mut self) {
        self.flush();
        self.gap = true;
    }

    /// Words that were gathered become lines.
    fn flush(&mut self) {
        if self.table.is_some() {
            return;
        }
        for line in wrap(&std::mem::take(&mut self.spans), self.room()) {
            let painted: String = line.iter().map(|span| self.look.paint(&span.text, span.style)).collect();
            self.line(&painted);
        }
    }

    /// One line, behind what stands before the lines of its blocks.
    fn line(&mut self, text: &str) {
        if let Some(blank) = self.blank.take() {
            self.lines.push(blank.trim_end().to_owned());
        }
        let mut line = String::new();
        for prefix in &mut self.prefixes {
            match prefix.first.take() {
                Some(first) => line.push_str(&first),
                None => line.push_str(&prefix.rest),
            }
        }
        line.push_str(text);
        self.lines.push(line.trim_end().to_owned());
    }

    /// Sets a block in. Where half of the width is gone already it is not set in any further.
    fn prefix(&mut self, first: Option<String>, rest: String) {
        let wide = |text: &str| columns(&anstream::adapter::strip_str(text).to_string());
        if self.width - self.room() + wide(&rest) > self.width / 2 {
            self.prefixes.push(Prefix { first: None, rest: String::new() });
        } else {
            self.prefixes.push(Prefix { first, rest });
        }
    }

    /// Columns that are left for words.
    fn room(&self) -> usize {
        let used: usize =
            self.prefixes.iter().map(|prefix| columns(&anstream::adapter::strip_str(&prefix.rest).to_string())).sum();
        self.width.saturating_sub(used).max(1)
    }
}

fn depth(level: HeadingLevel) -> usize {
    match level {
        HeadingLevel::H1 => 1,
        HeadingLevel::H2 => 2,
        HeadingLevel::H3 => 3,
        HeadingLevel::H4 => 4,
        HeadingLevel::H5 => 5,
        HeadingLevel::H6 => 6,
    }
}
