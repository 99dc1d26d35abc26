//! A turn under way: what it has said, and how much of that the daemon has heard.

use std::collections::VecDeque;
use std::time::Duration;

use agentbot_wire::{
    Frame, MAX_MESSAGE, ToolCall, TurnDelta, TurnDone, TurnFailed, TurnFault, TurnId, TurnTool, event,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Pieces of one turn are at least so far apart. What comes in between goes out together.
pub const GAP: Duration = Duration::from_millis(16);
/// Uses of tools that wait to be told; past it the oldest are not told.
const MAX_TOOLS: usize = 64;

/// How a turn ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// With this answer.
    Done(String),
    /// Without one.
    Failed(TurnFault),
}

impl Outcome {
    /// A fault with a hint.
    #[must_use]
    pub fn failed(code: &str, message: impl Into<String>, hint: Option<String>) -> Self {
        Self::Failed(TurnFault { code: Some(code.to_owned()), message: message.into(), hint })
    }

    /// The event that tells it.
    #[must_use]
    pub fn frame(&self, turn: &TurnId) -> Frame {
        let turn = turn.clone();
        match self {
            Self::Done(text) => frame(event::TURN_DONE, TurnDone { turn, text: text.clone() }),
            Self::Failed(error) => frame(event::TURN_FAILED, TurnFailed { turn, error: error.clone() }),
        }
    }
}

fn frame(event: &str, payload: impl Serialize) -> Frame {
    // Strings and flags: they always have a JSON value.
    Frame::event(event, serde_json::to_value(payload).unwrap_or_default())
}

/// How often the daemon is told that a model works without a word. It gives a silent turn up after three minutes.
const THOUGHT: Duration = Duration::from_secs(15);

/// A turn under way.
#[derive(Debug)]
pub struct Live {
    /// Which one.
    pub turn: TurnId,
    /// Ends its work.
    pub cancel: Option<oneshot::Sender<()>>,
    text: String,
    /// Bytes of the text that were sent on this connection.
    sent: usize,
    /// Whether any of it was sent on any connection.
    told: bool,
    /// Whether the daemon asked for it on this connection. Until it does, nothing is sent.
    attached: bool,
    /// Whether all of the text is to be sent in place of earlier pieces.
    snapshot: bool,
    /// Uses of tools to tell, each after so many bytes of the text.
    tools: VecDeque<(usize, ToolCall)>,
    outcome: Option<Outcome>,
    /// When the next piece may go out.
    next: Instant,
    /// Whether the model works without a word: a piece without text tells the daemon.
    thinks: bool,
    /// When it was last told.
    thought: Instant,
}

impl Live {
    /// One that begins, asked for on this connection.
    #[must_use]
    pub fn begin(turn: TurnId, cancel: oneshot::Sender<()>) -> Self {
        Self {
            turn,
            cancel: Some(cancel),
            text: String::new(),
            sent: 0,
            told: false,
            attached: true,
            snapshot: false,
            tools: VecDeque::new(),
            outcome: None,
            next: Instant::now(),
            thinks: false,
            thought: Instant::now(),
        }
    }

    /// The daemon asked for it. On a new connection it gets what there is, in one piece.
    pub fn attach(&mut self) {
        if !self.attached {
            self.attached = true;
            self.snapshot = self.told || !self.text.is_empty();
        }
    }

    /// The connection is gone. Says whether the turn still works.
    pub fn detach(&mut self) -> bool {
        self.attached = false;
        self.snapshot = false;
        self.tools.clear();
        self.outcome.is_none()
    }

    /// Whether it works.
    #[must_use]
    pub fn works(&self) -> bool {
        self.outcome.is_none()
    }

