//! Progress on standard error: a moving line for each operation on a terminal, one line per finished step elsewhere.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::Duration;

use agentbot_wire::{Operation, OperationStatus, Step, StepStatus};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::output::{stderr, text};

const AWAY: &str = "agentbotd is away, waiting for it";

/// How progress is shown.
#[derive(Debug)]
pub enum Progress {
    /// Not at all.
    Silent,
    /// A line per finished step.
    Plain,
    /// Moving lines.
    Moving(MultiProgress),
}

impl Progress {
    /// The way that fits where standard error goes.
    #[must_use]
    pub fn detect(quiet: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        match (quiet, std::io::stderr().is_terminal() && !dumb) {
            (true, _) => Self::Silent,
            (false, false) => Self::Plain,
            (false, true) => Self::Moving(MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(15))),
        }
    }

    /// Whether somebody looks at the steps.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        !matches!(self, Self::Silent)
    }

    /// Says a line that belongs to progress.
    pub fn say(&self, line: &str) {
        if self.is_shown() {
            self.insist(line);
        }
    }

    /// Says a line even to who wants no progress.
    pub fn insist(&self, line: &str) {
        let line = format!("{line}\n");
        match self {
            Self::Moving(lines) => lines.suspend(|| stderr(&line)),
            Self::Silent | Self::Plain => stderr(&line),
        }
    }

    /// Begins to show an operation.
    #[must_use]
    pub fn track(&self, operation: &Operation) -> Track<'_> {
        let name = text::line(&operation.agent_name);
        let bar = match self {
            Self::Moving(lines) => {
                let bar = lines.add(ProgressBar::no_length().with_style(moving()).with_prefix(name.clone()));
                bar.enable_steady_tick(Duration::from_millis(100));
                Some(bar)
            }
            Self::Silent | Self::Plain => None,
        };
        let track = Track { progress: self, name, bar, told: RefCell::default(), away: Cell::default() };
        track.show(operation);
        track
    }
}

fn moving() -> ProgressStyle {
    let elapsed = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let _ = write!(out, "{}", text::took(state.elapsed()));
    };
    ProgressStyle::with_template("{spinner:.cyan} {prefix}: {msg} {elapsed:.dim}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .with_key("elapsed", elapsed)
}

/// One operation as it is shown; what is moving goes away with it.
#[derive(Debug)]
pub struct Track<'a> {
    progress: &'a Progress,
    name: String,
    bar: Option<ProgressBar>,
    told: RefCell<Vec<bool>>,
    away: Cell<bool>,
}

impl Track<'_> {
    /// Shows how far the operation is.
    pub fn show(&self, operation: &Operation) {
        self.away.set(false);
        if let Some(bar) = &self.bar {
            bar.set_message(under_way(operation));
        } else if self.progress.is_shown() {
            for line in news(&mut self.told.borrow_mut(), &operation.steps) {
                self.progress.say(&format!("{}: {line}", self.name));
            }
        }
    }

    /// Shows that the daemon is away; told once until it is back.
    pub fn away(&self) {
        let told = self.away.replace(true);
        match &self.bar {
            Some(bar) => bar.set_message(AWAY),
            None if !told => self.progress.say(&format!("{}: {AWAY}", self.name)),
            None => {}
        }
    }
}

impl Drop for Track<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// What is being done right now, and how many steps have ended.
fn under_way(operation: &Operation) -> String {
    let done = operation.steps.iter().filter(|step| is_over(step)).count();
    let count = match operation.steps.len() {
        0 => String::new(),
        all => format!(" {done}/{all}"),
    };
    let step = operation.steps.iter().find(|step| step.status == StepStatus::Running);
    let what = match (step, operation.status) {
        (_, OperationStatus::Waiting) => {
            let why = operation.steps.iter().rev().find(|step| !is_over(step) && step.detail.is_some());
            let why = why.and_then(|step| step.detail.as_deref()).unwrap_or("will be tried again");
            format!("waiting: {}", text::shorten(&text::line(why), 40))
        }
        (Some(step), _) => text::shorten(&text::line(&step.name), 24),
        (None, status) => status.as_str().to_owned(),
    };
    format!("{}{count} {what}", operation.kind)
}

fn is_over(step: &Step) -> bool {
    matches!(step.status, StepStatus::Succeeded | StepStatus::Failed | StepStatus::Skipped)
}

/// Lines for the steps that have ended and were not told yet. A step that is begun again is told again.
fn news(told: &mut Vec<bool>, steps: &[Step]) -> Vec<String> {
    told.resize(steps.len(), false);
    let mut lines = Vec::new();
    for (step, told) in steps.iter().zip(told) {
        let over = is_over(step);
        if over && !*told {
            lines.push(sentence(step));
        }
        *told = over;
    }
    lines
}

/// A step that has ended, in a line.
#[must_use]
pub fn sentence(step: &Step) -> String {
    let mut line = text::line(&step.name);
    match step.status {
        StepStatus::Succeeded => line.push_str(" done"),
        status => {
            let _ = write!(line, " {status}");
        }
    }
    if let (Some(from), Some(to)) = (step.started_at, step.ended_at)
        && let Ok(time) = Duration::try_from(to.duration_since(from))
        && step.status != StepStatus::Skipped
    {
        let _ = write!(line, " ({})", text::took(time));
    }
    if let Some(detail) = &step.detail {
        let _ = write!(line, ": {}", text::line(detail));
    }
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn step(name: &str, status: StepStatus, detail: Option<&str>) -> Step {
        let at = |text: &str| Some(text.parse().unwrap());
        let ended = matches!(status, StepStatus::Succeeded | StepStatus::Failed | StepStatus::Skipped);
        Step {
            status,
            started_at: at("2026-01-01T00:00:00Z"),
            ended_at: at("2026-01-01T00:00:00.300Z").filter(|_| ended),
            detail: detail.map(str::to_owned),
            ..Step::pending(name)
        }
    }

    #[test]
    fn each_finished_step_is_told_once_in_a_line() {
        let mut told = Vec::new();
        let mut steps = vec![step("image", StepStatus::Skipped, None), Step::pending("create")];
        assert_eq!(news(&mut told, &steps), ["image skipped"]);
        assert!(news(&mut told, &steps).is_empty());
        steps[1] = step("create", StepStatus::Succeeded, None);
        steps.push(step("start", StepStatus::Failed, Some("no\nsuch \u{1b}[31mthing")));
        assert_eq!(news(&mut told, &steps), ["create done (0.3s)", "start failed (0.3s): no such thing"]);
        assert!(news(&mut told, &steps).is_empty());
    }

    #[test]
    fn a_step_that_is_tried_again_is_told_again() {
        let mut told = Vec::new();
        news(&mut told, &[step("hello", StepStatus::Failed, None)]);
        assert!(news(&mut told, &[step("hello", StepStatus::Running, None)]).is_empty());
        assert_eq!(news(&mut told, &[step("hello", StepStatus::Succeeded, None)]).len(), 1);
    }
}
