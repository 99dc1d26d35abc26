//! What a person wants of the builtin model, read from one message. Pure.

use std::time::Duration;

/// The highest number that is counted to.
pub(super) const MAX_COUNT: u32 = 1_000;
/// The longest pause between two numbers, in milliseconds.
pub(super) const MAX_PAUSE: u64 = 10_000;
/// The pause of `count slowly`.
const SLOWLY: Duration = Duration::from_millis(50);

/// A wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Want {
    Greeting,
    Help,
    Who,
    Thanks,
    Tools,
    Remember { key: String, value: String },
    Recall { key: String },
    Forget { key: String },
    Memories,
    SearchMemory { query: String },
    List { path: Option<String> },
    Read { path: String },
    Write { path: String, content: String },
    Append { path: String, content: String },
    Delete { path: String },
    Count { to: u32, pause: Duration },
    TooMuch,
    Unknown,
}

/// Reads a message.
pub(super) fn want(text: &str) -> Want {
    let text = text.trim();
    let plain = text.trim_end_matches(['.', '!', '?', ' ']).to_lowercase();
    let is = |words: &[&str]| words.contains(&plain.as_str());
    if is(&["help", "help me", "/help", "commands", "what can you do", "what can i say"]) {
        return Want::Help;
    }
    if is(&["tools", "list tools", "list your tools", "what tools do you have", "which tools do you have", "skills"]) {
        return Want::Tools;
    }
    if is(&["who are you", "what are you", "what model are you", "which model are you", "are you an ai"]) {
        return Want::Who;
    }
    if is(&["thanks", "thank you", "thx", "great", "ok", "okay"]) {
        return Want::Thanks;
    }
    if is(&[
        "what do you remember",
        "what do you know",
        "recall",
        "recall everything",
        "memory",
        "list memories",
        "list memory",
    ]) {
        return Want::Memories;
    }
    if is(&["list files", "list the files", "list your files", "files", "ls", "show files", "what files do you have"]) {
        return Want::List { path: None };
    }
    command(text).or_else(|| greeting(&plain)).unwrap_or(Want::Unknown)
}

fn greeting(plain: &str) -> Option<Want> {
    let first: String = plain.chars().take_while(|c| c.is_alphabetic()).collect();
    let hello = matches!(first.as_str(), "hello" | "hi" | "hey" | "hallo" | "howdy" | "greetings" | "welcome")
        || ["good morning", "good afternoon", "good evening", "good day"].iter().any(|word| plain.starts_with(word));
    hello.then_some(Want::Greeting)
}

/// The rest of a text after one of these beginnings, whatever their case.
fn after<'a>(text: &'a str, beginnings: &[&str]) -> Option<&'a str> {
    beginnings.iter().find_map(|beginning| {
        let head = text.get(..beginning.len())?;
        head.eq_ignore_ascii_case(beginning).then(|| text[beginning.len()..].trim_start())
    })
}

/// A key or path without the end of its sentence.
fn name(text: &str) -> Option<String> {
    let name = text.trim().trim_end_matches(['?', '!']).trim().trim_matches(['"', '`', '\'']);
    (!name.is_empty()).then(|| name.to_owned())
}

fn command(text: &str) -> Option<Want> {
    if let Some(rest) = after(text, &["remember that ", "remember "]) {
        return remember(rest);
    }
    if let Some(rest) = after(text, &["recall ", "what do you remember about ", "what do you know about "]) {
        return Some(Want::Recall { key: name(rest)? });
    }
    if let Some(rest) = after(text, &["search memory for ", "search your memory for ", "search for ", "search "]) {
        return Some(Want::SearchMemory { query: name(rest)? });
    }
    if let Some(rest) = after(text, &["forget "]) {
        return Some(Want::Forget { key: name(rest)? });
    }
    if let Some(rest) = after(text, &["list files in ", "list the files in ", "ls "]) {
        return Some(Want::List { path: Some(name(rest)?) });
    }
    if let Some(rest) = after(text, &["read the file ", "read file ", "read ", "show file ", "cat "]) {
        return Some(Want::Read { path: name(rest)? });
    }
    if let Some(rest) = after(text, &["write file ", "write "]) {
        let (path, content) = file(rest)?;
        return Some(Want::Write { path, content });
    }
    if let Some(rest) = after(text, &["append "]) {
        let (path, content) = file(rest)?;
        return Some(Want::Append { path, content });
    }
    if let Some(rest) = after(text, &["delete the file ", "delete file ", "delete ", "rm "]) {
        return Some(Want::Delete { path: name(rest)? });
    }
    count(text)
}

