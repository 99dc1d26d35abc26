//! One message and its answer, heard to the end: for callers who ask once and wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use agentbot_wire::{ChatDone, ChatSend, ChatSent, Code, Message, Platform, Sender, TurnId, TurnStatus};

use super::event::{Body, Event};
use super::hub::{Ear, Lagged};
use super::requests::Stored;
use super::{Chat, access};
use crate::error::{Error, Result};
use crate::identity::Actor;
use crate::instance::meant;
use crate::store::turns::Turn;
use crate::store::{messages, turns};

/// A message that was sent, and an ear for the turn that answers it.
pub struct Exchange {
    stored: Stored,
    sent: ChatSent,
    ear: Ear,
    /// What a turn that began before has to tell first.
    told: VecDeque<Arc<Event>>,
    /// The newest piece that is part of that.
    shown: Option<u64>,
    over: bool,
}

impl Chat {
    /// Sends a message and hears its turn to the end, also when the same key has sent it before.
    ///
    /// # Errors
    /// As [`Chat::send`].
    pub async fn converse(&self, actor: &Actor, send: &ChatSend, platform: Platform) -> Result<Exchange> {
        let mut ear = self.live.hub().listen();
        let (asker, named, conversation) = (actor.clone(), send.agent.clone(), send.conversation.clone());
        let agent = self.live.store().read(move |conn| match &conversation {
            Some(id) => access::conversation(conn, &asker, id).map(|found| found.agent),
            None => meant(conn, &asker, named.as_deref()).map(|found| found.id),
        });
        let agent = agent.await?;
        // First to hear, then to send: nothing of the turn can be missed.
        ear.hear(&agent, None);
        let stored = self.store_message(actor, send, platform).await?;
        ear.narrow(&agent, &stored.conversation.id);
        // Of a turn that has just begun everything is heard, its question first.
        let (told, shown) = if stored.fresh { (VecDeque::new(), None) } else { self.told(&stored).await? };
        Ok(Exchange { sent: stored.sent(), stored, ear, told, shown, over: false })
    }

    /// What is to be told of a turn that began before: what it has shown so far, or all of it if it has ended already.
    async fn told(&self, stored: &Stored) -> Result<(VecDeque<Arc<Event>>, Option<u64>)> {
        let turn = stored.turn.clone();
        let read = self.live.store().read(move |conn| {
            let Some(turn) = turns::get(conn, &turn)?.filter(|turn| turn.status.is_ended()) else {
                return Ok(None);
            };
            Ok(Some((messages::answers(conn, &turn.id)?, turn)))
        });
        let Some((answers, turn)) = read.await? else {
            let agent = &stored.message.agent;
            let partials = self.live.partials(agent, Some(&stored.conversation.id));
            let partial = partials.into_iter().find(|partial| partial.turn == stored.turn);
            let index = partial.as_ref().map(|partial| partial.index);
            let shown = partial.map(|partial| Arc::new(partial.into_event(agent.clone())));
            return Ok((shown.into_iter().collect(), index));
        };
        let done = answers.last().map(|last| Event::done(ending(&turn, last)));
        Ok((answers.into_iter().map(Event::message).chain(done).map(Arc::new).collect(), None))
    }
}

fn ending(turn: &Turn, last: &Message) -> ChatDone {
    ChatDone {
        agent: turn.instance.clone(),
        conversation: turn.conversation.clone(),
        turn: turn.id.clone(),
        status: turn.status,
        message: last.id.clone(),
        last_seq: last.seq,
        error: turn.error.clone(),
    }
}

impl Exchange {
    /// What the sender is told.
    #[must_use]
    pub fn sent(&self) -> &ChatSent {
        &self.sent
    }

    /// The message that was sent.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.stored.message
    }

    /// The conversation's name.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.stored.conversation.topic
    }

    /// The turn.
    #[must_use]
    pub fn turn(&self) -> &TurnId {
        &self.stored.turn
    }

    /// The next event of the turn; `None` after its last one. Nothing is lost when the wait is given up.
    ///
    /// # Errors
    /// [`Lagged`] when this caller did not keep up.
    pub async fn next(&mut self) -> Result<Option<Arc<Event>>, Lagged> {
        while !self.over {
            if let Some(event) = self.told.pop_front() {
                self.over = matches!(event.body(), Body::Done(_));
                return Ok(Some(event));
            }
            let event = self.ear.next().await?;
            let old =
                matches!(event.body(), Body::Delta(delta) if self.shown.is_some_and(|shown| delta.index <= shown));
            if event.turn() != Some(&self.stored.turn) || old {
                continue;
            }
            self.over = matches!(event.body(), Body::Done(_));
            return Ok(Some(event));
        }
        Ok(None)
    }

    /// Waits for the answer, at most so long.
    ///
    /// # Errors
    /// Why the turn has no answer; `timed_out` with the turn, which goes on.
    pub async fn reply(mut self, limit: Duration) -> Result<Message> {
        let turn = self.stored.turn.clone();
        match tokio::time::timeout(limit, self.answer()).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::new(Code::TimedOut, format!("the agent has not answered within {limit:?}: {turn}"))
                .hint("the turn goes on; the answer will stand in the conversation's messages")),
        }
    }

    async fn answer(&mut self) -> Result<Message> {
        let mut answer = None;
        loop {
            let event = self.next().await.map_err(|Lagged| behind(&self.stored.turn))?;
            match event.as_deref().map(Event::body) {
                Some(Body::Message(message)) if message.sender == Sender::Agent => answer = Some(message.clone()),
                Some(Body::Done(done)) => {
                    return match (done.status, answer, &done.error) {
                        (TurnStatus::Done, Some(answer), _) => Ok(answer),
                        (_, _, Some(error)) => Err(error.clone().into()),
                        _ => Err(Error::internal(format!("{} ended without an answer", done.turn))),
                    };
                }
                Some(_) => {}
                None => return Err(Error::internal(format!("{} ended twice", self.stored.turn))),
            }
        }
    }
}

fn behind(turn: &TurnId) -> Error {
    Error::new(Code::Busy, format!("the answer came faster than it was taken: {turn}"))
        .hint("it goes on; the answer will stand in the conversation's messages")
}
