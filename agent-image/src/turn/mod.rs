//! Turns: a message comes in, the model is asked, its tools are used, an answer goes out.

mod about;
mod asks;
mod desk;
mod history;
mod live;
mod prompt;
mod question;
mod record;
mod work;

pub use desk::Desk;

use std::path::PathBuf;
use std::time::Duration;

use agentbot_wire::TurnId;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::log::Log;
use desk::Job;
use live::Outcome;
use record::{Record, Records};

/// The longest turn. The daemon gives up earlier; this ends what it forgot.
const TURN_LIMIT: Duration = Duration::from_secs(30 * 60);

/// What turns are worked on with.
#[derive(Debug)]
pub struct Bench<'a> {
    /// Where they meet the link.
    pub desk: &'a Desk,
    /// The daemon's socket; the file `nonce` lies beside it.
    pub socket: PathBuf,
    /// The agent's own directory.
    pub workspace: PathBuf,
    /// The log.
    pub log: &'a Log,
}

/// Works on turns for as long as the agent lives, several at once.
pub async fn drive(bench: &Bench<'_>, mut jobs: mpsc::Receiver<Job>) {
    let records = Records::of(&bench.workspace);
    let mut working = FuturesUnordered::new();
    loop {
        tokio::select! {
            job = jobs.recv() => match job {
                Some(job) => working.push(one(bench, &records, job)),
                None => return,
            },
            Some(()) = working.next() => {}
        }
    }
}

async fn one(bench: &Bench<'_>, records: &Records, job: Job) {
    let Job { run, cancelled } = job;
    let turn = run.turn.clone();
    bench.log.info(&format!("{turn} begins"));
    let worked = tokio::select! {
        // A cancel that was decided comes first: what it ends shall not be told.
        biased;
        () = resolved(cancelled) => None,
        worked = timeout(TURN_LIMIT, begin(bench, records, &run)) => Some(worked),
    };
    let outcome = match worked {
        Some(Ok(outcome)) => outcome,
        Some(Err(_)) => Outcome::failed("timed_out", format!("no answer in {} s", TURN_LIMIT.as_secs()), None),
        None => Outcome::failed("cancelled", "the turn was cancelled", None),
    };
    // The end is written down before it is told: should this process die in between, the next one tells it again.
    let record = Record { shown: true, outcome: Some(outcome) };
    records.keep(&turn, &record, bench.log).await;
    let Some(outcome) = record.outcome else { return };
    bench.log.info(&match &outcome {
        Outcome::Done(_) => format!("{turn} is done"),
        Outcome::Failed(fault) => format!("{turn} failed: {}", fault.message),
    });
    bench.desk.end(&turn, outcome);
}

/// Looks whether an earlier process had the turn, then works on it.
async fn begin(bench: &Bench<'_>, records: &Records, run: &agentbot_wire::TurnRun) -> Outcome {
    match records.find(&run.turn, bench.log).await {
        Some(Record { outcome: Some(outcome), .. }) => return outcome,
        Some(Record { shown: true, .. }) => return interrupted(),
        Some(Record { shown: false, .. }) | None => {}
    }
    records.keep(&run.turn, &Record { shown: false, outcome: None }, bench.log).await;
    work::answer(bench, run, &Shown { bench, records, turn: &run.turn, noted: false.into() }).await
}

fn interrupted() -> Outcome {
    let hint = Some("ask again with `chat.retry`".to_owned());
    Outcome::failed("interrupted", "the agent stopped in the middle of its answer", hint)
}

/// Notes that a turn shows something, before it does.
#[derive(Debug)]
struct Shown<'a> {
    bench: &'a Bench<'a>,
    records: &'a Records,
    turn: &'a TurnId,
    noted: std::cell::Cell<bool>,
}

impl Shown<'_> {
    async fn note(&self) {
        if !self.noted.replace(true) {
            let record = Record { shown: true, outcome: None };
            self.records.keep(self.turn, &record, self.bench.log).await;
        }
    }
}

/// Resolves when the turn is cancelled; a sender that went away without a word did not cancel.
async fn resolved(cancelled: oneshot::Receiver<()>) {
    if cancelled.await.is_err() {
        std::future::pending::<()>().await;
    }
}
