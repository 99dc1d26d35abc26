//! Standard input: a text as a whole, or line by line. It is read on a thread of its own, for reading it blocks.

use std::io::{BufRead, Read as _};
use std::time::Duration;

use agentbot_wire::MAX_MESSAGE;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::Instant;

use super::chat::interrupted;
use crate::exit::{Exit, Failure, USAGE};
use crate::output::{self, style};

/// How long standard input may be silent before that is told.
const SILENT: Duration = Duration::from_secs(1);
/// The most that is read as one text: every line end may be two bytes, of which one is kept.
const MOST: usize = 2 * MAX_MESSAGE;

/// A message that is too long is refused before it is sent.
///
/// # Errors
/// When it is.
pub fn within_bounds(text: String) -> Result<String, Failure> {
    if text.len() > MAX_MESSAGE {
        return Err(too_long(&format!("{} bytes", text.len())));
    }
    Ok(text)
}

fn too_long(has: &str) -> Failure {
    let message = format!("a message has at most {} KiB, this one has {has}", MAX_MESSAGE / 1024);
    Failure::new(Exit::Usage, "too_large", message).hint("shorten it, or send it in parts")
}

/// Bytes as a text; how many they are comes first, for a text that was cut is none.
fn text(bytes: Vec<u8>, most: usize) -> Result<String, Failure> {
    if bytes.len() > most {
        return Err(too_long(&format!("more than {} KiB", most / 1024)));
    }
    String::from_utf8(bytes).map_err(|_| {
        Failure::new(Exit::Usage, USAGE, "standard input is no text in UTF-8").hint("convert it, as with iconv")
    })
}

fn bound(most: usize) -> u64 {
    u64::try_from(most).unwrap_or(u64::MAX)
}

fn unreadable(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, "input", format!("standard input cannot be read: {error}"))
}

fn no_thread(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, "internal", format!("no thread: {error}"))
}

/// Reads lines that are not empty; one that is no message is given as the reason, and the next one follows.
///
/// # Errors
/// When there is no thread for it.
pub fn reader() -> Result<Receiver<Result<String, Failure>>, Failure> {
    let (say, typed) = channel(1);
    std::thread::Builder::new()
        .name("lines".to_owned())
        .spawn(move || {
            let mut input = std::io::stdin().lock();
            loop {
                let line = match line(&mut input) {
                    Ok(None) => return,
                    Ok(Some(Ok(line))) if line.trim().is_empty() => continue,
                    Ok(Some(line)) => line,
                    Err(error) => {
                        // Who asked may have gone.
                        let _ = say.blocking_send(Err(unreadable(&error)));
                        return;
                    }
                };
                if say.blocking_send(line).is_err() {
                    return;
                }
            }
        })
        .map_err(|error| no_thread(&error))?;
    Ok(typed)
}

/// The next line without its end; none at the end of the input.
fn line(input: &mut impl BufRead) -> std::io::Result<Option<Result<String, Failure>>> {
    let mut line = Vec::new();
    // One byte more than the longest message and its end.
    if input.take(bound(MAX_MESSAGE + 3)).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        line.pop_if(|last| *last == b'\r');
    } else if line.len() > MAX_MESSAGE {
        skip_line(input)?;
    }
    Ok(Some(text(line, MAX_MESSAGE)))
}

/// Leaves out what is left of a line.
fn skip_line(input: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let (end, length) = (buffer.iter().position(|byte| *byte == b'\n'), buffer.len());
        input.consume(end.map_or(length, |end| end + 1));
        if end.is_some() || length == 0 {
            return Ok(());
        }
    }
}

/// All of standard input. A pipe that nobody closes is told of, and not waited for without end.
///
/// # Errors
/// When it is too long, no text, does not end in time, or the user has had enough.
pub async fn piped(quiet: bool, until: Instant, interrupts: &mut Signal) -> Result<String, Failure> {
    let (say, mut read) = channel(1);
    std::thread::Builder::new()
        .name("input".to_owned())
        .spawn(move || {
            let mut bytes = Vec::new();
            let read = std::io::stdin().lock().take(bound(MOST + 1)).read_to_end(&mut bytes);
            // Who asked may have gone.
            let _ = say.blocking_send(read.map(|_| bytes));
        })
        .map_err(|error| no_thread(&error))?;
    let mut told = quiet;
    let bytes = loop {
        tokio::select! {
            bytes = read.recv() => break bytes,
            _ = interrupts.recv() => return Err(interrupted("interrupted; nothing was sent")),
            () = tokio::time::sleep_until(until) => {
                return Err(Failure::new(Exit::TimedOut, "timed_out", "standard input does not end; nothing was sent")
                    .hint("close it, or leave it out with: < /dev/null"));
            }
            () = tokio::time::sleep(SILENT), if !told => {
                told = true;
                output::stderr(&format!("{}waiting for the end of standard input{:#}\n", style::REST, style::REST));
            }
        }
    };
    let bytes = bytes.transpose().map_err(|error| unreadable(&error))?.unwrap_or_default();
    Ok(text(bytes, MOST)?.replace("\r\n", "\n").trim_end_matches('\n').to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn said(input: &[u8]) -> Vec<Result<String, String>> {
        let mut input = std::io::BufReader::with_capacity(7, input);
        let mut all = Vec::new();
        while let Some(line) = line(&mut input).unwrap() {
            all.push(line.map_err(|failure| failure.message));
        }
        all
    }

    #[test]
    fn a_line_that_is_no_message_does_not_touch_the_next() {
        let long = "ä".repeat(MAX_MESSAGE / 2);
        let over = "a message has at most 64 KiB, this one has more than 64 KiB".to_owned();
        for end in ["\n", "\r\n"] {
            let input = format!("{long}{end}{long}ä{end}{long}{long}{end}last");
            let longest = Ok(long.clone());
            assert_eq!(said(input.as_bytes()), [longest, Err(over.clone()), Err(over.clone()), Ok("last".to_owned())]);
        }
        let no_text = Err("standard input is no text in UTF-8".to_owned());
        assert_eq!(said(b"\xff\nnext"), [no_text, Ok("next".to_owned())]);
        assert_eq!(said(b"\n\r\na\r"), [Ok(String::new()), Ok(String::new()), Ok("a\r".to_owned())]);
    }

    #[test]
    fn a_text_that_is_cut_within_a_character_is_too_long_and_not_no_text() {
        let mut bytes = "ä".repeat(MAX_MESSAGE + 1).into_bytes();
        bytes.truncate(MOST + 1);
        assert_eq!(text(bytes.clone(), MOST).unwrap_err().code, "too_large");
        bytes.truncate(MOST);
        assert_eq!(text(bytes, MOST).unwrap().len(), MOST);
    }
}
