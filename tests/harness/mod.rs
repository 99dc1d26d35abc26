//! The verbs that the stories are written in: a daemon of one's own, an engine to look at or to break, doors to knock at.
//!
//! No story opens a socket itself. Whatever a verb waits for has a deadline; a verb that is disappointed panics and says
//! what it saw. Everything that is made here is removed when it is dropped, whether the story passed or not.

// A harness fails its test by panicking, and speaks through the test runner's captured output.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod binaries;
mod calls;
mod daemon;
mod death;
mod door;
mod engine;
mod finish;
mod gate;
mod hardening;
mod home;
pub mod http;
mod invariants;
mod leftovers;
mod model_server;
mod notify;
mod poll;
mod private_docker;
mod probe;
mod proxy;
mod raw_reply;
mod scratch;
mod setup;
mod verbs;

pub use binaries::{agent_binary, ctl_binary, daemon_binary, helper_binary, syscalls_binary};
pub use daemon::{Daemon, Exited};
pub use door::{FakeAgent, Refusal, knock};
pub use engine::{Engine, ExecOutput};
pub use hardening::inspect_deviations;
pub use home::{Home, SmallDisk};
pub use http::{Call, Reply};
pub use model_server::{Heard, ModelServer};
pub use notify::NotifySocket;
pub use poll::eventually;
pub use private_docker::{PrivateDocker, REMAP_BASE};
pub use probe::probe_deviations;
pub use proxy::{EngineProxy, Fault, Rule};
pub use raw_reply::raw_reply;
pub use scratch::Scratch;
pub use setup::Setup;
