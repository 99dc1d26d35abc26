//! How many daemons run at once.

use std::sync::LazyLock;

use tokio::sync::{Semaphore, SemaphorePermit};

const AT_ONCE: usize = 2;

static GATE: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(AT_ONCE));

/// Waits for a turn; the place is free again when the permit is dropped.
pub(crate) async fn turn() -> SemaphorePermit<'static> {
    GATE.acquire().await.expect("the gate is never closed")
}
