//! Chat: durable conversations with agents, and the turns that answer them.

use async_trait::async_trait;
use serde_json::Value;

use crate::error::Result;
use crate::link::{Ears, Speaker, unknown};

/// The conversations of all agents.
#[derive(Clone, Debug, Default)]
pub struct Chat {}

#[async_trait]
impl Ears for Chat {
    fn joined(&self, _agent: &Speaker) {}

    fn left(&self, _agent: &Speaker) {}

    fn event(&self, _agent: &Speaker, _event: &str, _payload: Value) {}

    async fn request(&self, _agent: &Speaker, method: &str, _params: Value) -> Result<Value> {
        Err(unknown(method).into())
    }
}
