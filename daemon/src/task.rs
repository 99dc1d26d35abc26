//! Background tasks: one activation at a time each, woken at the start, by a signal or by a period.
//!
//! A task takes no input. What woke it says only that something may have changed; it looks at everything itself, so the
//! happy case, the retry and the first pass after a restart are the same code. Retries inside a task are not needed: the
//! next activation is the retry. What each task last did is a query, not a search in the log.

mod marks;

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agentbot_wire::TaskStatus;
use futures_util::FutureExt;
use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::{Error, Result};

pub use marks::Marks;

/// Work that is done again and again.
pub trait Task: Send + 'static {
    /// Its name in status and log: lower case, words joined by underscores.
    fn name(&self) -> &'static str;

    /// Does it once, whatever is due, and says what was done in a few words.
    ///
    /// # Errors
    /// When it could not; the next activation tries again.
    fn activate(&mut self) -> impl Future<Output = Result<String>> + Send;
}

/// Wakes one task. It can be made, cloned and given away before the task exists; wake-ups that come while the task is
/// at work or not yet there join into one further activation.
#[derive(Clone, Debug, Default)]
pub struct Activator(Arc<Notify>);

impl Activator {
    /// One that wakes nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Has the task run, or run once more when it is at work now. Never waits.
    pub fn activate(&self) {
        self.0.notify_one();
    }
}

/// Runs tasks until it is told to stop, and knows what each did last.
#[derive(Clone, Debug)]
pub struct Driver {
    tracker: TaskTracker,
    stop: CancellationToken,
    status: Arc<Mutex<Vec<watch::Receiver<TaskStatus>>>>,
}

impl Driver {
    /// A driver whose tasks live in `tracker` and end with `stop`. An activation at work then is not cut off: whoever
    /// waits for the tracker decides for how long.
    #[must_use]
    pub fn new(tracker: TaskTracker, stop: CancellationToken) -> Self {
        Self { tracker, stop, status: Arc::default() }
    }

    /// Starts a task: it runs at once, then whenever `activator` says so, and at the latest `period()` after it last
    /// ended. `period` is asked each time, so that it may follow the configuration. The receiver sees each change of its
    /// status.
    pub fn spawn<T: Task>(
        &self,
        task: T,
        period: impl Fn() -> Duration + Send + 'static,
        activator: Activator,
    ) -> watch::Receiver<TaskStatus> {
        let (sender, receiver) = watch::channel(idle(task.name()));
        self.status.lock().unwrap_or_else(PoisonError::into_inner).push(receiver.clone());
        self.tracker.spawn(run(task, period, activator, sender, self.stop.clone()));
        receiver
    }

    /// Wakes a task with every change of a watched value, until its sender is gone or the driver stops.
    pub fn wake_on_change<V: Send + Sync + 'static>(&self, mut value: watch::Receiver<V>, activator: Activator) {
        let stop = self.stop.clone();
        self.tracker.spawn(stop.run_until_cancelled_owned(async move {
            while value.changed().await.is_ok() {
                activator.activate();
            }
        }));
    }

    /// What every task last did, in the order they were started.
    #[must_use]
    pub fn status(&self) -> Vec<TaskStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|task| task.borrow().clone()).collect()
    }
}

fn idle(name: &str) -> TaskStatus {
    TaskStatus {
        name: name.to_owned(),
        running: false,
        reason: None,
        started_at: None,
        duration_ms: None,
        result: None,
        runs: 0,
        failures: 0,
    }
}

async fn run<T: Task>(
    mut task: T,
    period: impl Fn() -> Duration,
    activator: Activator,
    status: watch::Sender<TaskStatus>,
    stop: CancellationToken,
) {
    let mut reason = "start";
    loop {
        if stop.is_cancelled() {
            return;
        }
        activate(&mut task, reason, &status).await;
        reason = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = activator.0.notified() => "signal",
            () = sleep(period()) => "period",
        };
    }
}

