//! What clients hear: each event is made into a frame once, however many clients it goes to.

use std::ops::Range;

use agentbot_wire::{AgentPhase, ChatDelta, ChatDone, ChatTool, ConversationId, InstanceId, Message, TurnId, event};
use bytes::Bytes;
use serde::Serialize;

/// What an event tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A message was stored.
    Message(Message),
    /// A piece of an answer under way.
    Delta(ChatDelta),
    /// The agent uses a tool.
    Tool(ChatTool),
    /// A turn has ended.
    Done(ChatDone),
    /// The agent's phase changed.
    Phase(AgentPhase),
}

/// One event, with its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    body: Body,
    seq: Option<u64>,
    frame: Bytes,
    payload: Range<usize>,
}

impl Event {
    /// A stored message; its place is the frame's `seq`.
    #[must_use]
    pub fn message(message: Message) -> Self {
        let seq = Some(message.seq);
        let frame = frame(event::CHAT_MESSAGE, seq, &message);
        Self::new(seq, frame, Body::Message(message))
    }

    /// A piece of an answer.
    #[must_use]
    pub fn delta(delta: ChatDelta) -> Self {
        let frame = frame(event::CHAT_DELTA, None, &delta);
        Self::new(None, frame, Body::Delta(delta))
    }

    /// The use of a tool.
    #[must_use]
    pub fn tool(tool: ChatTool) -> Self {
        let frame = frame(event::CHAT_TOOL, None, &tool);
        Self::new(None, frame, Body::Tool(tool))
    }

    /// The end of a turn.
    #[must_use]
    pub fn done(done: ChatDone) -> Self {
        let frame = frame(event::CHAT_DONE, None, &done);
        Self::new(None, frame, Body::Done(done))
    }

    /// A phase; `seq` is its place in the event log.
    #[must_use]
    pub fn phase(phase: AgentPhase, seq: u64) -> Self {
        let frame = frame(event::AGENT_PHASE, Some(seq), &phase);
        Self::new(Some(seq), frame, Body::Phase(phase))
    }

    fn new(seq: Option<u64>, (frame, payload): (Bytes, Range<usize>), body: Body) -> Self {
        Self { body, seq, frame, payload }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match &self.body {
            Body::Message(_) => event::CHAT_MESSAGE,
            Body::Delta(_) => event::CHAT_DELTA,
            Body::Tool(_) => event::CHAT_TOOL,
            Body::Done(_) => event::CHAT_DONE,
            Body::Phase(_) => event::AGENT_PHASE,
        }
    }

    /// Its place: in the conversation for a message, in the event log for a phase; other events have none.
    #[must_use]
    pub fn seq(&self) -> Option<u64> {
        self.seq
    }

    /// The whole text frame, in UTF-8.
    #[must_use]
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// The payload alone, as JSON.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.frame[self.payload.clone()]
    }

    /// What it tells.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The agent it is about.
    #[must_use]
    pub fn agent(&self) -> &InstanceId {
        match &self.body {
            Body::Message(message) => &message.agent,
            Body::Delta(delta) => &delta.agent,
            Body::Tool(tool) => &tool.agent,
            Body::Done(done) => &done.agent,
            Body::Phase(phase) => &phase.agent,
        }
    }

    /// The conversation it belongs to; a phase belongs to none.
    #[must_use]
    pub fn conversation(&self) -> Option<&ConversationId> {
        match &self.body {
            Body::Message(message) => Some(&message.conversation),
            Body::Delta(delta) => Some(&delta.conversation),
            Body::Tool(tool) => Some(&tool.conversation),
            Body::Done(done) => Some(&done.conversation),
            Body::Phase(_) => None,
        }
    }

    /// The turn it belongs to.
    #[must_use]
    pub fn turn(&self) -> Option<&TurnId> {
        match &self.body {
            Body::Message(message) => message.turn.as_ref(),
            Body::Delta(delta) => Some(&delta.turn),
            Body::Tool(tool) => Some(&tool.turn),
            Body::Done(done) => Some(&done.turn),
            Body::Phase(_) => None,
        }
    }
}

/// A frame as `agentbot_wire::Frame::Event` would be written, and where its payload lies.
fn frame(name: &str, seq: Option<u64>, payload: &impl Serialize) -> (Bytes, Range<usize>) {
    let mut frame = Vec::with_capacity(512);
    frame.extend_from_slice(br#"{"type":"event","event":""#);
    frame.extend_from_slice(name.as_bytes());
    frame.push(b'"');
    if let Some(seq) = seq {
        frame.extend_from_slice(br#","seq":"#);
        frame.extend_from_slice(seq.to_string().as_bytes());
    }
    frame.extend_from_slice(br#","payload":"#);
    let start = frame.len();
    // Strings, numbers and words only, into memory: this cannot fail.
    let _ = serde_json::to_writer(&mut frame, payload);
    let payload = start..frame.len();
    frame.push(b'}');
    (frame.into(), payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::test_support::{a_delta, a_message};
    use agentbot_wire::Frame;

    #[test]
    fn the_frame_is_the_one_that_the_wire_knows() {
        let event = Event::message(a_message(7, "a \"quoted\"\nline"));
        let Frame::Event { event: name, seq, payload } =
            Frame::parse(std::str::from_utf8(event.frame()).unwrap()).unwrap()
        else {
            panic!("not an event")
        };
        assert_eq!((name.as_str(), seq), ("chat.message", Some(7)));
        assert_eq!(payload["content"], "a \"quoted\"\nline");
        assert_eq!(serde_json::from_slice::<serde_json::Value>(event.payload()).unwrap(), payload);
    }

    #[test]
    fn an_event_that_is_not_stored_has_no_seq() {
        let event = Event::delta(a_delta(0, "hi"));
        assert!(!std::str::from_utf8(event.frame()).unwrap().contains("seq"));
        assert_eq!(event.name(), "chat.delta");
    }
}
