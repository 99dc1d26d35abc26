//! The doors: listeners, who is let in, limits, and the dialects behind them. Handlers extract, call the core once, and
//! wrap the answer.

mod agent;
mod agentbot;
mod auth;
mod bearer;
mod body;
mod idempotency;
mod limit;
mod openai;
mod pace;
mod patience;
mod quota;
mod request_id;
mod serve;
mod shape;
mod socket;
mod sse;
mod status;
mod tcp;
mod ws;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

pub use agent::serve_agents;
pub use agentbot::router as agentbot_router;
pub use auth::AdminPeer;
pub use serve::{AdminListener, Bounds, bind_admin, serve_admin};
pub use tcp::{TcpDoor, bind_tcp, serve_tcp};
pub use ws::Counts as ClientCounts;

use tokio_util::task::TaskTracker;

use crate::chat::Chat;
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
    /// The conversations.
    pub chat: Chat,
    /// Configuration.
    pub config: Live,
    /// What outlives its request: sockets of clients.
    pub tasks: TaskTracker,
    /// What was refused to clients, and why they were closed.
    pub clients: Arc<ClientCounts>,
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

fn body_bounds(state: &State) -> body::Bounds {
    body::Bounds::of(&state.config.load().limits, state.instances.stopping().clone())
}

/// The router of the admin socket.
pub fn admin_router(state: State) -> Router {
    agentbot::router()
        .layer(axum::middleware::from_fn_with_state(body_bounds(&state), body::bound))
        .layer(axum::middleware::from_fn(request_id::tag))
        .with_state(state)
}

/// The router of the TCP door, without its gate. Who asks is known before a body is read.
pub fn tcp_router(state: State) -> Router {
    let bound = axum::middleware::from_fn_with_state(body_bounds(&state), body::bound);
    let holder = auth::Policy::Holder(tcp::Holders::new(state.instances.clone(), &state.config.load().http));
    let routes = [
        ("/api/chat", get(agentbot::chat::log).post(agentbot::chat::send)),
        ("/api/chat/ws", get(ws::upgrade)),
        ("/v1/chat/completions", post(openai::talk::complete)),
        ("/v1/models", get(openai::talk::models)),
    ];
    auth::guarded(routes.map(|(path, methods)| (path, methods.layer(bound.clone()), holder.clone())))
        .fallback(shape::not_found)
        .method_not_allowed_fallback(shape::method_not_allowed)
        .with_state(state)
}
