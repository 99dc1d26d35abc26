//! `env`: shows the environment.

use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

use super::Done;

pub const HELP: &str = "\
Usage: env
Shows the environment, one NAME=value per line. It does not run programs.
";

pub fn run() -> Done {
    let mut out = io::stdout().lock();
    for (name, value) in std::env::vars_os() {
        out.write_all(name.as_bytes())?;
        out.write_all(b"=")?;
        out.write_all(value.as_bytes())?;
        out.write_all(b"\n")?;
    }
    Ok(ExitCode::SUCCESS)
}
