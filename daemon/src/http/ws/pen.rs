//! Writing to one client, and how far it has been written to.

use std::collections::BTreeMap;
use std::time::Duration;

use agentbot_wire::ConversationId;
use futures_util::{Sink, SinkExt};
use tokio::time::timeout;

use super::end::End;
use super::terms::Terms;
use super::wire::Outbound;

/// Time for the client to take what is written together.
pub(super) const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// A message's place: its conversation, and its number in it.
pub type Place = (ConversationId, u64);

/// How far a client has heard each conversation: where it began, and every message whose frame the socket took since.
/// The socket keeps the order, so a `bye` with these places reaches the client after the messages that they stand for,
/// or not at all.
#[derive(Debug, Default)]
pub struct Heard(BTreeMap<ConversationId, u64>);

impl Heard {
    /// Notes where the client begins. Where it has heard something already it goes on from there.
    pub fn begin(&mut self, from: BTreeMap<ConversationId, u64>) {
        for (conversation, seq) in from {
            self.0.entry(conversation).or_insert(seq);
        }
    }

    /// The places.
    pub fn places(&self) -> &BTreeMap<ConversationId, u64> {
        &self.0
    }
}

/// Writes frames together, and notes the places of those that the socket took. Who does not take them in time is too
/// slow; the ends are heard meanwhile.
pub(super) async fn write<S, E>(
    terms: &Terms,
    heard: &mut Heard,
    socket: &mut S,
    frames: Vec<(Outbound, Option<Place>)>,
) -> Result<(), End>
where
    S: Sink<Outbound, Error = E> + Unpin + Send,
{
    let writing = async {
        for (frame, place) in frames {
            socket.feed(frame).await?;
            heard.0.extend(place);
        }
        socket.flush().await
    };
    tokio::select! {
        biased;
        () = terms.held.revoked() => Err(End::Revoked),
        written = timeout(SEND_TIMEOUT, writing) => match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Slow),
        },
        () = terms.stop.cancelled() => Err(End::Going),
    }
}
