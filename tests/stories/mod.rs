//! Stories of four sentences: make, act, wait, compare. The verbs live in the harness.

mod command_line;
mod configuration;
mod crash_points;
mod crashes;
mod doors;
mod engine_trouble;
mod harness_itself;
mod idempotency;
mod lifecycle;
mod memory;
mod models;
mod prune;
mod purge;
mod remapped;
mod requests;
mod sealed;
mod service;
mod start_up;
mod supersede;
mod table_itself;
