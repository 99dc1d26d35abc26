//! How fast one may speak: a burst, and then a steady pace.

use std::time::Duration;

use tokio::time::Instant;

/// A burst and what comes after it.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// So many may come at once.
    pub burst: u32,
    /// Time after which one more may come.
    pub each: Duration,
}

/// A store of what may come, refilled at a steady pace.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    pace: Pace,
    /// When it will be full.
    full_at: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(pace: Pace) -> Self {
        Self { pace, full_at: Instant::now() }
    }

    /// Takes one out; says whether there was one.
    pub fn take(&mut self) -> bool {
        let now = Instant::now();
        let full_at = self.full_at.max(now) + self.pace.each;
        let fits = full_at.duration_since(now) <= self.pace.each * self.pace.burst;
        if fits {
            self.full_at = full_at;
        }
        fits
    }

    /// Whether it is as good as a new one.
    pub fn is_full(&self) -> bool {
        self.full_at <= Instant::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { burst: 200, each: Duration::from_millis(20) };

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_so_many_a_second() {
        let mut bucket = Bucket::new(PACE);
        assert!((0..PACE.burst).all(|_| bucket.take()));
        assert!(!bucket.take());
        for _ in 0..100 {
            tokio::time::advance(PACE.each).await;
            assert!(bucket.take());
            assert!(!bucket.take());
        }
        assert!(!bucket.is_full());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(bucket.is_full());
        assert!((0..PACE.burst).all(|_| bucket.take()));
        assert!(!bucket.take(), "what was not used is not saved up beyond the burst");
    }
}
