//! An answer as its bytes come: cut into pieces, within limits.

use std::collections::VecDeque;

use super::Fault;
use super::chunk::{self, Chunk};
use super::sse::Sse;

/// The longest stream of one answer in bytes, all framing included.
pub const MAX_STREAM: usize = 16 * 1024 * 1024;
/// The longest answer that is not streamed, and the longest error, in bytes.
pub const MAX_BODY: usize = 1024 * 1024;
/// What ends a stream of answers.
const DONE: &[u8] = b"[DONE]";

/// The pieces of one answer.
#[derive(Debug)]
pub struct Feed {
    framing: Framing,
    events: VecDeque<Vec<u8>>,
    taken: usize,
    over: bool,
    complete: bool,
}

/// How the answer is cut into events.
#[derive(Debug)]
enum Framing {
    /// A stream of events.
    Stream(Sse),
    /// One document, of a server that does not stream.
    Whole(Vec<u8>),
}

/// What there is of an answer.
#[derive(Debug)]
pub enum Next {
    /// A piece.
    Piece(Chunk),
    /// Nothing before more bytes come.
    Hungry,
    /// Nothing any more.
    Over,
}

impl Feed {
    /// A stream of events.
    #[must_use]
    pub fn stream() -> Self {
        Self::new(Framing::Stream(Sse::default()))
    }

    /// One document.
    #[must_use]
    pub fn whole() -> Self {
        Self::new(Framing::Whole(Vec::new()))
    }

    fn new(framing: Framing) -> Self {
        Self { framing, events: VecDeque::new(), taken: 0, over: false, complete: false }
    }

    /// Takes bytes.
    ///
    /// # Errors
    /// When there are more than any answer has.
    pub fn push(&mut self, data: &[u8]) -> Result<(), Fault> {
        self.taken += data.len();
        match &mut self.framing {
            Framing::Stream(_) if self.taken > MAX_STREAM => Err(too_long()),
            Framing::Stream(sse) => sse.push(data, &mut self.events).map_err(|_| too_long()),
            Framing::Whole(_) if self.taken > MAX_BODY => Err(too_long()),
            Framing::Whole(body) => {
                body.extend_from_slice(data);
                Ok(())
            }
        }
    }

    /// There are no more bytes.
    ///
    /// # Errors
    /// When the last event is too long.
    pub fn finish(&mut self) -> Result<(), Fault> {
        self.over = true;
        match &mut self.framing {
            Framing::Stream(sse) => sse.finish(&mut self.events).map_err(|_| too_long()),
            Framing::Whole(body) => {
                self.complete = true;
                self.events.push_back(std::mem::take(body));
                Ok(())
            }
        }
    }

    /// What comes next.
    ///
    /// # Errors
    /// When it is no piece of an answer, or says why there is none.
    pub fn next(&mut self) -> Result<Next, Fault> {
        match self.events.pop_front() {
            Some(event) if event == DONE => {
                (self.over, self.complete) = (true, true);
                self.events.clear();
                Ok(Next::Over)
            }
            Some(event) => read(&event).map(Next::Piece),
            None if self.over => Ok(Next::Over),
            None => Ok(Next::Hungry),
        }
    }

    /// Whether the end was said, not only reached. A server that is stopped in the middle may end a stream as politely.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }
}

fn read(event: &[u8]) -> Result<Chunk, Fault> {
    let chunk: Chunk = serde_json::from_slice(event)
        .map_err(|_| Fault::model("its stream has an event that is not of OpenAI's shape"))?;
    match &chunk.error {
        Some(error) if chunk::is_shutdown(error) => Err(Fault::Broken("the daemon ends".to_owned())),
        Some(error) if !error.is_null() => {
            let (cause, hint) = chunk::reason(error);
            Err(Fault::Model { cause, hint })
        }
        _ => Ok(chunk),
    }
}

fn too_long() -> Fault {
    Fault::model("its stream is longer than any answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of so many bytes that say nothing, in lines.
    fn fed(mut feed: Feed, length: usize) -> Result<(), Fault> {
        let piece = format!(":{}\n", " ".repeat(64 * 1024 - 2)).into_bytes();
        for _ in 0..length / piece.len() {
            feed.push(&piece)?;
        }
        feed.push(&piece[..length % piece.len()])
    }

    #[test]
    fn the_longest_stream_passes_and_one_byte_more_does_not() {
        assert_eq!(fed(Feed::stream(), MAX_STREAM), Ok(()));
        assert_eq!(fed(Feed::stream(), MAX_STREAM + 1), Err(too_long()));
    }

    #[test]
    fn the_longest_document_passes_and_one_byte_more_does_not() {
        assert_eq!(fed(Feed::whole(), MAX_BODY), Ok(()));
        assert_eq!(fed(Feed::whole(), MAX_BODY + 1), Err(too_long()));
    }
}
