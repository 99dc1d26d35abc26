//! What the builtin model says. Pure.

use serde_json::Value;

use super::rules::Function;
use super::want::{MAX_COUNT, MAX_PAUSE, Want};

/// The most of a tool's result that is repeated, in characters.
const SHOWN: usize = 16_000;

/// What it is, wherever that matters.
const PLAIN: &str =
    "No language model is configured for me: I am Agentbot's builtin assistant and follow a few fixed rules.";
/// Where there is more.
const MORE: &str = "Say `help` to see what I can do and how to get an agent with a language model.";
/// How to get one. An agent keeps the model that it was provisioned with.
const ADD: &str = "For a language model, set its server under `[models.providers]` in the daemon's configuration; \
    `agentbotctl model discover` on the host finds servers and prints the lines. Then \
    `agentbotctl provision NAME --model PROVIDER/MODEL` makes an agent that uses it; agents that exist keep the model \
    they have.";

pub(super) fn greeting() -> String {
    format!("Hello! {PLAIN} {MORE}")
}

pub(super) fn who() -> String {
    format!("{PLAIN} {ADD}")
}

pub(super) fn thanks() -> String {
    "You are welcome.".to_owned()
}

pub(super) fn unknown() -> String {
    format!("I do not understand that. {PLAIN} {MORE}")
}

pub(super) fn help() -> String {
    format!(
        "{PLAIN}\n\nI understand:\n\
         - `remember <key> is <value>`, `recall <key>`, `forget <key>`\n\
         - `what do you remember`, `search for <text>`\n\
         - `list files`, `list files in <directory>`, `read <file>`\n\
         - `write <file>: <text>`, `append <file>: <text>`, `delete file <file>`\n\
         - `tools`: what I was given to work with\n\
         - `count to <n>`, `count slowly to <n>`, `wait <milliseconds> ms count to <n>`: long answers, up to {MAX_COUNT}, \
         to try things out\n\n{ADD}"
    )
}

pub(super) fn too_much() -> String {
    format!("I count from 1 to at most {MAX_COUNT}, and wait at most {MAX_PAUSE} ms between two numbers.")
}

pub(super) fn lacking(tool: &str) -> String {
    format!("For that I need the tool `{tool}`, and I was not given it.")
}

pub(super) fn tools(tools: &[&Function]) -> String {
    if tools.is_empty() {
        return "I was not given any tools.".to_owned();
    }
    let line = |tool: &&Function| match tool.description.as_deref().map(str::trim) {
        Some(about) if !about.is_empty() => format!("- `{}`: {about}", tool.name),
        _ => format!("- `{}`", tool.name),
    };
    format!("I was given these tools:\n{}", tools.iter().map(line).collect::<Vec<_>>().join("\n"))
}

/// What came of the tool that a wish needed.
pub(super) fn result(want: &Want, result: &str) -> String {
    let value: Value = serde_json::from_str(result).unwrap_or_else(|_| Value::String(result.to_owned()));
    if let Some(error) = failure(&value) {
        return format!("That did not work: {}", cut(&error));
    }
    match want {
        Want::Remember { key, value } => format!("I will remember that {key} is {value}."),
        Want::Forget { key } => format!("I have forgotten {key}."),
        Want::Recall { key } => match found(&value, key) {
            Some(known) => cut(&format!("{key} is {}", text(known))),
            None => format!("I remember nothing about {key}."),
        },
        Want::Memories | Want::SearchMemory { .. } => match value.get("memory").unwrap_or(&value) {
            Value::Object(memory) if memory.is_empty() => "I remember nothing.".to_owned(),
            Value::Object(memory) => {
                let lines: Vec<String> =
                    memory.iter().map(|(key, value)| format!("- {key}: {}", text(value))).collect();
                cut(&format!("I remember:\n{}", lines.join("\n")))
            }
            other => list(other, "I remember nothing.", "I remember"),
        },
        Want::List { .. } => {
            let entries = ["entries", "files"].iter().find_map(|name| value.get(name));
            list(entries.unwrap_or(&value), "There are no files.", "These files are there")
        }
        Want::Read { .. } => cut(&text(value.get("content").unwrap_or(&value))),
        Want::Write { path, .. } => format!("I have written {path}."),
        Want::Append { path, .. } => format!("I have added that to {path}."),
        Want::Delete { path } => format!("I have deleted {path}."),
        _ => cut(result),
    }
}

/// Why a tool failed, if its result says so.
fn failure(value: &Value) -> Option<String> {
    let error = value.get("error").filter(|error| !error.is_null());
    if let Some(error) = error {
        return Some(text(error.get("message").unwrap_or(error)));
    }
    let text = value.as_str()?;
    text.get(..6).is_some_and(|head| head.eq_ignore_ascii_case("error:")).then(|| text[6..].trim().to_owned())
}

/// The value of a key in whatever form the tool gives it.
fn found<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    let known = match value.get("memory") {
        Some(memory) => memory.get(key),
        None => value.get("value").or(match value {
            Value::Object(_) => None,
            other => Some(other),
        }),
    };
    known.filter(|known| !known.is_null())
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn list(value: &Value, none: &str, some: &str) -> String {
    let entry = |entry: &Value| match entry {
        Value::Object(about) => about.get("path").or_else(|| about.get("name")).map_or_else(|| entry.to_string(), text),
        other => text(other),
    };
    match value {
        Value::Array(entries) if entries.is_empty() => none.to_owned(),
        Value::Array(entries) => {
            let lines: Vec<String> = entries.iter().map(|value| format!("- {}", entry(value))).collect();
            cut(&format!("{some}:\n{}", lines.join("\n")))
        }
        Value::String(text) if text.trim().is_empty() => none.to_owned(),
        other => cut(&format!("{some}:\n{}", text(other))),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text.to_owned(),
    }
}
