//! How fast one client may speak.

use std::time::Duration;

use tokio::time::Instant;

/// Frames that may come at once.
pub const BURST: u32 = 200;
/// Time after which one more may come.
const EACH: Duration = Duration::from_millis(20);

/// A store of frames that may come, refilled at a steady pace.
#[derive(Debug)]
pub struct Bucket {
    /// When it will be full.
    full_at: Instant,
}

impl Bucket {
    /// Full.
    pub fn new() -> Self {
        Self { full_at: Instant::now() }
    }

    /// Takes one frame out; says whether there was one.
    pub fn take(&mut self) -> bool {
        let now = Instant::now();
        let full_at = self.full_at.max(now) + EACH;
        let fits = full_at.duration_since(now) <= EACH * BURST;
        if fits {
            self.full_at = full_at;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_fifty_a_second() {
        let mut bucket = Bucket::new();
        assert!((0..BURST).all(|_| bucket.take()));
        assert!(!bucket.take());
        for _ in 0..100 {
            tokio::time::advance(EACH).await;
            assert!(bucket.take());
            assert!(!bucket.take());
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!((0..BURST).all(|_| bucket.take()));
        assert!(!bucket.take(), "what was not used is not saved up beyond the burst");
    }
}
