//! Whether the engine answers, since when, and what it is.

use agentbot_wire::{ApiError, Code, EngineStatus};
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Mutex, watch};

use super::{Engine, Exit, Facts};
use crate::error::{Error, Result};

/// An engine that goes away ends its containers first: exits so shortly before the break are its doing.
const LAST_ORDERS: SignedDuration = SignedDuration::from_secs(20);
/// Exits noticed so shortly after it came back may carry the time of its start.
const FIRST_ORDERS: SignedDuration = SignedDuration::from_secs(2);

#[derive(Clone, Debug)]
struct State {
    facts: Option<Arc<Facts>>,
    available: bool,
    since: Timestamp,
    error: Option<ApiError>,
    /// When this daemon began to watch.
    born: Timestamp,
    /// The last time it was away, from and to.
    away: Option<(Timestamp, Option<Timestamp>)>,
}

/// The engine and what is known of its presence.
#[derive(Clone)]
pub struct Presence {
    engine: Arc<dyn Engine>,
    state: Arc<watch::Sender<State>>,
    /// How many questions were answered, and the turn to ask.
    asked: Arc<(AtomicU64, Mutex<()>)>,
}

impl Presence {
    /// An engine that has not been asked yet.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        let state = State {
            facts: None,
            available: false,
            since: Timestamp::now(),
            error: Some(Error::new(Code::EngineUnavailable, "the engine has not answered yet").to_api()),
            born: Timestamp::now(),
            away: None,
        };
        Self { engine, state: Arc::new(watch::Sender::new(state)), asked: Arc::default() }
    }

    /// The engine itself.
    #[must_use]
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// What it is, while it answers.
    ///
    /// # Errors
    /// Why it does not answer.
    pub fn facts(&self) -> Result<Arc<Facts>> {
        let state = self.state.borrow();
        match (&state.facts, &state.error) {
            (Some(facts), _) if state.available => Ok(Arc::clone(facts)),
            (_, Some(error)) => Err(error.clone().into()),
            (_, None) => Err(Error::new(Code::EngineUnavailable, "the engine does not answer")),
        }
    }

    /// Whether it was asked and does not answer: before the first question nobody knows.
    #[must_use]
    pub fn is_away(&self) -> bool {
        let state = self.state.borrow();
        !state.available && state.away.is_some()
    }

    /// What it was when it last answered.
    #[must_use]
    pub fn last_facts(&self) -> Option<Arc<Facts>> {
        self.state.borrow().facts.clone()
    }

    /// Asks it who it is, and records that it answers, or why not. Says whether it does. Whoever asks at the same time
    /// gets the same answer.
    pub async fn ask(&self) -> bool {
        let (answered, turn) = &*self.asked;
        let before = answered.load(Ordering::Acquire);
        let _turn = turn.lock().await;
        if answered.load(Ordering::Acquire) != before {
            return self.state.borrow().available;
        }
        let facts = self.engine.facts().await;
        answered.fetch_add(1, Ordering::Release);
        match facts {
            Ok(facts) => {
                self.state.send_if_modified(|state| {
                    let news = !state.available;
                    if news {
                        let now = Timestamp::now();
                        state.since = now;
                        state.away = state.away.map(|(from, to)| (from, to.or(Some(now))));
                    }
                    (state.available, state.error, state.facts) = (true, None, Some(Arc::new(facts)));
                    news
                });
                true
            }
            Err(error) => {
                self.lost(&error);
                false
            }
        }
    }

    /// Records that it does not answer. Says whether that is news.
    pub fn lost(&self, error: &Error) -> bool {
        self.state.send_if_modified(|state| {
            let news = state.available || state.away.is_none();
            if news {
                let now = Timestamp::now();
                (state.available, state.since, state.away) = (false, now, Some((now, None)));
            }
            state.error = Some(error.to_api());
            news
        })
    }

    /// Whether an exit is not to be held against the agent: it came with an engine that went away, or before this daemon
    /// watched, when host and engine may have ended it as well.
    #[must_use]
    pub fn excuses(&self, exit: &Exit) -> bool {
        let State { born, away, .. } = *self.state.borrow();
        exit.finished_at.is_some_and(|at| at < born || away.is_some_and(|(from, to)| in_outage(at, from, to)))
    }

    /// From when on exits are excused by the last outage.
    #[must_use]
    pub fn excused_since(&self) -> Option<Timestamp> {
        self.state.borrow().away.and_then(|(from, _)| from.checked_sub(LAST_ORDERS).ok())
    }

    /// Waits until it is there or gone, whichever it was not.
    pub async fn changed(&self) {
        self.follow().changed().await;
    }

    /// Sees every coming and going from now on.
    #[must_use]
    pub fn follow(&self) -> Presences {
        Presences(self.state.subscribe())
    }

    /// Its status for people.
    #[must_use]
    pub fn status(&self) -> EngineStatus {
        let state = self.state.borrow();
        EngineStatus {
            available: state.available,
            since: state.since,
            version: state.facts.as_ref().map(|facts| facts.version.clone()),
            api_version: state.facts.as_ref().map(|facts| facts.api_version.clone()),
            error: state.error.as_ref().map(|error| error.message.clone()),
        }
    }
}

/// The comings and goings of an engine.
pub struct Presences(watch::Receiver<State>);

impl Presences {
    /// Waits for the next one, at once when one was missed, and says whether the engine answers now.
    pub async fn changed(&mut self) -> bool {
        // The sender lives as long as the presence; without it nothing changes any more.
        if self.0.changed().await.is_err() {
            return std::future::pending().await;
        }
        self.0.borrow_and_update().available
    }
}

fn in_outage(at: Timestamp, from: Timestamp, to: Option<Timestamp>) -> bool {
    let begun = from.checked_sub(LAST_ORDERS).is_ok_and(|from| at >= from);
    let ended = to.and_then(|to| to.checked_add(FIRST_ORDERS).ok()).is_some_and(|to| at > to);
    begun && !ended
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000 + second).unwrap()
    }

    #[test]
    fn exits_around_an_outage_are_the_engines_doing() {
        assert!(in_outage(at(-20), at(0), Some(at(10))));
        assert!(!in_outage(at(-21), at(0), Some(at(10))));
        assert!(in_outage(at(12), at(0), Some(at(10))));
        assert!(!in_outage(at(13), at(0), Some(at(10))));
        assert!(in_outage(at(500), at(0), None), "an outage that goes on has no end");
    }
}
