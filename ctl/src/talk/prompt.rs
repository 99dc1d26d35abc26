//! The line that is typed: edited and remembered on a thread of its own, for reading a terminal blocks.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::pthread::{Pthread, pthread_kill, pthread_self};
use nix::sys::signal::Signal;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{
    Cmd, ColorMode, ConditionalEventHandler, Config, Context, Editor, Event, EventContext, EventHandler, Helper,
    KeyEvent, RepeatCount,
};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::timeout;

use crate::exit::{Exit, Failure};
use crate::markdown::{self, Look};
use crate::output::style;

const PROMPT: &str = "› ";
/// Entries that the history keeps.
const HISTORY: usize = 2_000;

/// How long the line may take to be put aside before it is asked for again.
const ASIDE: Duration = Duration::from_millis(50);

/// What the user did.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// A text, perhaps of several lines.
    Line(String),
    /// Ctrl-C, with nothing typed.
    Nothing,
    /// Ctrl-C, and what was typed is gone.
    Dropped,
    /// Ctrl-D.
    End,
    /// Nothing: the line is put aside for something above it.
    Aside,
}

/// What is being typed, and where in it the cursor is.
#[derive(Debug, Default)]
struct Line {
    text: String,
    at: usize,
}

/// Words that Tab completes at the beginning of a line.
pub type Words = Arc<Mutex<Vec<String>>>;

/// The prompt.
pub struct Prompt {
    ask: SyncSender<(String, String)>,
    typed: Receiver<Typed>,
    /// What was typed while something was said.
    early: Option<Typed>,
    /// The line is to be put aside.
    aside: Arc<AtomicBool>,
    line: Arc<Mutex<Line>>,
    /// The thread that reads.
    reads: Pthread,
    /// The terminal as it was, and as wide.
    before: Termios,
    columns: usize,
    asking: bool,
}

impl Prompt {
    /// A prompt on the terminal. `history` is the file that remembers lines, where they shall be remembered.
    ///
    /// # Errors
    /// When the terminal cannot be used.
    pub fn new(look: Look, history: Option<PathBuf>, words: Words) -> Result<Self, Failure> {
        let unusable = |error: &dyn std::fmt::Display| {
            Failure::new(Exit::Failed, "terminal", format!("this terminal cannot be used: {error}"))
                .hint("say it in one go: agentbotctl chat NAME \"text\"")
        };
        let before = tcgetattr(std::io::stdin().as_fd()).map_err(|error| unusable(&error))?;
        let config = Config::builder()
            .color_mode(if look == Look::Colour { ColorMode::Enabled } else { ColorMode::Disabled })
            .max_history_size(HISTORY)
            .and_then(|config| config.history_ignore_dups(true))
            .map_err(|error| unusable(&error))?
            .history_ignore_space(true)
            .build();
        let mut editor: Editor<Help, _> = Editor::with_config(config).map_err(|error| unusable(&error))?;
        let empty = Arc::new(AtomicBool::new(true));
        let line = Arc::new(Mutex::new(Line::default()));
        editor.set_helper(Some(Help { words, line: Arc::clone(&line) }));
        editor.bind_sequence(
            KeyEvent::ctrl('C'),
            EventHandler::Conditional(Box::new(CtrlC { empty: Arc::clone(&empty) })),
        );
        if let Some(path) = &history {
            // That there is none yet is no reason to complain.
            let _ = editor.load_history(path);
        }
        let (tell, told) = sync_channel(1);
        let aside = Arc::new(AtomicBool::new(false));
        let put = Arc::clone(&aside);
        let (ask, asked) = sync_channel::<(String, String)>(1);
        let (say, typed) = channel(1);
        let styled = look.paint(PROMPT, style::HINT.bold());
        std::thread::Builder::new()
            .name("prompt".to_owned())
            .spawn(move || {
                let _ = tell.send(pthread_self());
                while let Ok((left, right)) = asked.recv() {
                    let read = editor.readline_with_initial(&(PROMPT, styled.as_str()), (&left, &right));
                    let typed = match read {
                        Ok(line) => {
                            if !line.trim().is_empty()
                                && editor.add_history_entry(line.as_str()).unwrap_or_default()
                                && let Some(path) = &history
                            {
                                let _ = editor.append_history(path).or_else(|_| editor.save_history(path));
                            }
                            Typed::Line(joined(&line))
                        }
                        Err(ReadlineError::Interrupted) if put.swap(false, Ordering::SeqCst) => Typed::Aside,
                        Err(ReadlineError::Interrupted) if empty.load(Ordering::SeqCst) => Typed::Nothing,
                        Err(ReadlineError::Interrupted) => Typed::Dropped,
                        Err(_) => Typed::End,
                    };
                    if say.blocking_send(typed).is_err() {
                        return;
                    }
                }
            })
            .map_err(|error| unusable(&error))?;
        let reads = told.recv().map_err(|error| unusable(&error))?;
        // Between two lines keys are neither shown nor looked at, except Ctrl-C: the next line begins with them.
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO | LocalFlags::ICANON);
        tcsetattr(std::io::stdin().as_fd(), SetArg::TCSANOW, &quiet).map_err(|error| unusable(&error))?;
        Ok(Self { ask, typed, early: None, aside, line, reads, before, columns: columns(), asking: false })
    }

    /// The next thing that is typed. It may be dropped while it waits: the line goes on.
    pub async fn next(&mut self) -> Typed {
        if let Some(typed) = self.early.take() {
            return typed;
        }
        if !self.asking {
            let line = self.line.lock().map(|mut line| std::mem::take(&mut *line)).unwrap_or_default();
            let (left, right) = line.text.split_at_checked(line.at).unwrap_or((&line.text, ""));
            if self.ask.send((left.to_owned(), right.to_owned())).is_err() {
                return Typed::End;
            }
            self.asking = true;
        }
        let typed = self.typed.recv().await.unwrap_or(Typed::End);
        self.answered();
        typed
    }

    /// What was typed is not typed again.
    fn answered(&mut self) {
        self.asking = false;
        if let Ok(mut line) = self.line.lock() {
            *line = Line::default();
        }
    }

    /// Adds lines above the line that is being typed.
    ///
    /// The editor has a printer of its own for this, but with it keys that arrive together, as those of a slow
    /// connection do, lie unread until the next one. So its line is put aside and taken up again.
    pub async fn say(&mut self, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        let mut text = lines.join("\n") + "\n";
        if self.asking {
            self.aside.store(true, Ordering::SeqCst);
            let typed = loop {
                let _ = pthread_kill(self.reads, Signal::SIGINT);
                // A signal that comes while a key is looked at is not seen: it is sent again.
                if let Ok(typed) = timeout(ASIDE, self.typed.recv()).await {
                    break typed.unwrap_or(Typed::End);
                }
            };
            self.aside.store(false, Ordering::SeqCst);
            if typed == Typed::Aside {
                self.asking = false;
                let rows = self.line.lock().map(|line| row(&line.text, self.columns)).unwrap_or_default();
                // The editor leaves its line for the next one.
                text = format!("\x1b[{}A\r\x1b[J{text}", rows + 1);
            } else {
                self.answered();
                self.early = Some(typed);
            }
        }
        let mut out = std::io::stdout();
        let _ = out.write_all(text.as_bytes());
        let _ = out.flush();
    }

    /// Paints the line again where the terminal has another width now.
    pub fn resized(&mut self) {
        if std::mem::replace(&mut self.columns, columns()) != self.columns && self.asking {
            // The system tells one thread only, and hardly ever the one that reads.
            let _ = pthread_kill(self.reads, Signal::SIGWINCH);
        }
    }

    /// The terminal as it was.
    fn restore(&self) {
        let _ = tcsetattr(std::io::stdin().as_fd(), SetArg::TCSANOW, &self.before);
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        self.restore();
        if self.asking {
            // The thread still holds the line: the cursor leaves it, and pastes are plain again.
            let mut out = std::io::stdout();
            let _ = out.write_all(b"\x1b[?2004l\r\n");
            let _ = out.flush();
        }
    }
}

