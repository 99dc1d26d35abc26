//! Where the link and the turns meet: what the daemon asks for is put here, and what the turns have to say is taken
//! from here. Everything is bounded by the number of turns and by the longest answer; nothing waits.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use agentbot_wire::{ApiError, Code, Frame, ToolCall, TurnCancel, TurnId, TurnRun, Welcome};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::about::About;
use super::asks::{Asks, Reply};
use super::live::{Live, Outcome};

/// Turns that are worked on at once.
pub const MAX_TURNS: usize = 4;
/// Ended turns whose outcome is at hand; older ones are read from the workspace.
const MAX_ENDED: usize = 16;
/// The daemon, connected, has this long to answer a request.
const ASK_LIMIT: Duration = Duration::from_secs(20);
/// A turn that the daemon does not ask for again within this time on a new connection is wanted by nobody.
const FORSAKEN_AFTER: Duration = Duration::from_secs(60);

/// A turn to work on.
#[derive(Debug)]
pub struct Job {
    /// What is asked for.
    pub run: TurnRun,
    /// Resolves when nobody wants the answer any more.
    pub cancelled: oneshot::Receiver<()>,
}

/// Whether there is a link, and which one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Counts links.
    pub number: u64,
    /// Whether it is up.
    pub up: bool,
}

#[derive(Debug)]
struct State {
    about: About,
    live: Vec<Live>,
    ended: VecDeque<(TurnId, Outcome)>,
    /// Outcomes to say again.
    again: Vec<(TurnId, Outcome)>,
    asks: Asks,
    linked_at: Instant,
    /// The id of a drain that waits for its answer.
    drain: Option<String>,
    draining: bool,
    ending: bool,
    /// Whether frames were taken that are not yet on their way.
    in_flight: bool,
}

/// The place where link and turns meet.
#[derive(Debug)]
pub struct Desk {
    state: RefCell<State>,
    jobs: mpsc::Sender<Job>,
    /// Something may be due for the link.
    news: Notify,
    /// A turn ended, or its end went out.
    progress: Notify,
    line: watch::Sender<Line>,
}

