//! `cat`: shows files.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use super::args::Args;
use super::{Done, complain};

pub const HELP: &str = "\
Usage: cat [FILE...]
Writes the files one after another to standard output. Without a file, or
for -, it copies standard input. Exits with 1 when a file cannot be read.
";

/// Bytes copied at a time.
const CHUNK: usize = 64 * 1024;

pub fn run(args: &Args) -> Done {
    let mut out = io::stdout().lock();
    let mut code = ExitCode::SUCCESS;
    let standard_input = ["-".into()];
    for name in if args.words.is_empty() { &standard_input[..] } else { &args.words } {
        let opened: io::Result<Box<dyn Read>> =
            if name == "-" { Ok(Box::new(io::stdin())) } else { File::open(name).map(|file| Box::new(file) as _) };
        if let Err(unread) = opened.map_err(Stopped::Reading).and_then(|mut file| copy(&mut file, &mut out)) {
            match unread {
                Stopped::Writing(error) => return Err(error),
                Stopped::Reading(error) => {
                    complain(&format!("cat: {}: {error}", name.to_string_lossy()));
                    code = ExitCode::FAILURE;
                }
            }
        }
    }
    out.flush()?;
    Ok(code)
}

/// Which side stopped the copying.
enum Stopped {
    Reading(io::Error),
    Writing(io::Error),
}

fn copy(from: &mut dyn Read, to: &mut dyn Write) -> Result<(), Stopped> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => to.write_all(&chunk[..length]).map_err(Stopped::Writing)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Stopped::Reading(error)),
        }
    }
}
