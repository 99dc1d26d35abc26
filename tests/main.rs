//! x

mod engine_contract;
