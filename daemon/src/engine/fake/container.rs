//! One container of the fake engine.

use std::time::Duration;

use jiff::Timestamp;

use crate::engine::harden::{Hardening, harden};
use crate::engine::{ContainerSpec, Exit, Facts, Observed, RunState};

/// What its process does when asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStop {
    /// Ends with this code so long after SIGTERM.
    Exits {
        /// How long it takes.
        after: Duration,
        /// Its exit code.
        code: i64,
    },
    /// Does not listen: it runs until it is killed.
    Ignores,
}

/// A container of the fake engine; public fields may be changed through [`super::Fake::disturb`].
#[derive(Clone, Debug)]
pub struct FakeContainer {
    /// What it was made from; `None` for one made by hand.
    pub spec: Option<ContainerSpec>,
    /// What an inspection shows.
    pub observed: Observed,
    /// What its process does when asked to stop: ends at once with 0 unless changed.
    pub on_stop: OnStop,
    /// Why the engine cannot start it, if it cannot.
    pub start_fails: Option<String>,
    /// What it wrote.
    pub output: String,
}

impl FakeContainer {
    pub(super) fn new(id: &str, spec: &ContainerSpec, hardening: Hardening) -> Self {
        Self {
            spec: Some(spec.clone()),
            observed: Observed {
                id: id.to_owned(),
                name: spec.name.clone(),
                labels: Some(spec.labels.clone()),
                state: RunState::Created,
                pid: None,
                started_at: None,
                exit: None,
                hardening,
                risky: Vec::new(),
            },
            on_stop: OnStop::Exits { after: Duration::ZERO, code: 0 },
            start_fails: None,
            output: String::new(),
        }
    }

    /// One as careless people make them: running, and nothing of it hardened.
    pub(super) fn foreign(id: &str, name: &str, like: &ContainerSpec, facts: &Facts) -> Self {
        let mut hardening = harden(like, facts);
        hardening.labels.clear();
        hardening.privileged = true;
        let mut container = Self::new(id, like, hardening);
        container.spec = None;
        container.observed.name = name.to_owned();
        container.observed.labels = None;
        container.observed.state = RunState::Running;
        container
    }

    /// Whether it has a process.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        matches!(self.observed.state, RunState::Running | RunState::Paused)
    }

    pub(super) fn start(&mut self, pid: u32, now: Timestamp) {
        self.observed.state = RunState::Running;
        self.observed.pid = Some(pid);
        self.observed.started_at = Some(now);
        self.observed.exit = None;
    }

    /// Says whether there was a process to end.
    pub(super) fn end(&mut self, code: i64, oom_killed: bool, now: Timestamp) -> bool {
        let alive = self.is_alive();
        if alive {
            self.observed.state = RunState::Exited;
            self.observed.pid = None;
            self.observed.exit = Some(Exit { code, oom_killed, finished_at: Some(now), error: None });
        }
        alive
    }
}
