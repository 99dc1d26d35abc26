//! Agents: what is wanted, what is there, and the one task that makes the second equal the first.

pub mod plan;
pub mod state;

