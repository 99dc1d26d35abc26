//! Everything the command line says passes through here: standard output for results, standard error for people.

pub mod json;
pub mod style;
pub mod table;
pub mod text;

use std::cell::LazyCell;
use std::io::{ErrorKind, Write};

use serde_json::Value;

use crate::exit::{Exit, Failure};

/// The form of a result on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// A document that is made when somebody looks at it: most results are read by people.
pub type Document = LazyCell<Value, Box<dyn FnOnce() -> Value>>;

/// What a command gave: the same thing for programs and for people.
#[derive(Debug)]
pub struct Outcome {
    /// For `-o json` and `-o yaml`; made when it is wanted.
    pub document: Document,
    /// For people, with line ends; may be empty.
    pub text: String,
    /// What the process exits with.
    pub exit: Exit,
}

impl Outcome {
    /// A success.
    #[must_use]
    pub fn ok(document: Value, text: String) -> Self {
        Self::new(document, text, Exit::Ok)
    }

    /// A success whose document costs something to make.
    #[must_use]
    pub fn ok_with(document: impl FnOnce() -> Value + 'static, text: String) -> Self {
        Self { document: Document::new(Box::new(document)), text, exit: Exit::Ok }
    }

    /// Any end.
    #[must_use]
    pub fn new(document: Value, text: String, exit: Exit) -> Self {
        Self { document: Document::new(Box::new(move || document)), text, exit }
    }
}

/// Prints a result and gives the exit code. A reader that went away is not an error; a full disk is.
#[must_use]
pub fn print(format: Format, outcome: &Outcome) -> Exit {
    let written = match format {
        Format::Table => stdout(&outcome.text),
        Format::Json => stdout(&json::json(&outcome.document)),
        Format::Yaml => stdout(&json::yaml(&outcome.document)),
    };
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let failure = Failure::new(Exit::Failed, "output", format!("the result could not be written: {error}"));
            complain(&failure);
            outcome.exit.max(failure.exit)
        }
        _ => outcome.exit,
    }
}

/// Prints a failure: a sentence and a hint for people, the document where one was asked for.
#[must_use]
pub fn print_failure(format: Format, failure: &Failure) -> Exit {
    complain(failure);
    let kept = failure.operation.as_ref().filter(|_| failure.exit == Exit::Unreachable);
    let text = kept.map(|operation| format!("{}\n", operation.id)).unwrap_or_default();
    print(format, &Outcome::new(failure.to_document(), text, failure.exit))
}

/// One failure on standard error.
pub fn complain(failure: &Failure) {
    let mut text = format!("{}error:{:#} {}\n", style::BAD, style::BAD, text::line(&failure.message));
    if let Some(hint) = &failure.hint {
        text.push_str(&advice("", hint));
    }
    if let Some(id) = failure.request_id.as_ref().filter(|_| failure.code == "internal") {
        text.push_str(&format!("request {} in the daemon's log says more\n", text::line(id)));
    }
    stderr(&text);
}

/// A hint with its line end, further lines below its first.
#[must_use]
pub fn advice(indent: &str, hint: &str) -> String {
    let hint = text::block(hint).trim().replace('\n', &format!("\n{indent}      "));
    format!("{indent}{}hint:{:#} {hint}\n", style::HINT, style::HINT)
}

/// Writes to standard output; colours only where they are wanted.
///
/// # Errors
/// When it cannot be written.
pub fn stdout(text: &str) -> std::io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes to standard error. That nobody may read it is no reason to fail.
pub fn stderr(text: &str) {
    let _ = anstream::stderr().lock().write_all(text.as_bytes());
}