async fn activate<T: Task>(task: &mut T, reason: &str, status: &watch::Sender<TaskStatus>) {
    let name = task.name();
    let begun = Instant::now();
    status.send_modify(|status| {
        status.running = true;
        status.reason = Some(reason.to_owned());
        status.started_at = Some(Timestamp::now());
    });
    let outcome = match AssertUnwindSafe(task.activate()).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(panic) => Err(Error::internal(format!("panicked: {}", words(panic.as_ref())))),
    };
    let failed = outcome.is_err();
    let said = match outcome {
        Ok(said) => {
            tracing::debug!(task.name = name, task.reason = reason, "task {name} ran: {said}");
            said
        }
        Err(error) => format!("failed: {error}"),
    };
    let repeated = status.borrow().result.as_deref() == Some(said.as_str());
    if failed && !repeated {
        tracing::error!(task.name = name, task.reason = reason, "task {name} {said}; it will be tried again");
    }
    status.send_modify(|status| {
        status.running = false;
        status.duration_ms = Some(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
        status.result = Some(said);
        status.runs += 1;
        status.failures += u64::from(failed);
    });
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const PERIOD: Duration = Duration::from_secs(5);

    /// Counts its activations, takes as long as told, and fails as told.
    struct Counting<F> {
        runs: Arc<AtomicUsize>,
        takes: Duration,
        outcome: F,
    }

    impl<F: FnMut(usize) -> Result<String> + Send + 'static> Task for Counting<F> {
        fn name(&self) -> &'static str {
            "counting"
        }

        async fn activate(&mut self) -> Result<String> {
            let run = self.runs.fetch_add(1, Ordering::SeqCst) + 1;
            sleep(self.takes).await;
            (self.outcome)(run)
        }
    }

    struct World {
        driver: Driver,
        tracker: TaskTracker,
        stop: CancellationToken,
        activator: Activator,
        runs: Arc<AtomicUsize>,
    }

    impl World {
        fn new() -> Self {
            let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
            let driver = Driver::new(tracker.clone(), stop.clone());
            Self { driver, tracker, stop, activator: Activator::new(), runs: Arc::default() }
        }

        fn spawn(
            &self,
            takes: Duration,
            outcome: impl FnMut(usize) -> Result<String> + Send + 'static,
        ) -> watch::Receiver<TaskStatus> {
            let task = Counting { runs: self.runs.clone(), takes, outcome };
            self.driver.spawn(task, || PERIOD, self.activator.clone())
        }

        fn runs(&self) -> usize {
            self.runs.load(Ordering::SeqCst)
        }
    }

    fn fine(_: usize) -> Result<String> {
        Ok("fine".to_owned())
    }

    async fn ended(status: &mut watch::Receiver<TaskStatus>, runs: u64) -> TaskStatus {
        status.wait_for(|status| status.runs == runs && !status.running).await.unwrap().clone()
    }

    #[tokio::test(start_paused = true)]
    async fn runs_at_the_start_and_then_by_its_period() {
        let world = World::new();
        let mut status = world.spawn(Duration::ZERO, fine);
        assert_eq!(ended(&mut status, 1).await.reason.as_deref(), Some("start"));
        let begun = Instant::now();
        let second = ended(&mut status, 2).await;
        assert_eq!(begun.elapsed(), PERIOD);
        assert_eq!(second.reason.as_deref(), Some("period"));
        assert_eq!(second.result.as_deref(), Some("fine"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_before_the_task_exists_is_not_lost() {
        let world = World::new();
        world.activator.activate();
        let begun = Instant::now();
        let mut status = world.spawn(Duration::ZERO, fine);
        assert_eq!(ended(&mut status, 2).await.reason.as_deref(), Some("signal"));
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn signals_during_an_activation_join_into_one() {
        let world = World::new();
        let mut status = world.spawn(Duration::from_secs(1), fine);
        status.wait_for(|status| status.running).await.unwrap();
        for _ in 0..100 {
            world.activator.activate();
        }
        ended(&mut status, 2).await;
        sleep(PERIOD - Duration::from_millis(1)).await;
        assert_eq!(world.runs(), 2, "one activation for a hundred signals");
    }

    #[tokio::test(start_paused = true)]
    async fn the_period_counts_from_the_end_of_an_activation() {
        let world = World::new();
        let begun = Instant::now();
        let mut status = world.spawn(3 * PERIOD, fine);
        let first = ended(&mut status, 1).await;
        assert_eq!(first.duration_ms, Some(15_000));
        status.wait_for(|status| status.running).await.unwrap();
        assert_eq!(begun.elapsed(), 4 * PERIOD);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_shown_and_the_task_goes_on() {
        let world = World::new();
        let mut status = world.spawn(Duration::ZERO, |run| match run {
            1 => Err(Error::conflict("the moon is full")),
            _ => fine(run),
        });
        let first = ended(&mut status, 1).await;
        assert_eq!(first.result.as_deref(), Some("failed: the moon is full"));
        let second = ended(&mut status, 2).await;
        assert_eq!((second.result.as_deref(), second.failures), (Some("fine"), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_counted_and_the_task_goes_on() {
        let world = World::new();
        let mut status = world.spawn(Duration::ZERO, |run| {
            assert!(run != 1, "out of luck");
            fine(run)
        });
        let first = ended(&mut status, 1).await;
        assert!(first.result.unwrap().contains("panicked: out of luck"));
        assert_eq!(first.failures, 1);
        let second = ended(&mut status, 2).await;
        assert_eq!((second.result.as_deref(), second.failures), (Some("fine"), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_lets_the_activation_end_and_starts_no_other() {
        let world = World::new();
        let mut status = world.spawn(Duration::from_secs(1), fine);
        status.wait_for(|status| status.running).await.unwrap();
        world.activator.activate();
        world.stop.cancel();
        world.tracker.close();
        world.tracker.wait().await;
        assert_eq!(world.driver.status()[0].runs, 1);
        assert_eq!(world.runs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_value_wakes_the_task() {
        let world = World::new();
        let mut status = world.spawn(Duration::ZERO, fine);
        let (value, receiver) = watch::channel(0);
        world.driver.wake_on_change(receiver, world.activator.clone());
        ended(&mut status, 1).await;
        let begun = Instant::now();
        value.send_replace(1);
        assert_eq!(ended(&mut status, 2).await.reason.as_deref(), Some("signal"));
        assert_eq!(begun.elapsed(), Duration::ZERO);
        world.stop.cancel();
        world.tracker.close();
        world.tracker.wait().await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_period_is_asked_each_time() {
        let world = World::new();
        let runs = world.runs.clone();
        let task = Counting { runs: world.runs.clone(), takes: Duration::ZERO, outcome: fine };
        let period = move || PERIOD * u32::try_from(runs.load(Ordering::SeqCst)).unwrap();
        let mut status = world.driver.spawn(task, period, world.activator.clone());
        let begun = Instant::now();
        ended(&mut status, 3).await;
        assert_eq!(begun.elapsed(), 3 * PERIOD, "one period after the first, two after the second");
    }
}
