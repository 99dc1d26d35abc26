//! What systemd is told: ready, alive, stopping. Without systemd nobody listens, and nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::instance::Pulse;

/// The reconciler's loop turns at least every few seconds; silent for so long it hangs.
const HANGS_AFTER: Duration = Duration::from_secs(30);

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// The daemon serves.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// The daemon drains.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

/// Tells the watchdog that the daemon lives, as long as the reconciler does.
pub fn keep_alive(tasks: &TaskTracker, pulse: Pulse, stop: CancellationToken) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    tasks.spawn(async move {
        let mut half = tokio::time::interval(limit / 2);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = half.tick() => {}
            }
            if pulse.age() < HANGS_AFTER {
                tell(NotifyState::Watchdog);
            } else {
                tracing::error!(silent.for_s = pulse.age().as_secs(), "the reconciler hangs; the watchdog is not told");
            }
        }
    });
}
