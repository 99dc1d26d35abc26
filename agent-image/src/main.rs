//! `agentbot-agent`: PID 1 of an agent's container, and the tools for looking inside an image that has no userland.
//!
//! Without arguments it is the agent: it connects to the daemon's socket, says hello, beats, answers messages with
//! the help of a model, and ends on SIGTERM. With the name of a tool, as first argument or as the name it was started
//! under, it is that tool.

#![forbid(unsafe_code)]

mod log;
mod proc;

mod backoff;
mod model;
mod turn;

mod kit;
mod link;
mod pid1;

mod agent;
mod probe;
mod tools;

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = env::args_os();
    let program = args.next().unwrap_or_default();
    let mut args: Vec<OsString> = args.collect();
    let called_as = Path::new(&program).file_name().and_then(OsStr::to_str).and_then(tools::Tool::named);
    if let Some(tool) = called_as {
        return tools::run(tool, &args);
    }
    if args.is_empty() {
        return agent::run();
    }
    let word = args.remove(0);
    match word.to_str().and_then(tools::Tool::named) {
        Some(tool) => tools::run(tool, &args),
        None => tools::unknown(&word),
    }
}
