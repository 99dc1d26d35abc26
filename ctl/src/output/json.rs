//! Documents for programs: JSON and YAML.

use serde_json::Value;

use super::text;

/// A document as indented JSON with a line end. Characters that act on a terminal are written as `\u` escapes, so the
/// value stays what it was.
#[must_use]
pub fn json(document: &Value) -> String {
    // A `Value` has text keys only: writing it cannot fail.
    escaped(&serde_json::to_string_pretty(document).unwrap_or_default())
}

/// A document as one line of JSON with its line end.
#[must_use]
pub fn line(document: &Value) -> String {
    escaped(&document.to_string())
}

fn escaped(plain: &str) -> String {
    let units = |c: char| c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect();
    escaped_with(plain, units)
}

fn escaped_with(plain: &str, escape: impl Fn(char) -> String) -> String {
    let mut safe = String::with_capacity(plain.len() + 1);
    for c in plain.chars() {
        if c != '\n' && text::is_hidden(c) {
            safe.push_str(&escape(c));
        } else {
            safe.push(c);
        }
    }
    safe.push('\n');
    safe
}

/// A document as YAML.
#[must_use]
pub fn yaml(document: &Value) -> String {
    let plain = serde_yaml_ng::to_string(document).unwrap_or_default();
    if plain.chars().all(|c| c == '\n' || !text::is_hidden(c)) {
        return plain;
    }
    // JSON is YAML too, and there every character can be escaped; only that YAML knows no pairs of units.
    let plain = serde_json::to_string_pretty(document).unwrap_or_default();
    escaped_with(&plain, |c| match u32::from(c) {
        wide @ 0x1_0000.. => format!("\\U{wide:08x}"),
        short => format!("\\u{short:04x}"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json as value;

    #[test]
    fn a_document_reads_back_and_carries_nothing_that_acts_on_a_terminal() {
        let document =
            value!({"a": "x\u{1b}[31m\u{9b}\u{7f}\u{202e}\u{2028}\u{e0041}ä", "b": [1, null], "c": "two\nlines\ttab"});
        for text in [json(&document), yaml(&document)] {
            assert!(!text.chars().any(|c| c != '\n' && super::text::is_hidden(c)), "{text:?}");
        }
        assert_eq!(serde_yaml_ng::from_str::<Value>(&yaml(&document)).unwrap(), document);
        assert_eq!(serde_json::from_str::<Value>(&json(&document)).unwrap(), document);
    }

    #[test]
    fn ordinary_yaml_looks_like_yaml() {
        assert_eq!(yaml(&value!({"name": "helper"})), "name: helper\n");
    }
}
