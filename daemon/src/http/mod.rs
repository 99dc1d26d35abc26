//! The doors: listeners, who is let in, limits, and the dialects behind them. Handlers extract, call the core once, and
//! wrap the answer.

mod agent;
mod agentbot;
mod auth;
mod body;
mod idempotency;
mod openai;
mod patience;
mod request_id;
mod serve;
mod socket;
mod status;

use std::sync::Arc;

use axum::Router;

pub use agent::serve_agents;
pub use agentbot::router as agentbot_router;
pub use auth::AdminPeer;
pub use serve::{AdminListener, Bounds, bind_admin, serve_admin};

use crate::config::Live;
use crate::gateway::Gateway;
use crate::instance::{Audit, Context, Instances};
use crate::memory::Memory;
use crate::task::Driver;

/// What every handler has at hand.
#[derive(Clone)]
pub struct State {
    /// The agents.
    pub instances: Instances,
    /// What they remember.
    pub memory: Memory,
    /// The models they talk to.
    pub gateway: Gateway,
    /// The daemon as a whole, for `health` and `status`.
    pub daemon: Arc<DaemonView>,
    /// Configuration.
    pub config: Live,
}

/// What `health` and `status` show beside the agents.
pub struct DaemonView {
    /// The daemon's parts.
    pub context: Arc<Context>,
    /// What the audits found.
    pub audit: Audit,
    /// Background tasks.
    pub driver: Driver,
    /// Samples of the host.
    pub host: crate::stats::HostSampler,
    /// When the daemon started.
    pub started_at: jiff::Timestamp,
    /// Its state directory.
    pub state_dir: String,
    /// What a person should look at, from the start-up.
    pub warnings: Vec<String>,
}

/// The router of the admin socket.
pub fn admin_router(state: State) -> Router {
    let bounds = body::Bounds::of(&state.config.load().limits, state.instances.stopping().clone());
    agentbot::router()
        .layer(axum::middleware::from_fn_with_state(bounds, body::bound))
        .layer(axum::middleware::from_fn(request_id::tag))
        .with_state(state)
}
