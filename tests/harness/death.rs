//! Deaths at fault points.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use agentbot_wire::OperationList;

use super::daemon::Daemon;
use super::http::{self, Call};
use super::poll::eventually;

const SOON: Duration = Duration::from_secs(60);
/// How long a daemon may live once its last operation has ended, with one more point behind that end.
const LAST_BREATH: Duration = Duration::from_secs(1);

impl Daemon {
    /// Waits until the daemon dies at a fault point, or until every operation has ended without passing there. Gives
    /// whether it died.
    ///
    /// # Panics
    /// When neither happens in time, or the daemon ends otherwise.
    pub async fn dies_at(&mut self, point: &str) -> bool {
        let socket = self.home.socket();
        let died = eventually(&format!("a death at {point}"), SOON, async || {
            if let Some(status) = self.try_wait() {
                return Ok(Some(status));
            }
            let list = http::send(&socket, Call::get("/api/operations?limit=200")).await?;
            let open = list.json::<OperationList>().operations.into_iter().find(|op| !op.status.is_ended());
            open.map_or(Ok(None), |operation| Err(format!("{operation:?}")))
        })
        .await;
        let died = match died {
            Some(status) => Some(status),
            None => self.waited(LAST_BREATH).await,
        };
        let Some(status) = died else { return false };
        self.child = None;
        assert_eq!(status.signal(), Some(9), "at {point} the daemon ended with {status}:\n{}", self.log_since_start());
        true
    }

    /// Waits for the death at a fault point that no operation passes.
    ///
    /// # Panics
    /// When it does not come in time, or the daemon ends otherwise.
    pub async fn died_at(&mut self, point: &str) {
        let status = self.waited(SOON).await.unwrap_or_else(|| panic!("{point} was passed by"));
        self.child = None;
        assert_eq!(status.signal(), Some(9), "at {point} the daemon ended with {status}:\n{}", self.log_since_start());
    }

    fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    async fn waited(&mut self, deadline: Duration) -> Option<ExitStatus> {
        let child = self.child.as_mut()?;
        tokio::time::timeout(deadline, child.wait()).await.ok().and_then(Result::ok)
    }
}
