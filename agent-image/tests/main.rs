//! The real agent against a daemon of a few lines, and its tools as users run them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod daemon;
mod faults;
mod link;
mod pid1;
mod stage;
mod sweep;
mod tools;
mod turns;
