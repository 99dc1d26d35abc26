//! Walks the parsed file key by key, turns what it finds into values, and notes every mistake with its line.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::{Mistake, Mistakes};
use super::value::Value;

/// What has been seen of a file so far: the line of each key, and the mistakes.
pub(super) struct Reader<'a> {
    file: &'a Path,
    line_starts: Vec<usize>,
    lines: RefCell<BTreeMap<String, usize>>,
    mistakes: RefCell<Vec<Mistake>>,
    broken_lines: BTreeSet<usize>,
}

impl<'a> Reader<'a> {
    /// Parses `text`; syntax errors are noted, and what can be read around them is given for the walk.
    pub(super) fn parse(file: &'a Path, text: &'a str) -> (Self, Spanned<DeTable<'a>>) {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0).chain(ends.map(|(index, _)| index + 1)).collect();
        let mut reader = Self {
            file,
            line_starts,
            lines: RefCell::default(),
            mistakes: RefCell::default(),
            broken_lines: BTreeSet::new(),
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let line = error.span().map(|span| reader.line_of(span.start));
            if line.is_none_or(|line| reader.broken_lines.insert(line)) {
                reader.note(line, String::new(), format!("not TOML: {}", error.message()));
            }
        }
        (reader, table)
    }

    /// The section of the whole file.
    pub(super) fn root(&'a self, table: &'a DeTable<'a>) -> Section<'a> {
        Section { reader: self, path: String::new(), table: Some(table) }
    }

    /// Notes a broken rule at the first of its keys that the file has. A rule whose keys have mistakes of their own is
    /// passed over: it speaks of values that nobody wrote.
    pub(super) fn broken_rule(&self, keys: &[String], problem: String) {
        let within =
            |path: &str, key: &str| path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        if self.mistakes.borrow().iter().any(|mistake| keys.iter().any(|key| within(&mistake.key, key))) {
            return;
        }
        let found = keys.iter().find_map(|key| Some((key, *self.lines.borrow().get(key)?)));
        let (line, key) = match found {
            Some((key, line)) => (Some(line), key.clone()),
            None => (None, keys.first().cloned().unwrap_or_default()),
        };
        self.note(line, key, problem);
    }

    /// The mistakes, or nothing.
    pub(super) fn finish(self) -> Result<(), Mistakes> {
        Mistakes::check(self.mistakes.into_inner())
    }

    fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    fn note(&self, line: Option<usize>, key: String, problem: String) {
        self.mistakes.borrow_mut().push(Mistake { file: self.file.to_owned(), line, key, problem });
    }
}

/// A table of the file, or the place where it would be.
pub(super) struct Section<'a> {
    reader: &'a Reader<'a>,
    path: String,
    table: Option<&'a DeTable<'a>>,
}

impl<'a> Section<'a> {
    /// The value of a key, or `default` when the file does not have it or it is wrong.
    pub(super) fn value<T: Value>(&self, key: &str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// The same for a key with a range.
    pub(super) fn value_in<T: Value + PartialOrd>(&self, key: &str, default: T, range: &RangeInclusive<T>) -> T {
        self.optional_in(key, range).unwrap_or(default)
    }

    /// The value of a key if the file has it and it is right.
    pub(super) fn optional<T: Value>(&self, key: &str) -> Option<T> {
        let found = self.find(key)?;
        let value = T::read(found.get_ref());
        if value.is_none() {
            self.mistake(key, format!("expected {}", T::EXPECTED));
        }
        value
    }

    /// The same for a key with a range.
    pub(super) fn optional_in<T: Value + PartialOrd>(&self, key: &str, range: &RangeInclusive<T>) -> Option<T> {
        let value = self.optional::<T>(key)?;
        if range.contains(&value) {
            return Some(value);
        }
        let (low, high) = (range.start().show(), range.end().show());
        self.mistake(key, format!("{} is out of range: {low} to {high} is allowed", value.show()));
        None
    }

    /// Notes a key that must be there and is not.
    pub(super) fn missing(&self, key: &str, expected: &str) {
        let path = self.path_of(key);
        let line = self.reader.lines.borrow().get(&self.path).copied();
        self.reader.note(line, path, format!("missing; expected {expected}"));
    }

    /// Notes a mistake of a key.
    pub(super) fn mistake(&self, key: &str, problem: String) {
        let path = self.path_of(key);
        let line = self.find(key).and_then(|_| self.reader.lines.borrow().get(&path).copied());
        if !line.is_some_and(|line| self.reader.broken_lines.contains(&line)) {
            self.reader.note(line, path, problem);
        }
    }

    /// Whether the file has this key here.
    pub(super) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// The section inside this one.
    pub(super) fn section(&self, key: &str) -> Section<'a> {
        let found = self.find(key);
        let table = found.and_then(|value| value.get_ref().as_table());
        if found.is_some() && table.is_none() {
            self.mistake(key, format!("expected a section: write [{}] and its keys below", self.path_of(key)));
        }
        Section { reader: self.reader, path: self.path_of(key), table }
    }

    /// The names of all keys that the file has here.
    pub(super) fn names(&self) -> Vec<&'a str> {
        self.table.into_iter().flatten().map(|(key, _)| &**key.get_ref()).collect()
    }

    /// Notes every key that is not among `known`.
    pub(super) fn finish(&self, known: &[&str]) {
        for name in self.names().into_iter().filter(|name| !known.contains(name)) {
            let problem = match (nearest(name, known), known) {
                (Some(near), _) => format!("unknown key; did you mean `{near}`?"),
                (None, []) => format!("unknown key; [{}] has none in this version", self.path),
                (None, _) => format!("unknown key; known are {}", known.join(", ")),
            };
            self.mistake(name, problem);
        }
    }

    fn find(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        let (name, value) = self.table?.get_key_value(key)?;
        let line = self.reader.line_of(name.span().start);
        self.reader.lines.borrow_mut().insert(self.path_of(key), line);
        Some(value)
    }

    fn path_of(&self, key: &str) -> String {
        let key = written(key);
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }
}

/// A key as a path of keys has it: between quotes where TOML wants them.
pub(super) fn written(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !key.is_empty() && key.bytes().all(plain) { key.to_owned() } else { format!("{key:?}") }
}

/// The known word that `word` most likely was meant to be.
fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let near = known.iter().map(|candidate| (distance(word, candidate), *candidate)).min()?;
    let starts = || known.iter().copied().find(|candidate| word.len() >= 4 && candidate.starts_with(word));
    if near.0 <= 1 + near.1.len() / 5 { Some(near.1) } else { starts() }
}

/// Insertions, removals and replacements between two words.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (index, from) in a.chars().enumerate() {
        let mut diagonal = index;
        row[0] = index + 1;
        for (column, to) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        let known = ["call_timeout", "create_timeout", "socket", "api_key_file"];
        assert_eq!(nearest("sockt", &known), Some("socket"));
        assert_eq!(nearest("call-timeout", &known), Some("call_timeout"));
        assert_eq!(nearest("api_key", &known), Some("api_key_file"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest("x", &[]), None);
    }

    #[test]
    fn distances_are_counted() {
        for (a, b, expected) in [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("ä", "a", 1)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn lines_are_counted_from_one() {
        let (reader, _) = Reader::parse(Path::new("f"), "a = 1\nb = 2\n");
        assert_eq!([0, 5, 6, 11, 12].map(|offset| reader.line_of(offset)), [1, 1, 2, 2, 3]);
    }
}
