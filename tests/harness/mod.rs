//! The verbs that the stories are written in: a daemon of one's own, an engine to look at or to break, doors to knock at.
//!
//! No story opens a socket itself. Whatever a verb waits for has a deadline; a verb that is disappointed panics and says
//! what it saw. Everything that is made here is removed when it is dropped, whether the story passed or not.

// A harness fails its test by panicking, and speaks through the test runner's captured output.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod binaries;
mod calls;
mod canaries;
mod chat_client;
mod daemon;
mod database;
mod death;
mod door;
mod echo;
mod engine;
mod figure;
mod finish;
mod foreign;
mod gate;
mod hardening;
mod home;
pub mod http;
mod invariants;
mod ledger;
mod leftovers;
mod model_server;
mod notify;
mod poll;
mod private_docker;
mod probe;
mod process;
mod proxy;
mod raw_reply;
mod raw_socket;
mod scratch;
mod scripted_agent;
mod setup;
mod shown;
mod sse;
mod tcp_door;
mod verbs;

pub use binaries::{agent_binary, ctl_binary, daemon_binary, helper_binary, sleeper_binary, syscalls_binary};
pub use canaries::{Canaries, base64};
pub use chat_client::ChatClient;
pub use daemon::{Daemon, Exited};
pub use door::{AgentHelper, AgentStream, FakeAgent, Refusal, agent_stream, knock};
pub use echo::{ECHO, EchoAgent};
pub use engine::{Engine, ExecOutput};
pub use figure::figure;
pub use foreign::foreign;
pub use hardening::inspect_deviations;
pub use home::{Home, SmallDisk};
pub use http::{Call, Reply};
pub use ledger::Ledger;
pub use model_server::{Heard, ModelServer};
pub use notify::NotifySocket;
pub use poll::eventually;
pub use private_docker::{PrivateDocker, REMAP_BASE};
pub use probe::probe_deviations;
pub use proxy::{EngineProxy, Fault, Rule};
pub use raw_reply::raw_reply;
pub use raw_socket::{Got, RawFrame, RawSocket, opcode};
pub use scratch::Scratch;
pub use scripted_agent::{ScriptedAgent, Seat};
pub use setup::Setup;
pub use shown::{Ended, Shown};
pub use sse::{Told, told};
