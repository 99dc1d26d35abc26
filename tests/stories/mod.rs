//! Stories of four sentences: make, act, wait, compare. The verbs live in the harness.

mod command_line;
mod configuration;
mod conformance;
mod crash_points;
mod crashes;
mod doors;
mod engine_trouble;
mod foreign_clients;
mod harness_itself;
mod idempotency;
mod lifecycle;
mod prune;
mod purge;
mod remapped;
mod requests;
mod sealed;
mod service;
mod start_up;
mod supersede;
mod table_itself;
mod talk;
mod talk_death;
mod talk_queue;
mod talk_restart;
mod talk_resume;
