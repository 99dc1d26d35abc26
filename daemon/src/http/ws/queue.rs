//! The requests of one client that wait for their turn.

use std::collections::VecDeque;

use agentbot_wire::{Code, MAX_FRAME};

use super::request::Request;
use crate::error::{Error, Result};

/// Requests of one client that may wait; further ones are refused as `busy`.
pub const MAX_REQUESTS: usize = 16;
/// Bytes that the frames of those may have together.
pub const MAX_REQUEST_BYTES: usize = MAX_FRAME;

/// Requests in the order in which they came.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    id: String,
    request: Request,
    bytes: usize,
}

impl Queue {
    /// Whether one more request with a frame of so many bytes may wait. One alone may, whatever its length.
    ///
    /// # Errors
    /// `busy`.
    pub fn has_room(&self, bytes: usize) -> Result<()> {
        let full = if self.waiting.len() >= MAX_REQUESTS {
            format!("{MAX_REQUESTS} requests of this client wait")
        } else if !self.waiting.is_empty() && self.bytes + bytes > MAX_REQUEST_BYTES {
            format!("requests of this client wait that have {} bytes", self.bytes)
        } else {
            return Ok(());
        };
        Err(Error::new(Code::Busy, full).hint("wait for an answer before the next request"))
    }

    /// Takes one more.
    pub fn push(&mut self, id: String, request: Request, bytes: usize) {
        self.bytes += bytes;
        self.waiting.push_back(Waiting { id, request, bytes });
    }

    /// The one whose turn it is.
    pub fn pop(&mut self) -> Option<(String, Request)> {
        let Waiting { id, request, bytes } = self.waiting.pop_front()?;
        self.bytes -= bytes;
        Some((id, request))
    }
}

#[cfg(test)]
mod tests {
    use agentbot_wire::{ChatTurn, TurnId};

    use super::*;

    fn push(queue: &mut Queue, bytes: usize) {
        queue.push("1".to_owned(), Request::Abort(ChatTurn { turn: TurnId::mint() }), bytes);
    }

    #[test]
    fn requests_that_wait_are_bounded_in_number_and_in_bytes() {
        let mut queue = Queue::default();
        for _ in 0..MAX_REQUESTS {
            queue.has_room(1).unwrap();
            push(&mut queue, 1);
        }
        assert_eq!(queue.has_room(1).unwrap_err().code(), Code::Busy);
        queue.pop();
        queue.has_room(MAX_REQUEST_BYTES - MAX_REQUESTS + 1).unwrap();
        assert_eq!(queue.has_room(MAX_REQUEST_BYTES - MAX_REQUESTS + 2).unwrap_err().code(), Code::Busy);
        while queue.pop().is_some() {}
        queue.has_room(MAX_REQUEST_BYTES + 1).unwrap();
    }
}
