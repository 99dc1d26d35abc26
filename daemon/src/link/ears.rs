//! Who listens to agents: the link carries what they say and does not know what it means.

use agentbot_wire::{InstanceId, SlotId};
use async_trait::async_trait;
use serde_json::Value;

use crate::error::Result;

/// An agent that said a valid hello, by one of its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// Where it runs.
    pub slot: SlotId,
    /// Which agent it is.
    pub instance: InstanceId,
    /// Another one for each start of its process, if it says so.
    pub boot: Option<String>,
    /// Counts the connections of all agents: of two of one agent the higher one is newer.
    pub connection: u64,
}

/// What hears agents. Calls of one connection come one after another, its requests apart.
#[async_trait]
pub trait Ears: Send + Sync {
    /// The agent is connected and can be told things. A newer connection may join before the older one left.
    fn joined(&self, agent: &Speaker);

    /// The connection is over.
    fn left(&self, agent: &Speaker);

    /// It said that something happened.
    fn event(&self, agent: &Speaker, event: &str, payload: Value);

    /// It asks for something.
    ///
    /// # Errors
    /// Why it does not get it; `unsupported` for a method that nobody knows.
    async fn request(&self, agent: &Speaker, method: &str, params: Value) -> Result<Value>;
}
