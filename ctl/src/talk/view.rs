//! What a turn looks like, and how it looks on a terminal.

use agentbot_wire::{Message, Platform, Sender, ToolCall, ToolStatus};
use anstyle::Style;
use serde_json::Value;
use tokio::time::Instant;

use super::answer::Answer;
use super::safe;
use super::screen::Screen;
use crate::exit::Failure;
use crate::markdown::{self, Look};
use crate::output::{advice, style, text};

const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
/// A wait is told in seconds once it is longer than this.
const SOON: u64 = 2;

/// Shows a turn. Text that comes in is not safe yet; each view makes it so.
pub trait View {
    /// A turn begins.
    fn begin(&mut self) {}
    /// An event of the turn as a frame.
    fn frame(&mut self, _frame: &Value) {}
    /// A piece of the answer; a snapshot takes the place of all earlier ones.
    fn delta(&mut self, _piece: &str, _snapshot: bool) {}
    /// The use of a tool.
    fn tool(&mut self, _call: &ToolCall) {}
    /// The stored answer.
    fn answer(&mut self, _content: &str) {}
    /// A message that does not belong to the turn.
    fn other(&mut self, _message: &Message) {}
    /// Something about the talk itself, for people.
    fn note(&mut self, _line: &str) {}
    /// What the turn waits for, shown while there is nothing else; none is the agent itself.
    fn waits(&mut self, _for_what: Option<&str>) {}
    /// Whether [`Self::tick`] wants to be called now and then.
    fn moves(&self) -> bool {
        false
    }
    /// Paints what has changed.
    fn tick(&mut self) {}
    /// The turn is over, with its answer or without; what is shown stays.
    fn end(&mut self, _answered: bool) {}
    /// What stood in the way of showing it.
    ///
    /// # Errors
    /// When standard output cannot be written.
    fn written(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

/// A turn on a terminal: the answer grows in place, tools are dim lines.
pub struct Terminal {
    screen: Screen,
    agent: String,
    quiet: bool,
    answer: Answer,
    tools: Vec<ToolCall>,
    waits: Option<String>,
    since: Instant,
    spin: usize,
    under_way: bool,
    /// Something stands above, from which the next block keeps apart.
    after_lines: bool,
    /// Words of the agent stand above.
    after_words: bool,
}

impl Terminal {
    /// A view of an agent's turns. `quiet` leaves out what is not the answer.
    #[must_use]
    pub fn new(screen: Screen, agent: &str, quiet: bool) -> Self {
        Self {
            screen,
            agent: text::line(agent),
            quiet,
            answer: Answer::default(),
            tools: Vec::new(),
            waits: None,
            since: Instant::now(),
            spin: 0,
            under_way: false,
            after_lines: false,
            after_words: false,
        }
    }

    /// Adds lines of ours below what is there.
    pub fn say(&mut self, lines: Vec<String>) {
        self.screen.paint(lines, Vec::new());
    }

    /// With colours or without.
    #[must_use]
    pub fn look(&self) -> Look {
        self.screen.look()
    }

    /// A line in a style, within the width.
    #[must_use]
    pub fn dim(&self, line: &str) -> Vec<String> {
        lines(line, style::REST, self.screen.width(), self.look())
    }

    /// A message as it stands in a transcript.
    #[must_use]
    pub fn message(&self, message: &Message) -> Vec<String> {
        transcript(message, &self.agent, self.screen.width(), self.look())
    }

    /// A failure with its hint, below what was shown of the turn.
    pub fn fail(&mut self, failure: &Failure) {
        let mark = self.look().paint("✗", style::BAD);
        let said = lines(&format!("✗ {}", failure.message), Style::new(), self.screen.width(), self.look());
        let mut all = said.join("\n").replacen('✗', &mark, 1) + "\n";
        if let Some(hint) = &failure.hint {
            all.push_str(&advice("  ", hint));
        }
        if self.look() == Look::Plain {
            all = anstream::adapter::strip_str(&all).to_string();
        }
        self.below(all.lines().map(str::to_owned).collect());
    }

    /// A dim line below what was shown of the turn.
    pub fn aside(&mut self, line: &str) {
        let lines = self.dim(line);
        self.below(lines);
    }

    fn below(&mut self, mut lines: Vec<String>) {
        if std::mem::take(&mut self.after_words) {
            lines.insert(0, String::new());
        }
        self.say(lines);
    }

    /// What is above is finished; the answer goes on below it.
    fn above(&mut self, mut lines: Vec<String>) {
        let (width, look) = (self.screen.width(), self.screen.look());
        let mut all = self.answer.rest(width, look);
        if !all.is_empty() {
            if self.after_lines && all.first().is_some_and(|line| !line.is_empty()) {
                all.insert(0, String::new());
            }
            self.after_words = true;
        }
        if self.after_words && !lines.is_empty() {
            // Words, then lines of ours: apart from each other, as the other way round.
            all.push(String::new());
            self.after_words = false;
        }
        all.append(&mut lines);
        self.after_lines = true;
        self.show(all);
    }

    /// Adds finished lines and paints the open ones below.
    fn show(&mut self, finished: Vec<String>) {
        let (width, look) = (self.screen.width(), self.screen.look());
        let mut open = self.answer.growing(width, look);
        if self.after_lines && !open.is_empty() && open.first().is_some_and(|line| !line.is_empty()) {
            open.insert(0, String::new());
        }
        if self.under_way && !self.quiet {
            let spin = look.paint(SPINNER.get(self.spin % SPINNER.len()).copied().unwrap_or_default(), style::HINT);
            let what = match (self.tools.last(), &self.waits) {
                (_, Some(what)) => Some(what.clone()),
                (Some(tool), None) => Some(sentence(tool)),
                (None, None) if self.answer.is_empty() => Some(format!("{} is thinking", self.agent)),
                (None, None) => None,
            };
            if let Some(what) = what {
                let seconds = self.since.elapsed().as_secs();
                let time = if seconds > SOON { format!(" {seconds}s") } else { String::new() };
                let room = width.saturating_sub(2 + time.len());
                let what = markdown::chop(&what, room).into_iter().next().unwrap_or_default();
                open.push(format!("{spin} {}", look.paint(&format!("{what}{time}"), style::REST)));
            }
        }
        self.screen.paint(finished, open);
    }
}

impl View for Terminal {
    fn begin(&mut self) {
        self.answer = Answer::default();
        self.tools.clear();
        self.waits = None;
        self.since = Instant::now();
        self.under_way = true;
        self.after_lines = false;
        self.after_words = false;
        self.show(Vec::new());
    }

    fn delta(&mut self, piece: &str, snapshot: bool) {
        if !snapshot {
            self.answer.push(piece);
        } else if !self.answer.replace(piece) {
            self.again();
        }
    }

    fn tool(&mut self, call: &ToolCall) {
        self.since = Instant::now();
        self.tools.retain(|tool| tool.id != call.id);
        if call.status == ToolStatus::Started {
            self.tools.push(call.clone());
        } else if !self.quiet {
            let mark = if call.status == ToolStatus::Failed { style::BAD } else { style::REST };
            let failed =
                if call.status == ToolStatus::Failed { self.look().paint(" failed", mark) } else { String::new() };
            let mut lines = self.dim(&format!("· {}", sentence(call)));
            if let Some(last) = lines.last_mut() {
                last.push_str(&failed);
            }
            self.above(lines);
        }
    }

    fn answer(&mut self, content: &str) {
        if !self.answer.replace(content) {
            self.again();
        }
        self.tools.clear();
        // The answer is complete: nothing more is waited for.
        self.under_way = false;
        self.above(Vec::new());
    }

    fn other(&mut self, message: &Message) {
        let lines = self.message(message);
        self.above(lines);
    }

    fn note(&mut self, line: &str) {
        if !self.quiet {
            let lines = self.dim(line);
            self.above(lines);
        }
    }

    fn waits(&mut self, for_what: Option<&str>) {
        self.waits = for_what.map(text::line);
    }

    fn moves(&self) -> bool {
        self.under_way && self.screen.moves()
    }

    fn tick(&mut self) {
        self.spin += 1;
        let (width, look) = (self.screen.width(), self.screen.look());
        let mut finished = self.answer.finished(width, look);
        if !finished.is_empty() {
            self.after_words = true;
            if std::mem::take(&mut self.after_lines) && finished.first().is_some_and(|line| !line.is_empty()) {
                finished.insert(0, String::new());
            }
        }
        self.show(finished);
    }

    fn end(&mut self, _answered: bool) {
        self.under_way = false;
        self.tools.clear();
        self.above(Vec::new());
    }
}

impl Terminal {
    /// What was shown is not the answer: the answer follows as a whole.
    fn again(&mut self) {
        let line = self.dim("(the answer begins anew)");
        self.after_lines = true;
        self.show(line);
    }
}

/// A tool's use in a line.
#[must_use]
pub fn sentence(call: &ToolCall) -> String {
    let detail =
        call.detail.as_deref().map(|detail| format!(" {}", text::line(&safe::clean(detail)))).unwrap_or_default();
    format!("{}{detail}", text::line(&safe::clean(&call.name)))
}

/// A text in lines of a width and a style.
#[must_use]
pub fn lines(line: &str, style: Style, width: usize, look: Look) -> Vec<String> {
    let spans = [markdown::Span::new(text::line(line), style)];
    let paint = |line: Vec<markdown::Span>| line.iter().map(|span| look.paint(&span.text, span.style)).collect();
    markdown::wrap(&spans, width).into_iter().map(paint).collect()
}

/// A message with its sender above it, as it stands in a transcript.
#[must_use]
pub fn transcript(message: &Message, agent: &str, width: usize, look: Look) -> Vec<String> {
    let head = match message.sender {
        Sender::Agent => look.paint(agent, style::GOOD.bold()),
        Sender::System => return lines(&format!("! {}", safe::clean(&message.content)), style::BUSY, width, look),
        Sender::User => {
            let way = match message.platform {
                Platform::Ctl => String::new(),
                other => look.paint(&format!(" via {other}"), style::REST),
            };
            format!("{}{way}", look.paint("user", style::HINT.bold()))
        }
    };
    let mut all = vec![head];
    all.extend(markdown::render(&safe::clean(&message.content), width, look));
    all
}
