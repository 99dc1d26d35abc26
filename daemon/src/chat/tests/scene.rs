//! A daemon's chat without the rest of the daemon.

use std::sync::Arc;
use std::time::Duration;

use agentbot_wire::{AgentName, ChatSend, ChatSubscribe, HistoryParams, Message, Platform, TenantId, TurnId};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::chat::{Body, Chat, Event, Feed, Parts};
use crate::config::{self, Config, Loaded};
use crate::identity::Actor;
use crate::instance::test_support::a_new_instance;
use crate::link::{Ears, Links, Speaker};
use crate::memory::Memory;
use crate::store::{Store, StoreOptions, instances, slots};
use crate::task::Marks;

pub const OPERATOR: Actor = Actor::Operator { uid: 0 };
pub const SOON: Duration = Duration::from_secs(10);

/// One store, one agent.
pub struct Scene {
    _home: TempDir,
    pub store: Store,
    pub chat: Chat,
    pub agent: Speaker,
}

pub async fn an_agent(store: &Store, name: &str) -> Speaker {
    let name: AgentName = name.parse().unwrap();
    let instance = store
        .write(move |conn| {
            let now = crate::store::now();
            let slot = slots::allocate(conn, &TenantId::local(), (20_000, 20_099), 99, now)?;
            let mut new = a_new_instance();
            new.name = name;
            let instance = new.housed(slot, now);
            instances::insert(conn, &instance)?;
            Ok(instance)
        })
        .await
        .unwrap();
    Speaker { slot: instance.slot.id, instance: instance.id, boot: Some("a".to_owned()), connection: 1 }
}

pub fn chat_on(store: &Store) -> Chat {
    Chat::new(Parts {
        store: store.clone(),
        memory: Memory::new(store.clone()),
        links: Links::new(Marks::new()),
        config: config::Live::new(Loaded { config: Config::default(), warnings: Vec::new() }),
        tasks: TaskTracker::new(),
        runtime: Handle::current(),
        stop: CancellationToken::new(),
    })
}

pub async fn scene() -> Scene {
    let home = TempDir::new().unwrap();
    let store = Store::open(&home.path().join("agentbot.db"), StoreOptions::default()).unwrap().store;
    let agent = an_agent(&store, "helper").await;
    let chat = chat_on(&store);
    Scene { _home: home, store, chat, agent }
}

pub fn say(text: &str) -> ChatSend {
    ChatSend { text: text.to_owned(), ..ChatSend::default() }
}

impl Scene {
    pub async fn send(&self, text: &str) -> agentbot_wire::ChatSent {
        self.chat.send(&OPERATOR, &say(text), Platform::Ws).await.unwrap()
    }

    pub fn delta(&self, turn: &TurnId, text: &str) {
        self.chat.event(&self.agent, "turn.delta", json!({"turn": turn, "text": text}));
    }

    pub fn done(&self, turn: &TurnId, text: &str) {
        self.chat.event(&self.agent, "turn.done", json!({"turn": turn, "text": text}));
    }

    /// Waits until a turn's end is written down.
    pub async fn ended(&self, turn: &TurnId) {
        let ended = async {
            while !self.chat.turn(&OPERATOR, turn).await.unwrap().status.is_ended() {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, ended).await.unwrap();
    }

    pub async fn history(&self, conversation: &agentbot_wire::ConversationId) -> Vec<Message> {
        let params =
            HistoryParams { conversation: conversation.clone(), before_seq: None, after_seq: None, limit: Some(100) };
        self.chat.history(&OPERATOR, &params).await.unwrap().messages
    }

    pub async fn feed(&self, subscribe: ChatSubscribe) -> Feed {
        let mut feed = self.chat.feed(&OPERATOR);
        feed.subscribe(&subscribe).await.unwrap();
        feed
    }
}

pub async fn next(feed: &mut Feed) -> Arc<Event> {
    timeout(SOON, feed.next()).await.unwrap().unwrap()
}

/// Hears until a turn is over.
pub async fn until_done(feed: &mut Feed, turn: &TurnId) -> Vec<Arc<Event>> {
    let mut heard = Vec::new();
    loop {
        let event = next(feed).await;
        heard.push(Arc::clone(&event));
        if matches!(event.body(), Body::Done(done) if done.turn == *turn) {
            return heard;
        }
    }
}

pub fn names(events: &[Arc<Event>]) -> Vec<&'static str> {
    events.iter().map(|event| event.name()).collect()
}
