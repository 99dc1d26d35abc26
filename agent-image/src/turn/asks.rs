//! Requests of ours to the daemon, until each has its answer.

use std::collections::BTreeMap;

use agentbot_wire::{ApiError, Frame};
use serde_json::Value;
use tokio::sync::oneshot;

/// What the ids of our requests begin with.
const REQUEST: &str = "q";

/// What the daemon answers.
pub type Reply = Result<Value, ApiError>;

#[derive(Debug)]
struct Ask {
    frame: Frame,
    reply: oneshot::Sender<Reply>,
    /// Whether it went out on this link.
    sent: bool,
}

/// The open requests. All of them may be repeated, so those that a link took with it go out again on the next.
#[derive(Debug, Default)]
pub struct Asks {
    open: BTreeMap<u64, Ask>,
    last: u64,
}

impl Asks {
    /// A new request: its number, and where its answer arrives.
    pub fn put(&mut self, method: &str, params: Value) -> (u64, oneshot::Receiver<Reply>) {
        let (reply, answer) = oneshot::channel();
        self.last += 1;
        let frame = Frame::request(&format!("{REQUEST}{}", self.last), method, params);
        self.open.insert(self.last, Ask { frame, reply, sent: false });
        (self.last, answer)
    }

    /// Nobody waits for the answer any more.
    pub fn withdraw(&mut self, number: u64) {
        self.open.remove(&number);
    }

    /// Hands an answer to whoever asked. One that nobody waits for is dropped.
    pub fn answered(&mut self, id: &str, reply: Reply) {
        let number = id.strip_prefix(REQUEST).and_then(|number| number.parse().ok());
        if let Some(ask) = number.and_then(|number: u64| self.open.remove(&number)) {
            // Whoever asked may have given up.
            let _ = ask.reply.send(reply);
        }
    }

    /// The link is gone.
    pub fn lost(&mut self) {
        self.open.values_mut().for_each(|ask| ask.sent = false);
    }

    /// Whether a request is to be sent.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.open.values().any(|ask| !ask.sent)
    }

    /// Takes the requests that are to be sent.
    pub fn take(&mut self, frames: &mut Vec<Frame>) {
        for ask in self.open.values_mut().filter(|ask| !ask.sent) {
            ask.sent = true;
            frames.push(ask.frame.clone());
        }
    }

    /// How many are open.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.open.len()
    }
}
