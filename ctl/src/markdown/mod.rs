//! Markdown as lines for a terminal: finished lines, each within the width, with no control but our own styles.

mod look;
mod table;
mod wrap;
mod writer;

use pulldown_cmark::{Event, Options, Parser};

pub use look::Look;
pub use wrap::{Span, chop, columns, wrap};

/// The narrowest width that is rendered for; a terminal that is narrower wraps by itself.
pub const NARROWEST: usize = 20;

fn parser(source: &str) -> Parser<'_> {
    Parser::new_ext(source, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS)
}

/// Renders a text. Nothing is fetched; links and images show their target; HTML is shown as it is written.
#[must_use]
pub fn render(source: &str, width: usize, look: Look) -> Vec<String> {
    let mut writer = writer::Writer::new(width.max(NARROWEST), look);
    for event in parser(source) {
        writer.event(event);
    }
    writer.finish()
}

/// Where the last block of a growing text begins: what stands before it will not change any more, but for links whose
/// definitions are yet to come. Only whole lines count, for half a line can look like the beginning of another block.
#[must_use]
pub fn last_block(source: &str) -> usize {
    let whole = source.rfind('\n').map_or(0, |end| end + 1);
    let mut depth = 0_usize;
    let mut start = 0;
    for (event, range) in parser(&source[..whole]).into_offset_iter() {
        if depth == 0 && !matches!(event, Event::End(_)) {
            start = range.start;
        }
        match event {
            Event::Start(_) => depth += 1,
            Event::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    // A block's range may leave out its indent, which belongs to it.
    source[..start].rfind('\n').map_or(0, |end| end + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn plain(source: &str, width: usize) -> String {
        render(source, width, Look::Plain).join("\n")
    }

    #[test]
    fn headings_lists_code_quotes_and_emphasis_are_readable_without_colour() {
        let source = "# Title\nSome *soft* and **strong** `code`.\n\n- one\n- two\n  - inner\n\n3. three\n4. four\n\n\
                      > wise\n\n```rust\nfn main() {\n\tx();\n}\n```\n\n---\n";
        let seen = "# Title\n\nSome *soft* and **strong** `code`.\n\n• one\n• two\n  • inner\n\n3. three\n4. four\n\n\
                    │ wise\n\n  │ fn main() {\n  │     x();\n  │ }\n\n────────";
        let text = plain(source, 40);
        assert!(text.starts_with(seen), "{text}");
    }

    #[test]
    fn colours_take_the_place_of_marks() {
        let text = render("# Title\n**strong** `code`", 40, Look::Colour).join("\n");
        assert!(
            text.contains("\x1b[1m") && !text.contains('#') && !text.contains('`') && !text.contains('*'),
            "{text}"
        );
        assert_eq!(anstream::adapter::strip_str(&text).to_string(), "Title\n\nstrong code");
    }

    #[test]
    fn links_and_images_show_where_they_lead_and_html_is_only_shown() {
        assert_eq!(plain("[bank](http://evil.example/x)", 80), "bank (http://evil.example/x)");
        assert_eq!(plain("<http://a.example>", 80), "http://a.example");
        assert_eq!(plain("![x](http://evil.example/?leak)", 80), "[image: x] (http://evil.example/?leak)");
        assert_eq!(plain("[r][1]\n\n[1]: http://a.example", 80), "r (http://a.example)");
        assert_eq!(plain("<img src=http://evil.example>", 80), "<img src=http://evil.example>");
    }

    #[test]
    fn a_task_list_shows_what_is_done() {
        assert_eq!(plain("- [x] a\n- [ ] b", 80), "• [x] a\n• [ ] b");
    }

    #[test]
    fn line_ends_within_a_paragraph_stay() {
        assert_eq!(plain("roses\nviolets\n\nend", 80), "roses\nviolets\n\nend");
    }

    #[test]
    fn long_lines_wrap_below_their_own_beginning() {
        assert_eq!(plain("- one two three four five", 20), "• one two three four\n  five");
        assert_eq!(plain("> one two three four five", 20), "│ one two three four\n│ five");
        assert_eq!(plain("    12345678901234567890", 20), "  │ 1234567890123456\n  │ 7890");
    }

    #[test]
    fn a_character_written_as_an_entity_is_no_way_round_the_filter() {
        let text = plain("&#27;[31m &#x9b;x &#x202e; &#7; [a](http://x&#27;]0;t&#7;)", 80);
        assert!(!text.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}'), "{text:?}");
    }

    #[test]
    fn only_the_last_block_is_open() {
        for (source, start) in [
            ("one", 0),
            ("one\n\ntwo", 0),
            ("one\n\ntwo\n", 5),
            ("one\n\n- a\n- b\n\n  c\n", 5),
            ("```\na\n\nb\n", 0),
            ("para\n#", 0),
            ("a\n\n    code\n", 3),
            ("a\n\n---\n", 3),
        ] {
            assert_eq!(last_block(source), start, "{source:?}");
        }
    }

    /// Every control of a rendered text, our own styles taken out.
    fn acts(line: &str) -> bool {
        let mut rest = line;
        while let Some(at) = rest.find('\x1b') {
            if rest[..at].chars().any(|c| !crate::talk::safe::is_seen(c) || c == '\n') {
                return true;
            }
            let after = &rest[at + 1..];
            let ours = after.strip_prefix('[').and_then(|text| text.split_once('m')).filter(|(codes, _)| {
                codes.len() <= 12 && codes.bytes().all(|byte| byte.is_ascii_digit() || byte == b';')
            });
            let Some((_, next)) = ours else { return true };
            rest = next;
        }
        rest.chars().any(|c| !crate::talk::safe::is_seen(c) || c == '\n')
    }

    fn check(source: &str, width: usize) {
        for look in [Look::Plain, Look::Colour] {
            for line in render(source, width, look) {
                assert!(!acts(&line), "{line:?} of {source:?}");
                let bare = anstream::adapter::strip_str(&line).to_string();
                assert!(columns(&bare) <= width.max(NARROWEST), "{bare:?} is wider than {width}: {source:?}");
                if look == Look::Plain {
                    assert!(!line.contains('\x1b'), "{line:?}");
                }
            }
        }
        let start = last_block(source);
        assert!(source.is_char_boundary(start));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]
        #[test]
        fn no_text_whatever_leaves_a_control_or_a_line_over_the_width(source: String, width in 1_usize..90) {
            check(&source, width);
        }

        #[test]
        fn no_markdown_leaves_a_control_or_a_line_over_the_width(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "# ", "- ", "1. ", "999999999. ", "> ", "    ", "```", "\n", "\n\n", "|", "-|-", "a|b", "**", "_", "`", "~~",
                "[x](", ")", "![", "]", "<", ">", "http://a.example", "&#27;", "&#x9b;", "&#10;", "&#9;", "\x1b]0;x\x07",
                "\x1b[2J", "\u{9b}31m", "\u{202e}", "\r", "\t", "日本", "word ", "word", "👩‍🚀", "---", "===", "[ ] ", "&nbsp;",
                "\\", "\0", "e\u{301}", "*\u{fe0f}", "[a]: ", "\u{7f}",
            ]), 0..40),
            width in 1_usize..90,
        ) {
            check(&pieces.concat(), width);
        }

        #[test]
        fn what_stands_before_the_last_block_stays_as_it_was(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "# ", "- ", "1. ", "> ", "    ", "```", "\n", "\n\n", "| a | b |\n|---|---|\n", "**", "`", "word ", "---\n", "===\n", "  ",
                "[a][b]", "<b>", "<!--", "-->",
            ]), 0..30),
        ) {
            // Blocks that are finished render alone as they do together with all that follows.
            let source = pieces.concat();
            let whole = render(&source, 60, Look::Plain);
            let starts: std::collections::BTreeSet<_> =
                source.char_indices().map(|(end, _)| last_block(&source[..end])).collect();
            for start in starts {
                prop_assert!(start <= last_block(&source));
                let mut apart = render(&source[..start], 60, Look::Plain);
                let rest = render(&source[start..], 60, Look::Plain);
                if !apart.is_empty() && !rest.is_empty() {
                    apart.push(String::new());
                }
                apart.extend(rest);
                prop_assert_eq!(&apart, &whole, "{:?} at {}", source, start);
            }
        }
    }
}
