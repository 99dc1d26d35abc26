//! The end-to-end tests, one binary: stories about a real daemon on a real engine.

// A story fails by panicking, in its helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod engine_contract;
mod import_order;
mod stories;