impl Desk {
    /// A desk without work, and where its jobs come out.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Job>) {
        let (jobs, queue) = mpsc::channel(MAX_TURNS);
        let state = State {
            about: About::default(),
            live: Vec::new(),
            ended: VecDeque::new(),
            again: Vec::new(),
            asks: Asks::default(),
            linked_at: Instant::now(),
            drain: None,
            draining: false,
            ending: false,
            in_flight: false,
        };
        let (line, _) = watch::channel(Line::default());
        (Self { state: RefCell::new(state), jobs, news: Notify::new(), progress: Notify::new(), line }, queue)
    }

    // The link's side.

    /// A link is up.
    pub fn joined(&self, welcome: &Welcome) {
        let mut state = self.state.borrow_mut();
        state.about = About::from_welcome(welcome);
        // A daemon that comes back did not stop this agent after all.
        state.draining = state.ending;
        state.linked_at = Instant::now();
        drop(state);
        self.line.send_modify(|line| *line = Line { number: line.number + 1, up: true });
    }

    /// The link is gone. Turns go on.
    pub fn left(&self) {
        let mut state = self.state.borrow_mut();
        state.live.retain_mut(Live::detach);
        state.asks.lost();
        state.again.clear();
        state.drain = None;
        state.in_flight = false;
        drop(state);
        self.line.send_modify(|line| line.up = false);
        self.progress.notify_one();
    }

    /// The agent's configuration was changed.
    pub fn changed(&self, payload: &Value) {
        let mut state = self.state.borrow_mut();
        state.about = state.about.with_change(payload);
    }

    /// The daemon asks for a turn. `Ok` says that the agent has it.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn run(&self, params: Value) -> Result<Value, ApiError> {
        let run: TurnRun = read(params)?;
        let mut state = self.state.borrow_mut();
        if let Some(live) = state.live.iter_mut().find(|live| live.turn == run.turn) {
            live.attach();
        } else if let Some(ended) = state.ended.iter().find(|(turn, _)| *turn == run.turn).cloned() {
            state.again.push(ended);
        } else if state.draining {
            return Err(refusal(Code::ShuttingDown, "this agent is about to end", "send the turn to its next process"));
        } else if state.live.iter().filter(|live| live.works()).count() >= MAX_TURNS {
            let message = format!("this agent works on {MAX_TURNS} turns, which is as many as it can");
            return Err(refusal(Code::Busy, message, "send the turn again when one has ended"));
        } else {
            let (cancel, cancelled) = oneshot::channel();
            let live = Live::begin(run.turn.clone(), cancel);
            if self.jobs.try_send(Job { run, cancelled }).is_err() {
                return Err(refusal(Code::Busy, "this agent cannot take a turn now", "send the turn again"));
            }
            state.live.push(live);
        }
        Ok(json!({}))
    }

    /// Nobody wants a turn's answer any more. One that is not known is no fault.
    ///
    /// # Errors
    /// When the params are not of their shape.
    pub fn cancel(&self, params: Value) -> Result<Value, ApiError> {
        let TurnCancel { turn } = read(params)?;
        let mut state = self.state.borrow_mut();
        if let Some(at) = state.live.iter().position(|live| live.turn == turn) {
            let live = state.live.swap_remove(at);
            if live.works() {
                state.remember(turn, Outcome::failed("cancelled", "the turn was cancelled", None));
            }
            if let Some(cancel) = live.cancel {
                // Its work may be over.
                let _ = cancel.send(());
            }
        }
        drop(state);
        self.progress.notify_one();
        Ok(json!({}))
    }

    /// The daemon is about to stop this agent. The answer comes with [`Desk::take`] once nothing is under way.
    pub fn drain(&self, id: String) {
        let mut state = self.state.borrow_mut();
        state.draining = true;
        state.drain = Some(id);
    }

    /// The daemon's answer to a request of ours; one that nobody waits for is dropped.
    pub fn answered(&self, id: &str, reply: Reply) {
        self.state.borrow_mut().asks.answered(id, reply);
    }

    /// Returns when there is something to send.
    pub async fn due(&self) {
        loop {
            match self.next_due() {
                Some(at) if at <= Instant::now() => return,
                Some(at) => tokio::select! {
                    () = sleep_until(at) => return,
                    () = self.news.notified() => {}
                },
                None => self.news.notified().await,
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let state = self.state.borrow();
        if !state.again.is_empty() || state.asks.is_due() || state.is_drained() {
            return Some(Instant::now());
        }
        state.live.iter().filter_map(Live::due).min()
    }

    /// Takes the frames that are to be sent now.
    pub fn take(&self, frames: &mut Vec<Frame>) {
        let now = Instant::now();
        let mut state = self.state.borrow_mut();
        state.asks.take(frames);
        frames.extend(state.again.drain(..).map(|(turn, outcome)| outcome.frame(&turn)));
        state.live.retain_mut(|live| !live.take(now, frames));
        if state.is_drained()
            && let Some(id) = state.drain.take()
        {
            frames.push(Frame::answer(&id, json!({})));
        }
        state.in_flight = !frames.is_empty();
    }

    /// What was taken is on its way.
    pub fn flushed(&self) {
        self.state.borrow_mut().in_flight = false;
        self.progress.notify_one();
    }

    /// Ends turns that the daemon has not asked for again since long.
    pub fn forsake(&self) {
        let state = self.state.borrow();
        if state.linked_at.elapsed() < FORSAKEN_AFTER {
            return;
        }
        let forsaken: Vec<TurnId> =
            state.live.iter().filter(|live| !live.is_attached()).map(|live| live.turn.clone()).collect();
        drop(state);
        for turn in forsaken {
            let _ = self.cancel(json!({ "turn": turn }));
        }
    }

    // The turns' side.

    /// What is known of the agent now.
    #[must_use]
    pub fn about(&self) -> About {
        self.state.borrow().about.clone()
    }

    /// How many turns are under way.
    #[must_use]
    pub fn turns(&self) -> u32 {
        u32::try_from(self.state.borrow().live.iter().filter(|live| live.works()).count()).unwrap_or(u32::MAX)
    }

    /// The link as it is and will be.
    #[must_use]
    pub fn line(&self) -> watch::Receiver<Line> {
        self.line.subscribe()
    }

    /// Lets a turn's text be changed; `None` when nobody wants the turn any more.
    pub fn with<T>(&self, turn: &TurnId, change: impl FnOnce(&mut Live) -> T) -> Option<T> {
        let changed = self.state.borrow_mut().live.iter_mut().find(|live| live.turn == *turn).map(change);
        self.news.notify_one();
        changed
    }

    /// Tells the use of a tool.
    pub fn tool(&self, turn: &TurnId, call: ToolCall) {
        self.with(turn, |live| live.tool(call));
    }

    /// Ends a turn.
    pub fn end(&self, turn: &TurnId, outcome: Outcome) {
        let mut state = self.state.borrow_mut();
        if let Some(at) = state.live.iter().position(|live| live.turn == *turn) {
            state.remember(turn.clone(), outcome.clone());
            if !state.live[at].end(outcome) {
                state.live.swap_remove(at);
            }
        }
        drop(state);
        self.news.notify_one();
        self.progress.notify_one();
    }

    /// Asks the daemon. Without a link the request waits for one; on a new link it is repeated.
    ///
    /// # Errors
    /// The daemon's; `timed_out` when it does not answer on a link that stays up.
    pub async fn ask<T: DeserializeOwned>(&self, method: &str, params: &impl Serialize) -> Result<T, ApiError> {
        // Texts, numbers and JSON values: they always have a JSON value.
        let (number, mut answer) =
            self.state.borrow_mut().asks.put(method, serde_json::to_value(params).unwrap_or_default());
        // A request that is given up in the middle is taken back.
        let _guard = Withdraw { desk: self, number };
        self.news.notify_one();
        loop {
            let before = *self.line.borrow();
            match timeout(ASK_LIMIT, &mut answer).await {
                Ok(Ok(reply)) => {
                    return read(reply?).map_err(|error| ApiError { hint: None, ..error });
                }
                Err(_) if *self.line.borrow() != before || !before.up => {}
                Ok(Err(_)) | Err(_) => {
                    let message = format!("the daemon did not answer `{method}` in {} s", ASK_LIMIT.as_secs());
                    return Err(ApiError { code: Code::TimedOut, message, hint: None });
                }
            }
        }
    }

    // The end.

    /// No new turns from now on; returns when those under way have ended and were told.
    pub async fn finish(&self) {
        self.last_orders();
        while !self.is_idle() {
            self.progress.notified().await;
        }
    }

    fn last_orders(&self) {
        let mut state = self.state.borrow_mut();
        state.draining = true;
        state.ending = true;
        drop(state);
        self.news.notify_one();
    }

    fn is_idle(&self) -> bool {
        let state = self.state.borrow();
        let waits = state.in_flight || !state.again.is_empty();
        state.live.is_empty() && !(self.line.borrow().up && waits)
    }
}

impl State {
    fn remember(&mut self, turn: TurnId, outcome: Outcome) {
        if self.ended.len() == MAX_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back((turn, outcome));
    }

    fn is_drained(&self) -> bool {
        self.drain.is_some() && self.live.is_empty()
    }
}

/// Takes a request back when nobody waits for its answer any more.
struct Withdraw<'a> {
    desk: &'a Desk,
    number: u64,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        self.desk.state.borrow_mut().asks.withdraw(self.number);
    }
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, ApiError> {
    serde_json::from_value(value).map_err(|error| {
        let message: String = error.to_string().chars().filter(|c| !c.is_control()).take(200).collect();
        refusal(Code::Invalid, message, "the agent protocol is described in docs/API.md")
    })
}

fn refusal(code: Code, message: impl Into<String>, hint: &str) -> ApiError {
    ApiError { code, message: message.into(), hint: Some(hint.to_owned()) }
}

#[cfg(test)]
mod tests;
