//! WebSockets, the same for agents and clients: their bounds, and what a message or a fault of one means.

use agentbot_wire::MAX_FRAME;
use axum::extract::ws::{Message, Utf8Bytes, WebSocketUpgrade};
use tokio_tungstenite::tungstenite::Error as Tungstenite;
use tokio_tungstenite::tungstenite::error::ProtocolError;

/// Read buffer of a connection. Larger frames are read all the same; idle connections are many.
const READ_BUFFER: usize = 4 * 1024;
/// Bytes collected before they are written without a flush.
const WRITE_BUFFER: usize = 16 * 1024;
/// Bytes written that may wait for a slow reader.
const WRITE_LIMIT: usize = 2 * MAX_FRAME;

/// Close code of RFC 6455: a frame that breaks the WebSocket protocol.
pub const CLOSE_PROTOCOL: u16 = 1002;
/// Close code of RFC 6455: data of a kind that is not taken.
pub const CLOSE_NOT_TEXT: u16 = 1003;
/// Close code of RFC 6455: a message that is not UTF-8, or not of the shape that was asked for.
pub const CLOSE_SHAPE: u16 = 1007;
/// Close code of RFC 6455: a message over the limit.
pub const CLOSE_TOO_LONG: u16 = 1009;

/// What came from a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// A text message.
    Text(Utf8Bytes),
    /// A ping or a pong: somebody is there. A close too: whoever reads on has it answered, and then hears the end.
    Life,
    /// The other side is gone.
    End,
    /// A broken rule: the close code for it, and why.
    Unfit(u16, &'static str),
}

/// An upgrade with the bounds of every WebSocket of ours.
pub fn bounded(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .max_frame_size(MAX_FRAME)
        .max_message_size(MAX_FRAME)
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(WRITE_LIMIT)
}

/// What a message, or the fault in its place, means.
pub fn read(message: Result<Message, axum::Error>) -> Read {
    match message {
        Ok(Message::Text(text)) => Read::Text(text),
        Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_)) => Read::Life,
        Ok(Message::Binary(_)) => Read::Unfit(CLOSE_NOT_TEXT, "text frames only"),
        Err(error) => fault(&error),
    }
}

fn fault(error: &axum::Error) -> Read {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<Tungstenite>());
    match cause {
        // As a killed program leaves it.
        Some(
            Tungstenite::Io(_)
            | Tungstenite::ConnectionClosed
            | Tungstenite::AlreadyClosed
            | Tungstenite::Protocol(ProtocolError::ResetWithoutClosingHandshake),
        ) => Read::End,
        Some(Tungstenite::Capacity(_)) => Read::Unfit(CLOSE_TOO_LONG, "the message is too long"),
        Some(Tungstenite::Utf8(_)) => Read::Unfit(CLOSE_SHAPE, "the message is not UTF-8"),
        _ => Read::Unfit(CLOSE_PROTOCOL, "the frame breaks the protocol"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_tungstenite::tungstenite::error::CapacityError;

    #[test]
    fn a_peer_that_is_gone_broke_no_rule() {
        let gone = [
            Tungstenite::Io(std::io::ErrorKind::ConnectionReset.into()),
            Tungstenite::ConnectionClosed,
            Tungstenite::Protocol(ProtocolError::ResetWithoutClosingHandshake),
        ];
        assert!(gone.into_iter().all(|error| read(Err(axum::Error::new(error))) == Read::End));
    }

    #[test]
    fn a_close_is_read_past_so_that_it_is_answered() {
        assert_eq!(read(Ok(Message::Close(None))), Read::Life);
    }

    #[test]
    fn each_broken_rule_has_its_close_code() {
        let code = |error: Tungstenite| match read(Err(axum::Error::new(error))) {
            Read::Unfit(code, _) => code,
            other => panic!("{other:?}"),
        };
        assert_eq!(code(Tungstenite::Protocol(ProtocolError::NonZeroReservedBits)), CLOSE_PROTOCOL);
        assert_eq!(code(Tungstenite::Utf8(String::new())), CLOSE_SHAPE);
        let too_long = CapacityError::MessageTooLong { size: 2, max_size: 1 };
        assert_eq!(code(Tungstenite::Capacity(too_long)), CLOSE_TOO_LONG);
        let binary = read(Ok(Message::Binary(axum::body::Bytes::new())));
        assert_eq!(binary, Read::Unfit(CLOSE_NOT_TEXT, "text frames only"));
        assert!(matches!(read(Err(axum::Error::new(std::io::Error::other("?")))), Read::Unfit(CLOSE_PROTOCOL, _)));
    }
}