/// `key is value`, `key = value`.
fn remember(rest: &str) -> Option<Want> {
    let word = |word: &str| rest.to_ascii_lowercase().find(word).map(|at| (at, word.len()));
    let (at, length) = [word(" is "), word("="), word(" are ")].into_iter().flatten().min()?;
    let (key, value) = (name(&rest[..at])?, rest[at + length..].trim());
    (!value.is_empty()).then(|| Want::Remember { key, value: value.to_owned() })
}

/// `path: content`, `content to path`.
fn file(rest: &str) -> Option<(String, String)> {
    if let Some((path, content)) = rest.split_once(':')
        && !path.trim().contains(char::is_whitespace)
    {
        return Some((name(path)?, content.trim_start().to_owned()));
    }
    let (content, path) = rest.rsplit_once(" to ")?;
    Some((name(path)?, content.trim().trim_matches('"').to_owned()))
}

/// `count to 5`, `count slowly to 5`, `wait 200 ms count to 5`.
fn count(text: &str) -> Option<Want> {
    let (pause, rest) = if let Some(rest) = after(text, &["count slowly to "]) {
        (SLOWLY, rest)
    } else if let Some(rest) = after(text, &["count to "]) {
        (Duration::ZERO, rest)
    } else {
        let rest = after(text, &["wait "])?;
        let (number, unit) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let unit = after(unit.trim_start(), &["ms"])?;
        let unit = unit.trim_start_matches([',', ' ']);
        let rest = after(unit, &["and count to ", "then count to ", "count to "])?;
        let Ok(pause @ ..=MAX_PAUSE) = number.parse() else { return Some(Want::TooMuch) };
        (Duration::from_millis(pause), rest)
    };
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    match digits.parse::<u32>() {
        Ok(to @ 1..=MAX_COUNT) => Some(Want::Count { to, pause }),
        _ if digits.is_empty() => None,
        _ => Some(Want::TooMuch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn owned(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn plain_words_are_understood() {
        for (text, wanted) in [
            ("Hello!", Want::Greeting),
            ("hi there", Want::Greeting),
            ("Good morning", Want::Greeting),
            ("help", Want::Help),
            ("What can you do?", Want::Help),
            ("What tools do you have?", Want::Tools),
            ("who are you?", Want::Who),
            ("What do you remember?", Want::Memories),
            ("list files", Want::List { path: None }),
            ("history of Rome", Want::Unknown),
            ("", Want::Unknown),
        ] {
            assert_eq!(want(text), wanted, "{text}");
        }
    }

    #[test]
    fn memory_and_files_are_asked_for_in_sentences() {
        let remember = |key, value| Want::Remember { key: owned(key), value: owned(value) };
        for (text, wanted) in [
            ("remember colour is Green", remember("colour", "Green")),
            ("Remember that my dog is called Rex", remember("my dog", "called Rex")),
            ("remember a=b is c", remember("a", "b is c")),
            ("recall colour?", Want::Recall { key: owned("colour") }),
            ("forget colour", Want::Forget { key: owned("colour") }),
            ("search for Rex", Want::SearchMemory { query: owned("Rex") }),
            ("list files in notes/", Want::List { path: Some(owned("notes/")) }),
            ("read notes/a.txt", Want::Read { path: owned("notes/a.txt") }),
            ("write a.txt: one: two", Want::Write { path: owned("a.txt"), content: owned("one: two") }),
            ("write \"buy milk\" to list.txt", Want::Write { path: owned("list.txt"), content: owned("buy milk") }),
            ("append a.txt: more", Want::Append { path: owned("a.txt"), content: owned("more") }),
            ("delete file a.txt", Want::Delete { path: owned("a.txt") }),
            ("remember", Want::Unknown),
            ("remember nothing", Want::Unknown),
            ("write", Want::Unknown),
        ] {
            assert_eq!(want(text), wanted, "{text}");
        }
    }

    #[test]
    fn counting_has_limits() {
        let count = |to, ms| Want::Count { to, pause: Duration::from_millis(ms) };
        for (text, wanted) in [
            ("count to 1", count(1, 0)),
            ("Count to 1000.", count(1_000, 0)),
            ("count to 1001", Want::TooMuch),
            ("count to 0", Want::TooMuch),
            ("count to 99999999999999999999", Want::TooMuch),
            ("count slowly to 20", count(20, 50)),
            ("wait 200 ms count to 3", count(3, 200)),
            ("wait 10000ms, then count to 3", count(3, 10_000)),
            ("wait 10001 ms count to 3", Want::TooMuch),
            ("wait ms count to 3", Want::TooMuch),
            ("count to ten", Want::Unknown),
        ] {
            assert_eq!(want(text), wanted, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_read(begin in "(remember |recall |write |wait |count to |list files in |İ)?", text in "\\PC{0,40}") {
            let _ = want(&format!("{begin}{text}"));
        }
    }
}
