//! What goes over a client's socket.

use agentbot_wire::{Code, Frame, MAX_FRAME};
use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use serde_json::Value;

use crate::error::{Error, Result};

/// What comes from the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// A text frame.
    Text(Utf8Bytes),
    /// A ping or a pong.
    Life,
    /// Anything the protocol has no use for: the close code it leads to, and why.
    Unfit(u16, &'static str),
}

/// What goes to the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outbound {
    /// A text frame.
    Text(Utf8Bytes),
    /// A ping.
    Ping,
    /// The end, with code and reason.
    Close(u16, &'static str),
}

/// The frame of an event as it is, without a copy.
pub(super) fn relayed(frame: Bytes) -> Option<Outbound> {
    // Events are JSON, which is UTF-8.
    Utf8Bytes::try_from(frame).ok().map(Outbound::Text)
}

/// A frame of ours.
pub(super) fn text(frame: &Frame) -> Outbound {
    Outbound::Text(frame.to_text().into())
}

/// The answer to a request.
pub(super) fn answer(id: &str, outcome: Result<Value>) -> Outbound {
    let refused = |error: &Error| Frame::refusal(id, error.to_api()).to_text();
    let said = match outcome {
        Ok(payload) => Frame::answer(id, payload).to_text(),
        Err(error) => {
            if error.code() == Code::Internal {
                tracing::error!(%error, "a client's request failed");
            }
            refused(&error)
        }
    };
    let said = if said.len() > MAX_FRAME {
        refused(
            &Error::new(Code::TooLarge, "the answer does not fit a frame")
                .hint("subscribe to one conversation, or ask for a shorter page"),
        )
    } else {
        said
    };
    Outbound::Text(said.into())
}
