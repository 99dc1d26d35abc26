//! A turn for pipes and programs: the answer alone, or each event as a document.

use std::io::{ErrorKind, Result};

use agentbot_wire::{ToolCall, ToolStatus};
use serde_json::Value;

use super::safe;
use super::view::{View, sentence};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format, style};

/// The answer as it is written, once it is complete; everything else on standard error.
#[derive(Debug)]
pub struct Piped {
    quiet: bool,
    answer: Option<String>,
    result: Result<()>,
}

impl Piped {
    /// A view that says nothing about tools when it is `quiet`.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        Self { quiet, answer: None, result: Ok(()) }
    }
}

/// A dim line on standard error.
pub fn aside(line: &str) {
    output::stderr(&format!("{}{line}{:#}\n", style::REST, style::REST));
}

impl View for Piped {
    fn tool(&mut self, call: &ToolCall) {
        if !self.quiet && call.status != ToolStatus::Started {
            let failed = if call.status == ToolStatus::Failed { " failed" } else { "" };
            aside(&format!("· {}{failed}", sentence(call)));
        }
    }

    fn answer(&mut self, content: &str) {
        self.answer = Some(safe::clean(content));
    }

    fn note(&mut self, line: &str) {
        if !self.quiet {
            aside(&output::text::line(line));
        }
    }

    fn end(&mut self, answered: bool) {
        // What was left unfinished is not given out as an answer.
        if let Some(answer) = self.answer.take().filter(|_| answered) {
            self.result = output::stdout(&format!("{}\n", answer.trim_end_matches('\n')));
        }
    }

    fn written(&mut self) -> std::result::Result<(), Failure> {
        written(std::mem::replace(&mut self.result, Ok(())))
    }
}

/// Each event as a document of its own.
#[derive(Debug)]
pub struct Frames {
    format: Format,
    quiet: bool,
    result: Result<()>,
}

impl Frames {
    /// A view in JSON lines, or in YAML documents.
    #[must_use]
    pub fn new(format: Format, quiet: bool) -> Self {
        Self { format, quiet, result: Ok(()) }
    }
}

impl View for Frames {
    fn frame(&mut self, frame: &Value) {
        if self.result.is_ok() {
            self.result = output::stdout(&document(self.format, frame));
        }
    }

    fn note(&mut self, line: &str) {
        if !self.quiet {
            aside(&output::text::line(line));
        }
    }

    fn written(&mut self) -> std::result::Result<(), Failure> {
        written(std::mem::replace(&mut self.result, Ok(())))
    }
}

/// One of several documents: a line of JSON, or YAML behind its marker.
#[must_use]
pub fn document(format: Format, value: &Value) -> String {
    match format {
        Format::Yaml => format!("---\n{}", output::json::yaml(value)),
        Format::Json | Format::Table => output::json::line(value),
    }
}

fn written(result: Result<()>) -> std::result::Result<(), Failure> {
    match result {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, "output", format!("the result could not be written: {error}")))
        }
        _ => Ok(()),
    }
}
