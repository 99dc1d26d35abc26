//! The Agentbot daemon as a library. Modules stand in import order: each uses only those before it.

pub mod error;

pub mod secret;

pub mod task;

pub mod ration;

pub mod config;

pub mod engine;

pub mod store;

pub mod events;

pub mod identity;

pub mod gateway;

pub mod memory;

pub mod link;

pub mod instance;

pub mod chat;

pub mod stats;

pub mod http;

pub mod app;