    /// Whether the daemon asked for it on this connection.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.attached
    }

    /// Bytes said so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// The text so far.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Says more, without control characters. What goes over [`MAX_MESSAGE`] is cut; `false` says that it was.
    pub fn append(&mut self, more: &str) -> bool {
        let mut whole = true;
        for c in more.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')) {
            if self.text.len() + c.len_utf8() > MAX_MESSAGE {
                whole = false;
                break;
            }
            self.text.push(c);
        }
        whole
    }

    /// The model works and says nothing yet: told every [`THOUGHT`].
    pub fn think(&mut self) {
        self.thinks = self.attached && self.thought.elapsed() >= THOUGHT;
    }

    /// Takes back what was said after so many bytes.
    pub fn rewind(&mut self, length: usize) {
        if length < self.text.len() {
            self.text.truncate(self.text.floor_char_boundary(length));
            self.snapshot = self.attached && self.sent > self.text.len();
            self.sent = self.sent.min(self.text.len());
        }
    }

    /// Tells the use of a tool.
    pub fn tool(&mut self, call: ToolCall) {
        if self.attached {
            if self.tools.len() == MAX_TOOLS {
                self.tools.pop_front();
            }
            self.tools.push_back((self.text.len(), call));
        }
    }

    /// Ends it. Says whether there is anything left to send.
    pub fn end(&mut self, outcome: Outcome) -> bool {
        self.outcome = Some(outcome);
        self.attached
    }

    /// When there is something to send.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        if !self.attached {
            None
        } else if self.snapshot || self.thinks || !self.tools.is_empty() || self.outcome.is_some() {
            Some(Instant::now())
        } else {
            (self.sent < self.text.len()).then_some(self.next)
        }
    }

    /// Takes what is to be sent now. `true` says that it was the last of this turn.
    pub fn take(&mut self, now: Instant, frames: &mut Vec<Frame>) -> bool {
        if !self.attached {
            return false;
        }
        if std::mem::take(&mut self.snapshot) {
            self.sent = self.text.len();
            self.told = true;
            self.next = now + GAP;
            let delta = TurnDelta { turn: self.turn.clone(), text: self.text.clone(), snapshot: true };
            frames.push(frame(event::TURN_DELTA, delta));
        }
        if std::mem::take(&mut self.thinks) {
            self.thought = now;
            let delta = TurnDelta { turn: self.turn.clone(), text: String::new(), snapshot: false };
            frames.push(frame(event::TURN_DELTA, delta));
        }
        while let Some((at, call)) = self.tools.pop_front() {
            self.piece(at, now, frames);
            frames.push(frame(event::TURN_TOOL, TurnTool { turn: self.turn.clone(), call }));
        }
        if self.outcome.is_some() || now >= self.next {
            self.piece(self.text.len(), now, frames);
        }
        match &self.outcome {
            Some(outcome) => {
                frames.push(outcome.frame(&self.turn));
                true
            }
            None => false,
        }
    }

    fn piece(&mut self, end: usize, now: Instant, frames: &mut Vec<Frame>) {
        if let Some(text) = self.text.get(self.sent..end).filter(|text| !text.is_empty()) {
            let delta = TurnDelta { turn: self.turn.clone(), text: text.to_owned(), snapshot: false };
            frames.push(frame(event::TURN_DELTA, delta));
            self.sent = end;
            self.told = true;
            self.next = now + GAP;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentbot_wire::ToolStatus;

    fn live() -> Live {
        let (cancel, _) = oneshot::channel();
        Live::begin("trn_01kak2m5v5e7qrf9v3n6m8t0zx".parse().unwrap(), cancel)
    }

    /// What goes out now, each frame as a short word.
    fn out(live: &mut Live) -> Vec<String> {
        let mut frames = Vec::new();
        live.take(Instant::now(), &mut frames);
        let word = |frame| {
            let Frame::Event { event, payload, .. } = frame else { panic!("not an event") };
            let text = payload["text"].as_str().unwrap_or_default();
            match (event.as_str(), payload["snapshot"].as_bool()) {
                ("turn.delta", Some(true)) => format!("={text}"),
                ("turn.delta", _) => format!("+{text}"),
                ("turn.tool", _) => format!("!{}", payload["call"]["id"].as_str().unwrap()),
                (other, _) => format!("{other} {text}"),
            }
        };
        frames.into_iter().map(word).collect()
    }

    fn call(id: &str) -> ToolCall {
        ToolCall { id: id.to_owned(), name: "files".to_owned(), status: ToolStatus::Started, detail: None }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_piece_goes_at_once_and_what_follows_soon_goes_together() {
        let mut live = live();
        live.append("a");
        assert_eq!(out(&mut live), ["+a"]);
        live.append("b");
        live.append("c");
        assert!(out(&mut live).is_empty());
        assert_eq!(live.due(), Some(Instant::now() + GAP));
        tokio::time::advance(GAP).await;
        assert_eq!(out(&mut live), ["+bc"]);
        assert_eq!(live.due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn text_tools_and_the_end_keep_their_order() {
        let mut live = live();
        live.append("a");
        live.tool(call("1"));
        live.append("b");
        live.tool(call("2"));
        live.append("c");
        assert!(live.end(Outcome::Done("abc".to_owned())));
        assert_eq!(out(&mut live), ["+a", "!1", "+b", "!2", "+c", "turn.done abc"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_gets_everything_in_one_piece_once_it_asks() {
        let mut live = live();
        live.append("ab");
        out(&mut live);
        assert!(live.detach());
        live.append("c");
        live.tool(call("1"));
        assert_eq!((live.due(), out(&mut live).len()), (None, 0));
        live.attach();
        live.append("d");
        assert_eq!(out(&mut live), ["=abcd"]);
        live.attach();
        assert!(out(&mut live).is_empty(), "a repeat on the same connection changes nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_back_is_replaced() {
        let mut live = live();
        live.append("good bad");
        out(&mut live);
        live.rewind(5);
        live.append("better");
        assert_eq!(out(&mut live), ["=good better"]);
        live.append(" unsent");
        live.rewind(11);
        assert!(out(&mut live).is_empty(), "what nobody heard needs no replacement");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_back_between_two_connections_is_replaced_by_nothing() {
        let mut live = live();
        live.append("bad");
        out(&mut live);
        live.detach();
        live.rewind(0);
        live.attach();
        assert_eq!(out(&mut live), ["="]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_at_the_limit_passes_and_a_longer_one_is_cut_at_a_character() {
        let mut live = live();
        assert!(live.append(&"a".repeat(MAX_MESSAGE - 1)));
        assert!(!live.append("é"));
        assert_eq!(live.len(), MAX_MESSAGE - 1);
        assert!(live.append("b"));
        assert_eq!(live.len(), MAX_MESSAGE);
    }

    #[tokio::test(start_paused = true)]
    async fn control_characters_are_left_out() {
        let mut live = live();
        live.append("a\u{1b}[2J\r\n\tb\u{9b}\0c");
        assert_eq!(live.text(), "a[2J\n\tbc");
    }

    #[tokio::test(start_paused = true)]
    async fn a_model_that_thinks_is_told_once_in_a_while() {
        let mut live = live();
        let mut told = 0;
        for _ in 0..60 {
            tokio::time::advance(Duration::from_secs(1)).await;
            live.think();
            told += out(&mut live).iter().filter(|word| *word == "+").count();
        }
        assert_eq!(told, 4);
        live.detach();
        tokio::time::advance(THOUGHT).await;
        live.think();
        assert_eq!(live.due(), None, "nobody to tell");
    }

    #[tokio::test(start_paused = true)]
    async fn tools_that_nobody_takes_do_not_pile_up() {
        let mut live = live();
        for _ in 0..1000 {
            live.tool(call("1"));
        }
        assert_eq!(out(&mut live).len(), MAX_TOOLS);
    }
}
