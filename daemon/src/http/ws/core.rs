//! What a session asks of the daemon, as traits, so that it can be tried without one.

use std::collections::BTreeMap;

use agentbot_wire::{ChatSubscribe, ChatSubscribed, ConversationId, Platform};
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::pen::Place;
use super::request::Request;
use crate::chat::{Chat, Feed, Lagged};
use crate::error::{Error, Result};
use crate::identity::Actor;

/// The core as one client sees it.
pub trait Core: Send + Sync {
    /// What the client hears.
    type Ear: Ear;

    /// An ear that hears nothing yet.
    fn ear(&self) -> Self::Ear;

    /// Carries a request out; subscriptions go to the ear.
    fn ask(&self, request: Request, platform: Platform) -> impl Future<Output = Result<Value>> + Send;
}

/// An event on its way to a client.
#[derive(Clone, Debug)]
pub struct Told {
    /// Its frame.
    pub frame: Bytes,
    /// The place of a stored message.
    pub place: Option<Place>,
}

/// What a client hears.
pub trait Ear: Send {
    /// Hears more.
    fn subscribe(&mut self, params: &ChatSubscribe) -> impl Future<Output = Result<ChatSubscribed>> + Send;

    /// The next event. Nothing is lost when the wait is given up.
    fn next(&mut self) -> impl Future<Output = Result<Told, Lagged>> + Send;

    /// The last place given of each conversation, whether it was written or not.
    fn cursors(&self) -> BTreeMap<ConversationId, u64>;
}

/// One actor at the chat.
pub struct Asker {
    pub(super) chat: Chat,
    pub(super) actor: Actor,
}

fn payload(answer: &impl Serialize) -> Result<Value> {
    serde_json::to_value(answer).map_err(Error::internal)
}

impl Core for Asker {
    type Ear = Feed;

    fn ear(&self) -> Feed {
        self.chat.feed(&self.actor)
    }

    async fn ask(&self, request: Request, platform: Platform) -> Result<Value> {
        let Self { chat, actor } = self;
        match request {
            Request::Send(send) => payload(&chat.send(actor, &send, platform).await?),
            Request::History(params) => payload(&chat.history(actor, &params).await?),
            Request::Abort(of) => payload(&chat.abort(actor, &of.turn).await?),
            Request::Retry(of) => payload(&chat.retry(actor, &of.turn).await?),
            Request::Subscribe(_) => Err(Error::internal("a subscription went past the ear")),
        }
    }
}

impl Ear for Feed {
    async fn subscribe(&mut self, params: &ChatSubscribe) -> Result<ChatSubscribed> {
        Feed::subscribe(self, params).await
    }

    async fn next(&mut self) -> Result<Told, Lagged> {
        let event = Feed::next(self).await?;
        // A phase has a number too, but of no conversation.
        Ok(Told { frame: event.frame().clone(), place: event.conversation().cloned().zip(event.seq()) })
    }

    fn cursors(&self) -> BTreeMap<ConversationId, u64> {
        Feed::cursors(self).clone()
    }
}
