//! Talking with an agent.

pub mod safe;
