//! Every security-relevant field of a container, from one function.

/// Placeholder.
#[derive(Clone, Debug, PartialEq)]
pub struct Hardening {}
