//! The shape of OpenAI's API, at whichever door.

pub mod envelope;
pub mod gateway;
