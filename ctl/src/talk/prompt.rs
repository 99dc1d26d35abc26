//! The line that is typed: edited and remembered on a thread of its own, for reading a terminal blocks.

use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{
    Cmd, ColorMode, ConditionalEventHandler, Config, Context, Editor, Event, EventContext, EventHandler,
    ExternalPrinter, Helper, KeyEvent, RepeatCount,
};
use tokio::sync::mpsc::{Receiver, channel};

use crate::exit::{Exit, Failure};
use crate::markdown::Look;
use crate::output::style;

const PROMPT: &str = "› ";
/// Entries that the history keeps.
const HISTORY: usize = 2_000;

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
}

/// Words that Tab completes at the beginning of a line.
pub type Words = Arc<Mutex<Vec<String>>>;

/// The prompt.
pub struct Prompt {
    ask: SyncSender<()>,
    typed: Receiver<Typed>,
    printer: Box<dyn ExternalPrinter>,
    /// The terminal as it was.
    before: Termios,
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
        editor.set_helper(Some(Help { words }));
        editor.bind_sequence(
            KeyEvent::ctrl('C'),
            EventHandler::Conditional(Box::new(CtrlC { empty: Arc::clone(&empty) })),
        );
        if let Some(path) = &history {
            // That there is none yet is no reason to complain.
            let _ = editor.load_history(path);
        }
        let printer = Box::new(editor.create_external_printer().map_err(|error| unusable(&error))?);
        let (ask, asked) = sync_channel::<()>(1);
        let (say, typed) = channel(1);
        let styled = look.paint(PROMPT, style::HINT.bold());
        std::thread::Builder::new()
            .name("prompt".to_owned())
            .spawn(move || {
                while asked.recv().is_ok() {
                    let typed = match editor.readline(&(PROMPT, styled.as_str())) {
                        Ok(line) => {
                            if !line.trim().is_empty()
                                && editor.add_history_entry(line.as_str()).unwrap_or_default()
                                && let Some(path) = &history
                            {
                                let _ = editor.append_history(path).or_else(|_| editor.save_history(path));
                            }
                            Typed::Line(joined(&line))
                        }
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
        Ok(Self { ask, typed, printer, before, asking: false })
    }

    /// The next thing that is typed. It may be dropped while it waits: the line goes on.
    pub async fn next(&mut self) -> Typed {
        if !self.asking {
            self.restore();
            if self.ask.send(()).is_err() {
                return Typed::End;
            }
            self.asking = true;
        }
        let typed = self.typed.recv().await.unwrap_or(Typed::End);
        self.asking = false;
        typed
    }

    /// Adds lines above the line that is being typed.
    pub fn say(&mut self, lines: &[String]) {
        if !lines.is_empty() {
            let _ = self.printer.print(format!("{}\n", lines.join("\n")));
        }
    }

    /// Keys that are pressed while an answer comes are kept for the next line, and not seen until then.
    pub fn hide_keys(&self) {
        let mut quiet = self.before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        let _ = tcsetattr(std::io::stdin().as_fd(), SetArg::TCSANOW, &quiet);
    }

    /// The terminal as it was.
    pub fn restore(&self) {
        let _ = tcsetattr(std::io::stdin().as_fd(), SetArg::TCSANOW, &self.before);
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        self.restore();
        if self.asking {
            // The thread still holds the line: the cursor leaves it, and pastes are plain again.
            let _ = self.printer.print(String::new());
        }
    }
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
}

impl Helper for Help {}

impl Hinter for Help {
    type Hint = String;
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
    fn an_escaped_line_end_is_a_line_end() {
        assert_eq!(joined("one\\\ntwo"), "one\ntwo");
        assert_eq!(joined("a\\b"), "a\\b");
    }
}
