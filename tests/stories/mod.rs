//! Stories of four sentences: make, act, wait, compare. The verbs live in the harness.

mod harness_itself;
