//! How fast one client may speak.

use std::time::Duration;

use tokio::time::Instant;

use crate::identity::Actor;

/// Frames that may come at once.
pub const BURST: u32 = 200;
/// Time after which one more may come.
const EACH: Duration = Duration::from_millis(20);

/// A store of frames that may come, refilled at a steady pace. An operator's has no bottom: on this machine they may do
/// everything, and what bounds them is that requests are carried out one after another.
#[derive(Debug)]
pub struct Bucket {
    /// When it will be full; `None` for one without a bottom.
    full_at: Option<Instant>,
}

impl Bucket {
    /// A full one for this client.
    pub fn of(actor: &Actor) -> Self {
        Self { full_at: (!matches!(actor, Actor::Operator { .. })).then(Instant::now) }
    }

    /// Takes one frame out; says whether there was one.
    pub fn take(&mut self) -> bool {
        let Some(filled) = self.full_at else { return true };
        let now = Instant::now();
        let full_at = filled.max(now) + EACH;
        let fits = full_at.duration_since(now) <= EACH * BURST;
        if fits {
            self.full_at = Some(full_at);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_fifty_a_second() {
        let mut bucket = Bucket { full_at: Some(Instant::now()) };
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

    #[tokio::test(start_paused = true)]
    async fn operators_speak_as_fast_as_they_like() {
        let mut bucket = Bucket::of(&Actor::Operator { uid: 0 });
        assert!((0..10 * BURST).all(|_| bucket.take()));
    }
}
