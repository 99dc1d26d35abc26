//! The shape of OpenAI's API, at whichever door.

mod ask;
pub mod envelope;
pub mod gateway;
pub mod talk;
