//! What a daemon remembers of a slot between two looks, by the monotonic clock. A daemon that starts again gives every
//! agent its full time anew.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agentbot_wire::SlotId;
use tokio::time::Instant;

use super::context::Context;
use super::exit::Verdict;
use super::plan::{Container, Vitals};
use crate::engine::RunState;
use crate::link::LinkState;

/// One run of a container, from start to exit.
#[derive(Debug)]
struct Run {
    /// The container and when it was started.
    of: String,
    /// When it was first seen running.
    since: Instant,
    /// When its agent last gave a sign of life.
    last_sign: Option<Instant>,
}

/// What is remembered, by slot.
#[derive(Debug, Default)]
pub struct Memory {
    runs: Mutex<HashMap<SlotId, Run>>,
    verdicts: Mutex<HashMap<SlotId, Verdict>>,
}

// Every statement leaves the maps whole, so a panic elsewhere cannot have broken them.
fn open<T>(map: &Mutex<T>) -> MutexGuard<'_, T> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    /// Remembers why an agent was killed, for when its exit is accounted for.
    pub fn condemn(&self, slot: &SlotId, verdict: Verdict) {
        open(&self.verdicts).insert(slot.clone(), verdict);
    }

    /// Why an agent was killed, once.
    pub fn take_verdict(&self, slot: &SlotId) -> Option<Verdict> {
        open(&self.verdicts).remove(slot)
    }

    /// Forgets a slot that is no more.
    pub fn forget(&self, slot: &SlotId) {
        open(&self.runs).remove(slot);
        self.take_verdict(slot);
    }

    /// What the agent has shown of life in this run of its container.
    #[must_use]
    pub fn vitals(&self, context: &Context, slot: &SlotId, container: &Container) -> Vitals {
        let ping = context.config.load().beat.ping_timeout;
        self.look(slot, run_of(container), context.links.state(slot).as_ref(), ping)
    }

    fn look(&self, slot: &SlotId, run: Option<String>, link: Option<&LinkState>, ping: Duration) -> Vitals {
        let mut runs = open(&self.runs);
        let Some(of) = run else {
            runs.remove(slot);
            return Vitals::default();
        };
        let now = Instant::now();
        let fresh = || Run { of: of.clone(), since: now, last_sign: None };
        let run = runs.entry(slot.clone()).or_insert_with(fresh);
        if run.of != of {
            *run = fresh();
        }
        let link = link.filter(|link| link.beats > 0);
        if let Some(link) = link {
            run.last_sign = now.checked_sub(link.silent_for);
        }
        Vitals {
            running_for: now.duration_since(run.since),
            greeted: run.last_sign.is_some(),
            alive: link.is_some(),
            healthy_for: link.map(|link| link.healthy_for).unwrap_or_default(),
            silent_for: run.last_sign.map(|at| now.duration_since(at)).unwrap_or_default(),
            ping_unanswered: link.is_none_or(|link| link.ping_open_for.is_some_and(|open| open >= ping)),
        }
    }
}

fn run_of(container: &Container) -> Option<String> {
    match container {
        Container::Ours { observed, .. } if observed.state == RunState::Running => {
            let started = observed.started_at.map_or_else(String::new, |at| at.to_string());
            Some(format!("{}@{started}", observed.id))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: Duration = Duration::from_secs(2);

    fn link(silent: u64) -> LinkState {
        LinkState {
            runtime: "r".to_owned(),
            version: "1".to_owned(),
            connected_for: Duration::from_secs(silent),
            silent_for: Duration::from_secs(silent),
            healthy_for: Duration::from_secs(silent),
            beats: 1,
            last_beat: None,
            ping_open_for: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_link_is_silence_from_its_last_sign_on_and_not_a_missing_hello() {
        let (memory, slot) = (Memory::default(), SlotId::mint());
        let look = |run: &str, link: Option<&LinkState>| memory.look(&slot, Some(run.to_owned()), link, PING);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!look("first", None).greeted);
        assert!(look("first", Some(&link(1))).greeted);
        tokio::time::sleep(Duration::from_secs(4)).await;
        let lost = look("first", None);
        assert_eq!((lost.greeted, lost.alive, lost.silent_for), (true, false, Duration::from_secs(5)));
        assert!(lost.ping_unanswered, "nobody is there to answer");
        assert!(!look("second", None).greeted, "another run owes its own hello");
    }
}
