//! On what terms a client is served, and how it is told.

use std::sync::Arc;
use std::time::Duration;

use agentbot_wire::{ClientPolicy, Connected, MAX_FRAME, PROTOCOL_VERSION};
use tokio_util::sync::CancellationToken;

use super::counts::Counts;
use crate::http::auth::Held;
use crate::http::quota::Quota;
use crate::identity::Actor;

/// On what terms a client is served.
pub struct Terms {
    /// Who it is.
    pub actor: Actor,
    /// Ends with its credential.
    pub held: Held,
    /// What its credential may take.
    pub quota: Quota,
    /// The agent that is meant where it names none.
    pub agent: Option<String>,
    /// Time between pings.
    pub ping: Duration,
    /// The daemon ends.
    pub stop: CancellationToken,
    /// What is counted.
    pub counts: Arc<Counts>,
}

impl Terms {
    /// The answer to a client that speaks this version.
    pub(super) fn connected(&self, version: u32) -> Connected {
        let agent = match &self.actor {
            Actor::Gateway { instance, .. } => Some(instance.clone()),
            _ => None,
        };
        let beat_ms = u64::try_from(self.ping.as_millis()).unwrap_or(u64::MAX);
        Connected {
            version: version.min(PROTOCOL_VERSION),
            policy: ClientPolicy { max_frame: MAX_FRAME, beat_ms },
            actor: self.actor.to_string(),
            agent,
        }
    }
}
