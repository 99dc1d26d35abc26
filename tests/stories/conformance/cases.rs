//! What a case is made of.

use agentbot_tests::RawFrame;

/// One thing that is sent.
#[derive(Clone, Debug)]
pub enum Step {
    /// A frame in one write.
    Frame(RawFrame),
    /// A frame byte by byte.
    Slowly(RawFrame),
    /// A frame in writes of this size.
    Chopped(RawFrame, usize),
}

/// One thing that must come back, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// The refusal of the request with this id.
    Answer(String),
    /// A pong with this payload.
    Pong(Vec<u8>),
    /// A close with one of these codes; after it the stream ends.
    Close(&'static [u16]),
    /// A close without a code, or with 1000.
    EmptyClose,
}

/// Frames that break the protocol.
pub const PROTOCOL: Want = Want::Close(&[1002]);
/// Text that is not UTF-8, or no frame of ours.
pub const SHAPE: Want = Want::Close(&[1007]);
/// Data of a kind that is not taken.
pub const KIND: Want = Want::Close(&[1003]);
/// More than is taken.
pub const TOO_LONG: Want = Want::Close(&[1009]);

/// One case. When nothing closes the connection, it must go on: a ping and a close are tried at the end.
#[derive(Clone, Debug)]
pub struct Case {
    /// Group and what it is about.
    pub name: String,
    /// What is sent.
    pub send: Vec<Step>,
    /// What must come back.
    pub want: Vec<Want>,
}

/// A case of whole frames in one write each.
pub fn case(name: impl Into<String>, frames: impl IntoIterator<Item = RawFrame>, want: &[Want]) -> Case {
    Case { name: name.into(), send: frames.into_iter().map(Step::Frame).collect(), want: want.to_vec() }
}

/// A request of exactly this many bytes, and its answer.
pub fn request(length: usize) -> (Vec<u8>, Want) {
    let frame = |fill: &str| format!(r#"{{"type":"req","id":"{length}","method":"no.such","params":"{fill}"}}"#);
    let bare = frame("").len();
    let text = frame(&"*".repeat(length.saturating_sub(bare)));
    (text.into_bytes(), Want::Answer(length.to_string()))
}

/// A request with these bytes in a text of it, and its answer.
pub fn request_with(bytes: &[u8]) -> (Vec<u8>, Want) {
    let mut text = br#"{"type":"req","id":"u","method":"no.such","params":""#.to_vec();
    text.extend_from_slice(bytes);
    text.extend_from_slice(br#""}"#);
    (text, Want::Answer("u".to_owned()))
}
