//! Following an operation to its end, through restarts of the daemon.

use std::cell::RefCell;
use std::pin::pin;
use std::time::Duration;

use agentbot_wire::{Operation, OperationId, OperationStatus};
use tokio::time::{Instant, MissedTickBehavior};

use crate::api::Api;
use crate::exit::{Exit, Failure};
use crate::output::text;
use crate::progress::{Progress, Track};

/// Time between two looks at the steps while somebody watches.
const LOOK: Duration = Duration::from_millis(120);
/// How long a daemon may be away before following gives up.
const AWAY: Duration = Duration::from_secs(15);
/// Time between two questions about the engine while an operation waits.
const ENGINE: Duration = Duration::from_secs(1);
/// Pause before a daemon that is away is asked again.
const PAUSE: Duration = Duration::from_millis(250);

/// Operations that are being followed: what an interrupted command leaves behind.
#[derive(Debug, Default)]
pub struct Followed(RefCell<Vec<Operation>>);

impl Followed {
    /// Those that have not ended as far as is known.
    #[must_use]
    pub fn open(&self) -> Vec<Operation> {
        self.0.borrow().clone()
    }

    fn add(&self, operation: &Operation) {
        self.0.borrow_mut().push(operation.clone());
    }

    fn remove(&self, id: &OperationId) {
        self.0.borrow_mut().retain(|operation| operation.id != *id);
    }
}

/// What following needs.
#[derive(Debug)]
pub struct Follower {
    /// The daemon.
    pub api: Api,
    /// Where progress is shown.
    pub progress: Progress,
    /// What is being followed.
    pub followed: Followed,
    /// When waiting ends.
    pub until: Instant,
}

impl Follower {
    /// Waits for an operation and gives it as it ended.
    ///
    /// # Errors
    /// When the operation failed or was cancelled, when it waits for an engine that is away, when the time is over, or
    /// when the daemon stays away. Except for the first it goes on without us, and the failure says so.
    pub async fn follow(&self, operation: Operation) -> Result<Operation, Failure> {
        if operation.status.is_ended() {
            return ended(operation);
        }
        let mut seen = operation;
        self.followed.add(&seen);
        let track = self.progress.track(&seen);
        let watched = tokio::time::timeout_at(self.until, self.watch(&mut seen, &track)).await;
        drop(track);
        self.followed.remove(&seen.id);
        match watched {
            Ok(Ok(())) => ended(seen),
            // The last request's deadline may end in the same moment as the time for the whole.
            Ok(Err(failure)) if Instant::now() < self.until => Err(failure.about(&seen)),
            Ok(Err(_)) | Err(_) => Err(too_late(&seen, self.api.timeout())),
        }
    }

    /// Looks until the operation has ended. The waiting call sees the end at once; the looks in between show the steps.
    async fn watch(&self, seen: &mut Operation, track: &Track<'_>) -> Result<(), Failure> {
        let id = seen.id.clone();
        let mut away_since = None;
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut engine_asked: Option<Instant> = None;
        let mut end = pin!(self.api.wait_a_second(&id));
        let mut asked = Instant::now();
        loop {
            let news = tokio::select! {
                news = &mut end => {
                    // A daemon that answers a wait at once must not be asked in a tight circle.
                    let next = asked + LOOK;
                    if !matches!(&news, Ok(operation) if operation.status.is_ended()) {
                        tokio::time::sleep_until(next).await;
                    }
                    asked = Instant::now();
                    end.set(self.api.wait_a_second(&id));
                    news
                }
                _ = looks.tick(), if self.progress.is_shown() => self.api.operation(&id).await,
            };
            match news {
                Ok(operation) => {
                    away_since = None;
                    *seen = operation;
                    track.show(seen);
                }
                Err(failure) if failure.is_unreachable() => {
                    let since = *away_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > AWAY {
                        return Err(failure.hint(goes_on(seen, "when agentbotd is back")));
                    }
                    track.away();
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(failure) if failure.exit == Exit::TimedOut => {
                    return Err(failure.hint(goes_on(seen, "when agentbotd answers again")));
                }
                Err(failure) => return Err(failure),
            }
            if seen.status.is_ended() {
                return Ok(());
            }
            if seen.status == OperationStatus::Waiting && engine_asked.is_none_or(|at| at.elapsed() > ENGINE) {
                engine_asked = Some(Instant::now());
                self.engine_answers(seen).await?;
            }
        }
    }

    /// An operation that waits may wait for the engine: then there is nothing to wait for here.
    async fn engine_answers(&self, operation: &Operation) -> Result<(), Failure> {
        match self.api.health().await {
            Ok(health) if !health.engine.available => {
                let why = health.engine.error.as_deref().map(|why| format!(": {}", text::line(why)));
                let message = format!("the container engine does not answer{}", why.unwrap_or_default());
                Err(Failure::new(Exit::Unreachable, "engine_unavailable", message)
                    .hint(goes_on(operation, "when the engine is back (sudo systemctl start docker)")))
            }
            _ => Ok(()),
        }
    }
}

/// Says that an operation is kept, when it goes on, and how to follow or end it.
#[must_use]
pub fn goes_on(operation: &Operation, when: &str) -> String {
    let id = &operation.id;
    format!(
        "nothing is lost, it goes on {when}\n\
         follow it: agentbotctl operation wait {id}\n\
         cancel it: agentbotctl operation cancel {id}"
    )
}

fn too_late(operation: &Operation, timeout: Duration) -> Failure {
    let kind = operation.kind;
    let message = format!("the {kind} of {} has not ended after {}", operation.agent_name, text::took(timeout));
    Failure::new(Exit::TimedOut, "timed_out", message).hint(goes_on(operation, "by itself")).about(operation)
}

/// The operation if it succeeded, else why it did not.
fn ended(operation: Operation) -> Result<Operation, Failure> {
    let failure = match (operation.status, &operation.error) {
        (OperationStatus::Succeeded, _) => return Ok(operation),
        (_, Some(error)) => Failure::from(error.clone()),
        (OperationStatus::Cancelled, None) => Failure::new(Exit::Failed, "cancelled", "the operation was cancelled"),
        (_, None) => Failure::new(Exit::Failed, "internal", "the operation failed and does not say why")
            .hint("look at `journalctl -u agentbotd`"),
    };
    Err(failure.about(&operation))
}
