//! From messages and tools to a reply. Pure.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::say;
use super::want::{Want, want};

/// Tools whose use is known here; one is used only if the request offers it.
const MEMORY: &str = "memory";
const FILES: &str = "files";
/// Words of one piece.
const WORDS: usize = 3;

/// The part of a request that matters here.
pub(super) struct Request {
    messages: Vec<Message>,
    tools: Vec<Tool>,
}

/// A message as OpenAI's API has it.
#[derive(Deserialize)]
pub(super) struct Message {
    role: String,
    #[serde(default)]
    content: Option<Content>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    text: Option<String>,
}

/// A tool that the request offers.
#[derive(Deserialize)]
pub(super) struct Tool {
    /// Absent in kinds of tools that only some services have.
    #[serde(default)]
    pub(super) function: Option<Function>,
}

/// What a tool is.
#[derive(Deserialize)]
pub(super) struct Function {
    pub(super) name: String,
    #[serde(default)]
    pub(super) description: Option<String>,
}

/// A reply.
#[derive(Debug, PartialEq)]
pub(super) enum Reply {
    /// Text, in pieces.
    Say(Vec<Piece>),
    /// The use of a tool with these arguments.
    Use(String, Value),
}

/// A piece of text and the pause before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) pause: Duration,
    pub(super) text: String,
}

impl Message {
    fn text(&self) -> String {
        match &self.content {
            Some(Content::Text(text)) => text.clone(),
            Some(Content::Parts(parts)) => {
                parts.iter().filter_map(|part| part.text.as_deref()).collect::<Vec<_>>().join("\n")
            }
            None => String::new(),
        }
    }
}

impl Request {
    pub(super) fn new(messages: Vec<Message>, tools: Vec<Tool>) -> Self {
        Self { messages, tools }
    }

    fn offers(&self, tool: &str) -> bool {
        self.functions().any(|known| known.name == tool)
    }

    fn functions(&self) -> impl Iterator<Item = &Function> {
        self.tools.iter().filter_map(|tool| tool.function.as_ref())
    }

    /// What the person said last, and what a tool has answered to it since.
    fn last(&self) -> (String, Option<String>) {
        let asked = self.messages.iter().rposition(|message| message.role == "user");
        let since = asked.map_or(0, |asked| asked + 1);
        let result = self.messages[since..].iter().rev().find(|message| message.role == "tool").map(Message::text);
        (asked.map(|asked| self.messages[asked].text()).unwrap_or_default(), result)
    }
}

/// The reply to a request.
pub(super) fn reply(request: &Request) -> Reply {
    let (text, result) = request.last();
    let want = want(&text);
    if let Want::Count { to, pause } = want {
        let number = |number: u32| if number == to { number.to_string() } else { format!("{number} ") };
        return Reply::Say((1..=to).map(|at| Piece { pause, text: number(at) }).collect());
    }
    if let Some((tool, arguments)) = needs(&want) {
        return match result {
            Some(result) => said(&say::result(&want, &result)),
            None if request.offers(tool) => Reply::Use(tool.to_owned(), arguments),
            None => said(&say::lacking(tool)),
        };
    }
    said(&match want {
        Want::Greeting => say::greeting(),
        Want::Help => say::help(),
        Want::Who => say::who(),
        Want::Thanks => say::thanks(),
        Want::Tools => say::tools(&request.functions().collect::<Vec<_>>()),
        Want::TooMuch => say::too_much(),
        _ => say::unknown(),
    })
}

/// The tool that a wish needs, and with which arguments.
fn needs(want: &Want) -> Option<(&'static str, Value)> {
    Some(match want {
        Want::Remember { key, value } => (MEMORY, json!({"action": "put", "key": key, "value": value})),
        Want::Recall { key } => (MEMORY, json!({"action": "get", "key": key})),
        Want::Forget { key } => (MEMORY, json!({"action": "forget", "key": key})),
        Want::Memories => (MEMORY, json!({"action": "list"})),
        Want::SearchMemory { query } => (MEMORY, json!({"action": "search", "query": query})),
        Want::List { path: None } => (FILES, json!({"action": "list"})),
        Want::List { path: Some(path) } => (FILES, json!({"action": "list", "path": path})),
        Want::Read { path } => (FILES, json!({"action": "read", "path": path})),
        Want::Write { path, content } => (FILES, json!({"action": "write", "path": path, "content": content})),
        Want::Append { path, content } => (FILES, json!({"action": "append", "path": path, "content": content})),
        Want::Delete { path } => (FILES, json!({"action": "delete", "path": path})),
        _ => return None,
    })
}

/// A text in pieces of a few words, as language models send them.
fn said(text: &str) -> Reply {
    let mut pieces = vec![String::new()];
    for (count, word) in text.split_inclusive(' ').enumerate() {
        if count > 0 && count % WORDS == 0 {
            pieces.push(String::new());
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push_str(word);
        }
    }
    Reply::Say(pieces.into_iter().map(|text| Piece { pause: Duration::ZERO, text }).collect())
}

#[cfg(test)]
mod tests;
