//! Agents: what is wanted, what is there, and the one task that makes the second equal the first.
//!
//! A request goes through [`state::admit`] into one transaction (what is wanted, an operation, an event) and wakes the
//! [`reconciler`]; only that acts on the engine, one step of [`plan`] at a time.

mod accept;
mod act;
mod admission;
mod agenda;
mod audit;
mod context;
mod diagnose;
mod exit;
mod failure;
mod files;
mod housekeeping;
mod meant;
mod memory;
mod observe;
mod operation;
mod phase;
mod recent;
mod reconciler;
mod requests;
mod tell;
mod token;
mod trash;
mod views;
mod worker;

#[cfg(test)]
pub(crate) mod test_support;

pub mod fault;
pub mod plan;
pub mod state;

pub use accept::{Accepted, Ask, Idempotency, Provisioned};
pub use admission::{Host, MAX_CONFIG};
pub use audit::Audit;
pub use context::{AgentImage, Context};
pub use files::SlotDirs;
pub use housekeeping::Housekeeping;
pub use meant::meant;
pub use operation::steps_of;
pub use reconciler::{Pulse, run};
pub use requests::Instances;
pub use token::{Holder, hash_tokens};
pub use views::provisioned;

pub use crate::store::instances::missing;
