//! Talking with an agent.

mod answer;
mod link;
mod plain;
mod resume;
pub mod safe;
mod screen;
mod session;
mod view;
