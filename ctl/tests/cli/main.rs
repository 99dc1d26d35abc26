//! The real `agentbotctl` against a daemon's twin on a Unix socket that speaks the real wire format.
// Helpers of tests are tests: what they unwrap fails the test that called them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod asking;
mod broken_daemon;
mod changing;
mod chat;
mod chat_socket;
mod core;
mod exit_codes;
mod interrupting;
mod knowing;
mod output;
mod prompt;
mod pty;
mod run;
mod talking;
mod things;
mod twin;
mod usage;
