//! The question to the model as it grows from round to round, kept within one budget of bytes.
//!
//! The system prompt and the message that is answered always stay. The rest has what is left: first the oldest history
//! goes, then what was said and done is shortened, that of the oldest round first, then whole rounds go. The newest
//! round stays, however short.

use std::collections::VecDeque;

use agentbot_wire::Message;
use serde_json::{Map, Value};

use super::about::About;
use super::prompt;
use crate::model::Call;

/// The longest body of a request in bytes: what the daemon takes.
pub const MAX_BODY: usize = 1024 * 1024;
/// What a text that was shortened ends with.
const CUT: &str = "[cut]";
/// What is left of each value of a call's arguments, in bytes.
const SHORT: usize = 64;
/// Shortened arguments that are longer all the same go, in bytes.
const MAX_SHORTENED: usize = 1024;

/// A question.
#[derive(Debug)]
pub struct Question<'a> {
    about: &'a About,
    system: Value,
    history: VecDeque<Value>,
    asked: Value,
    rounds: VecDeque<Round>,
    budget: usize,
}

/// What the model said and used in one round.
#[derive(Debug)]
struct Round {
    text: Text,
    uses: Vec<Use>,
}

/// One use of a tool.
#[derive(Debug)]
struct Use {
    call: Call,
    is_short: bool,
    result: Text,
}

/// A text that may have lost its end.
#[derive(Debug, Default)]
struct Text {
    start: String,
    is_cut: bool,
}

impl<'a> Question<'a> {
    /// A question without history.
    #[must_use]
    pub fn new(about: &'a About, today: &str, asked: &Message) -> Self {
        Self {
            about,
            system: prompt::system_message(about, today),
            history: VecDeque::new(),
            asked: prompt::message(asked),
            rounds: VecDeque::new(),
            budget: about.window.min(MAX_BODY),
        }
    }

    /// Bytes that are left.
    #[must_use]
    pub fn room(&self) -> usize {
        self.budget.saturating_sub(self.render(true).len())
    }

    /// Puts what was said before the message.
    pub fn put_history(&mut self, before: &[Message]) {
        self.history = before.iter().map(prompt::message).collect();
    }

    /// Adds a round: what the model said, and its calls with their results.
    pub fn put_round(&mut self, text: String, uses: impl IntoIterator<Item = (Call, String)>) {
        let uses = uses.into_iter().map(|(call, result)| Use { call, is_short: false, result: Text::whole(result) });
        self.rounds.push_back(Round { text: Text::whole(text), uses: uses.collect() });
    }

    /// The body of the next request, within the budget. What does not fit is forgotten. In the last round no tool may
    /// be used any more.
    #[must_use]
    pub fn body(&mut self, last: bool) -> Vec<u8> {
        loop {
            let body = self.render(last);
            let excess = body.len().saturating_sub(self.budget);
            if excess == 0 || !self.shrink(excess) {
                return body;
            }
        }
    }

    fn render(&self, last: bool) -> Vec<u8> {
        let before = [&self.system].into_iter().chain(&self.history).chain([&self.asked]).cloned();
        prompt::body(self.about, before.chain(self.rounds.iter().flat_map(Round::messages)).collect(), last)
    }

    /// Forgets about so many bytes, or what there is. `false` says that nothing more can go.
    fn shrink(&mut self, excess: usize) -> bool {
        let mut freed = 0;
        while freed < excess
            && let Some(oldest) = self.history.pop_front()
        {
            // With its comma.
            freed += oldest.to_string().len() + 1;
        }
        if freed > 0 {
            return true;
        }
        for round in &mut self.rounds {
            freed += round.shorten(excess - freed);
            if freed >= excess {
                break;
            }
        }
        if freed == 0 && self.rounds.len() > 1 {
            self.rounds.pop_front();
            return true;
        }
        freed > 0
    }
}

impl Round {
    fn messages(&self) -> Vec<Value> {
        let said = prompt::said(&self.text.shown(), self.uses.iter().map(|used| &used.call));
        let results = self.uses.iter().map(|used| prompt::result(&used.call, &used.result.shown()));
        [said].into_iter().chain(results).collect()
    }

    /// Frees so many bytes, or as many as it can; how many it were.
    fn shorten(&mut self, excess: usize) -> usize {
        let mut freed = self.text.shorten(excess);
        for used in &mut self.uses {
            if freed < excess {
                freed += used.shorten();
            }
            if freed < excess {
                freed += used.result.shorten(excess - freed);
            }
        }
        freed
    }
}

impl Use {
    /// Leaves the beginning of each argument.
    fn shorten(&mut self) -> usize {
        if std::mem::replace(&mut self.is_short, true) {
            return 0;
        }
        let short = shortened(&self.call.arguments);
        let freed = escaped(&self.call.arguments).saturating_sub(escaped(&short));
        if freed > 0 {
            self.call.arguments = short;
        }
        freed
    }
}

/// Arguments with the beginning of each value; still JSON, since some servers read them.
fn shortened(arguments: &str) -> String {
    let short = |value: Value| match value {
        Value::String(text) if text.len() > SHORT => {
            Value::String(format!("{}{CUT}", &text[..text.floor_char_boundary(SHORT)]))
        }
        Value::Array(_) | Value::Object(_) => Value::from(CUT),
        value => value,
    };
    let read: Map<String, Value> = serde_json::from_str(arguments).unwrap_or_default();
    let text = Value::Object(read.into_iter().map(|(key, value)| (key, short(value))).collect()).to_string();
    if text.len() > MAX_SHORTENED { "{}".to_owned() } else { text }
}

impl Text {
    fn whole(text: String) -> Self {
        Self { start: text, is_cut: false }
    }

    fn shown(&self) -> String {
        if self.is_cut { format!("{}{CUT}", self.start) } else { self.start.clone() }
    }

    /// Frees so many bytes, or as many as it can; how many it were. A text that is no longer than the mark stays.
    fn shorten(&mut self, excess: usize) -> usize {
        let mark = if self.is_cut { 0 } else { CUT.len() };
        let length = escaped(&self.start);
        if length <= mark {
            return 0;
        }
        let (room, mut taken, mut end) = (length.saturating_sub(excess.saturating_add(mark)), 0, 0);
        for c in self.start.chars() {
            taken += escape(c);
            if taken > room {
                break;
            }
            end += c.len_utf8();
        }
        let left = escaped(&self.start[..end]);
        self.start.truncate(end);
        self.is_cut = true;
        length - left - mark
    }
}

/// Bytes of a text within JSON.
fn escaped(text: &str) -> usize {
    text.chars().map(escape).sum()
}

fn escape(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        c => c.len_utf8(),
    }
}

#[cfg(test)]
mod tests;
