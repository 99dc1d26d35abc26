//! Connects standard input and output with the Unix socket named by the only argument.
//!
//! The harness starts it under another uid with the socket's directory as working directory: a relative path needs no
//! way through directories that only root may pass.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

fn copy(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..length])?;
        to.flush()?;
    }
}

fn run() -> io::Result<()> {
    let path = std::env::args().nth(1).ok_or_else(|| io::Error::other("which socket?"))?;
    let stream = UnixStream::connect(path)?;
    let mut writer = stream.try_clone()?;
    std::thread::spawn(move || {
        // The end of our input ends what we say, not what we hear.
        let _ = copy(io::stdin(), &mut writer);
        let _ = writer.shutdown(Shutdown::Write);
    });
    copy(stream, io::stdout())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
