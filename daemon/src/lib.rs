//! The Agentbot daemon as a library. Modules stand in import order: each uses only those before it.

pub mod engine;
pub mod error;
pub mod identity;
pub mod secret;
pub mod store;