fn columns() -> usize {
    terminal_size::terminal_size_of(std::io::stdout()).map_or(80, |(columns, _)| usize::from(columns.0)).max(1)
}

/// The row in which a text behind the prompt ends.
fn row(text: &str, columns: usize) -> usize {
    let (mut row, mut column) = (0, markdown::columns(PROMPT));
    for c in text.chars() {
        let wide = if c == '\n' { 0 } else { markdown::columns(c.encode_utf8(&mut [0; 4])) };
        if c == '\n' || column + wide > columns {
            row += 1;
            column = 0;
        }
        column += wide;
    }
    if column >= columns { row + 1 } else { row }
}

/// Lines whose end was escaped belong together.
fn joined(line: &str) -> String {
    line.replace("\\\n", "\n")
}

struct CtrlC {
    empty: Arc<AtomicBool>,
}

impl ConditionalEventHandler for CtrlC {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext<'_>) -> Option<Cmd> {
        self.empty.store(context.line().is_empty(), Ordering::SeqCst);
        Some(Cmd::Interrupt)
    }
}

struct Help {
    words: Words,
    line: Arc<Mutex<Line>>,
}

impl Helper for Help {}

impl Hinter for Help {
    type Hint = String;

    // Asked whenever the line has changed.
    fn hint(&self, text: &str, at: usize, _: &Context<'_>) -> Option<String> {
        if let Ok(mut line) = self.line.lock() {
            *line = Line { text: text.to_owned(), at };
        }
        None
    }
}

impl Highlighter for Help {}

impl Validator for Help {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let more = context.input().ends_with('\\');
        Ok(if more { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl Completer for Help {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let begun = line.get(..at).unwrap_or_default();
        if !begun.starts_with('/') {
            return Ok((0, Vec::new()));
        }
        let words = self.words.lock().map(|words| words.clone()).unwrap_or_default();
        Ok((0, words.into_iter().filter(|word| word.starts_with(begun)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_as_the_terminal_wraps() {
        for (text, rows) in [("", 0), ("1234567", 0), ("12345678", 1), ("123456789", 1), ("a\nb\n", 2), ("日本語日", 1)]
        {
            assert_eq!(row(text, 10), rows, "{text:?}");
        }
    }

    #[test]
    fn an_escaped_line_end_is_a_line_end() {
        assert_eq!(joined("one\\\ntwo"), "one\ntwo");
        assert_eq!(joined("a\\b"), "a\\b");
    }
}
