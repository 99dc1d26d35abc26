//! Waiting for what comes in its own time.

use std::time::{Duration, Instant};

/// Asks `probe` until it gives a value.
///
/// # Panics
/// Past the deadline, with what the probe said last.
pub async fn eventually<T>(what: &str, deadline: Duration, mut probe: impl AsyncFnMut() -> Result<T, String>) -> T {
    const FIRST_PAUSE: Duration = Duration::from_millis(10);
    const LONGEST_PAUSE: Duration = Duration::from_millis(100);
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let seen = match probe().await {
            Ok(value) => return value,
            Err(seen) => seen,
        };
        assert!(begun.elapsed() < deadline, "waited {deadline:?} for {what}; last seen: {seen}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
