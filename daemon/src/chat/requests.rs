//! What may be asked of chat: each change is one transaction, published when it is on the disk.

use std::sync::Arc;

use agentbot_wire::{
    ApiError, ChatLog, ChatSend, ChatSent, Code, ConversationList, ConversationView, HISTORY_PAGE, History,
    HistoryParams, MAIN_TOPIC, MAX_HISTORY_PAGE, Message, MessageList, Platform, Sender, TurnId, TurnStatus, TurnView,
};
use std::time::Duration;

use super::Chat;
use super::access;
use super::event::{Body, Event};
use super::hub::Ear;
use super::text::{check_key, check_message, check_topic};
use crate::error::{Error, Result};
use crate::identity::Actor;
use crate::instance::{fault, meant};
use crate::store::messages::{NewMessage, Span};
use crate::store::turns::Turn;
use crate::store::{Connection, conversations, messages, turns};

/// Turns of one conversation that may be open.
pub const MAX_WAITING: usize = 64;
/// Turns of one agent that may be open, in all its conversations.
pub const MAX_OPEN: usize = 256;
/// Bytes of contents in one page of a history: with quotes and backslashes doubled it still fits a frame.
pub const PAGE_BYTES: usize = 96 * 1024;
/// Bytes of contents in the answer of `GET /api/chat`.
const LOG_BYTES: usize = 1024 * 1024;
/// How long an abort waits for the end to be written down.
const ABORT_WAIT: Duration = Duration::from_secs(5);
/// How long it waits before it tries again.
const ABORT_AGAIN: Duration = Duration::from_millis(50);

/// A message that was stored, or the one that the same key stored before.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub message: Message,
    pub conversation: ConversationView,
    pub turn: TurnId,
    /// Whether it was stored just now.
    pub fresh: bool,
}

impl Stored {
    pub(super) fn sent(&self) -> ChatSent {
        ChatSent {
            message: self.message.id.clone(),
            conversation: self.conversation.id.clone(),
            seq: self.message.seq,
            turn: self.turn.clone(),
        }
    }
}

impl Chat {
    /// Stores a message and has the agent answer it. It is on the disk when this returns.
    ///
    /// # Errors
    /// `invalid`, `too_large`, `not_found`, `busy` when too many turns wait, `limit_reached`, `idempotency_mismatch`,
    /// `unauthenticated` when the caller's token was replaced.
    pub async fn send(&self, actor: &Actor, send: &ChatSend, platform: Platform) -> Result<ChatSent> {
        self.store_message(actor, send, platform).await.map(|stored| stored.sent())
    }

    pub(super) async fn store_message(&self, actor: &Actor, send: &ChatSend, platform: Platform) -> Result<Stored> {
        check_message(&send.text)?;
        send.topic.as_deref().map_or(Ok(()), check_topic)?;
        send.idempotency_key.as_deref().map_or(Ok(()), check_key)?;
        if send.conversation.is_some() && send.topic.is_some() {
            return Err(Error::invalid("topic", "stands beside `conversation`").hint("give one of the two"));
        }
        let (asker, asked, live) = (actor.clone(), send.clone(), self.live.clone());
        fault::point("chat", "send", "before");
        let stored = self
            .live
            .store()
            .write_then(
                move |conn| accept(conn, &asker, &asked, platform),
                move |(stored, fresh): &(Stored, Option<Turn>)| {
                    if let Some(turn) = fresh {
                        if live.hub().is_heard(&turn.instance) {
                            live.hub().publish(&Arc::new(Event::message(stored.message.clone())));
                        }
                        live.queue(turn);
                    }
                },
            )
            .await?;
        fault::point("chat", "send", "after");
        Ok(stored.0)
    }

    /// Ends a turn without waiting for its answer. What was shown of it is stored. A turn that has ended stays as it is.
    ///
    /// # Errors
    /// `not_found`, `unauthenticated`.
    pub async fn abort(&self, actor: &Actor, turn: &TurnId) -> Result<TurnView> {
        let (asker, wanted) = (actor.clone(), turn.clone());
        let seen = self.live.store().read(move |conn| {
            access::check_token(conn, &asker)?;
            access::turn(conn, &asker, &wanted)
        });
        let seen = seen.await?;
        if seen.status.is_ended() {
            return Ok(seen.view());
        }
        let mut ear = self.live.hub().listen();
        ear.hear(&seen.instance, Some(&seen.conversation));
        // A message is on the disk a moment before its turn can be stopped; an end may be under way by itself. Either way
        // the event tells how it was.
        let ended = async {
            loop {
                self.live.try_apply(&seen.instance, |lanes, _| lanes.abort(turn, aborted()));
                match tokio::time::timeout(ABORT_AGAIN, over(&mut ear, turn)).await {
                    Ok(()) => break,
                    Err(_) if self.turn(actor, turn).await?.status.is_ended() => break,
                    Err(_) => {}
                }
            }
            Ok::<(), Error>(())
        };
        if let Ok(outcome) = tokio::time::timeout(ABORT_WAIT, ended).await {
            outcome?;
        }
        self.turn(actor, turn).await
    }

    /// Asks once more what a turn left unanswered; gives the new turn. Asked again while that is open: the same one.
    ///
    /// # Errors
    /// `not_found`; `conflict` for a turn that is open or answered; `busy`, `unauthenticated`.
    pub async fn retry(&self, actor: &Actor, turn: &TurnId) -> Result<TurnView> {
        let (asker, wanted, live) = (actor.clone(), turn.clone(), self.live.clone());
        let retried = self.live.store().write_then(
            move |conn| again(conn, &asker, &wanted),
            move |(turn, fresh): &(Turn, bool)| {
                if *fresh {
                    live.queue(turn);
                }
            },
        );
        retried.await.map(|(turn, _)| turn.view())
    }

    /// How far a turn is.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn turn(&self, actor: &Actor, turn: &TurnId) -> Result<TurnView> {
        let (actor, turn) = (actor.clone(), turn.clone());
        let found = self.live.store().read(move |conn| access::turn(conn, &actor, &turn));
        found.await.map(|turn| turn.view())
    }

    /// Messages of a conversation, a page at a time.
    ///
    /// # Errors
    /// `not_found`, `invalid`.
    pub async fn history(&self, actor: &Actor, params: &HistoryParams) -> Result<History> {
        let limit = page_size(params.limit)?;
        let span = match (params.before_seq, params.after_seq) {
            (None, None) => Span::Newest,
            (Some(before), None) => Span::Before(before),
            (None, Some(after)) => Span::After(after),
            (Some(_), Some(_)) => {
                return Err(Error::invalid("after_seq", "stands beside `before_seq`").hint("give one of the two"));
            }
        };
        let (actor, conversation) = (actor.clone(), params.conversation.clone());
        let (messages, more) = self
            .live
            .store()
            .read(move |conn| {
                access::conversation(conn, &actor, &conversation)?;
                messages::page(conn, &conversation, span, limit, PAGE_BYTES)
            })
            .await?;
        Ok(History { messages, more })
    }

    /// Messages of all conversations of an agent, newest first.
    ///
    /// # Errors
    /// `not_found`, `invalid`.
    pub async fn messages(&self, actor: &Actor, agent: &str, limit: u32, offset: u64) -> Result<MessageList> {
        page_size(Some(limit))?;
        let (actor, named) = (actor.clone(), agent.to_owned());
        let read = self.live.store().scan(move |conn| {
            let agent = meant(conn, &actor, Some(&named))?.id;
            Ok((messages::of_instance(conn, &agent, limit, offset)?, messages::count(conn, &agent)?))
        });
        let (messages, total) = read.await?;
        Ok(MessageList { messages, total, limit, offset, status: "ok".to_owned() })
    }

    /// The conversations of an agent, most recently used first.
    ///
    /// # Errors
    /// `not_found`, `invalid` when it is not clear which agent is meant.
    pub async fn conversations(&self, actor: &Actor, agent: Option<&str>) -> Result<ConversationList> {
        let (actor, named) = (actor.clone(), agent.map(str::to_owned));
        let read = self.live.store().read(move |conn| {
            let agent = meant(conn, &actor, named.as_deref())?.id;
            conversations::of_instance(conn, &agent)
        });
        let conversations = read.await?;
        Ok(ConversationList { count: conversations.len(), conversations })
    }

    /// The newest messages of one conversation of an agent, oldest first; none while there is no such conversation.
    ///
    /// # Errors
    /// `not_found`, `invalid`.
    pub async fn log(&self, actor: &Actor, agent: Option<&str>, topic: Option<&str>) -> Result<ChatLog> {
        let (actor, named) = (actor.clone(), agent.map(str::to_owned));
        let topic = topic.unwrap_or(MAIN_TOPIC).to_owned();
        check_topic(&topic)?;
        let read = self.live.store().scan(move |conn| {
            let agent = meant(conn, &actor, named.as_deref())?.id;
            let Some(conversation) = conversations::about(conn, &agent, &topic)? else { return Ok(Vec::new()) };
            let limit = usize::try_from(MAX_HISTORY_PAGE).unwrap_or(usize::MAX);
            messages::page(conn, &conversation.id, Span::Newest, limit, LOG_BYTES).map(|(messages, _)| messages)
        });
        let messages = read.await?;
        Ok(ChatLog { count: messages.len(), messages })
    }
}

/// Hears the end of a turn.
async fn over(ear: &mut Ear, turn: &TurnId) {
    while let Ok(event) = ear.next().await {
        if matches!(event.body(), Body::Done(done) if done.turn == *turn) {
            return;
        }
    }
}

fn page_size(limit: Option<u32>) -> Result<usize> {
    let limit = limit.unwrap_or(HISTORY_PAGE);
    if !(1..=MAX_HISTORY_PAGE).contains(&limit) {
        return Err(
            Error::invalid("limit", format!("is not between 1 and {MAX_HISTORY_PAGE}")).hint("ask page by page")
        );
    }
    Ok(usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Stores a message and its turn; a repeat gives the first one, and nothing fresh.
fn accept(conn: &Connection, actor: &Actor, send: &ChatSend, platform: Platform) -> Result<(Stored, Option<Turn>)> {
    access::check_token(conn, actor)?;
    let now = crate::store::now();
    let (agent, named) = match &send.conversation {
        Some(id) => {
            let conversation = access::conversation(conn, actor, id)?;
            let agent = meant(conn, actor, Some(conversation.agent.as_str()))?;
            if let Some(named) = &send.agent
                && meant(conn, actor, Some(named))?.id != agent.id
            {
                return Err(Error::invalid("conversation", "is one of another agent").hint("leave `agent` out"));
            }
            (agent, Some(conversation))
        }
        None => (meant(conn, actor, send.agent.as_deref())?, None),
    };
    let said = actor.to_string();
    let topic = send.topic.as_deref().unwrap_or(MAIN_TOPIC);
    if let Some(key) = &send.idempotency_key
        && let Some(message) = messages::by_key(conn, &agent.id, &said, key)?
    {
        let conversation = conversations::get(conn, &message.conversation)?
            .ok_or_else(|| Error::internal("a message without its conversation"))?;
        let same_place = named.as_ref().map_or(conversation.topic == topic, |named| named.id == conversation.id);
        if message.content != send.text || !same_place {
            return Err(Error::new(Code::IdempotencyMismatch, "this idempotency key was used with another message")
                .hint("use a new key for a new message"));
        }
        let turn = message.turn.clone().ok_or_else(|| Error::internal("a sent message without its turn"))?;
        return Ok((Stored { message, conversation, turn, fresh: false }, None));
    }
    let conversation = match named {
        Some(named) => named,
        None => conversations::open(conn, &agent.tenant, &agent.id, topic, now)?,
    };
    check_room(conn, &agent.id, &conversation)?;
    let turn = TurnId::mint();
    let new = NewMessage {
        agent: &agent.id,
        conversation: &conversation.id,
        turn: &turn,
        sender: Sender::User,
        content: &send.text,
        platform,
        actor: &said,
        key: send.idempotency_key.as_deref(),
    };
    let message = messages::append(conn, &new, now)?;
    let row = waiting(turn.clone(), &message);
    turns::insert(conn, &row, None, now)?;
    Ok((Stored { message, conversation, turn, fresh: true }, Some(row)))
}

fn check_room(conn: &Connection, agent: &agentbot_wire::InstanceId, conversation: &ConversationView) -> Result<()> {
    let (all, here) = turns::count_open(conn, agent, &conversation.id)?;
    let (most, whose) = if here >= MAX_WAITING {
        (MAX_WAITING, "this conversation")
    } else if all >= MAX_OPEN {
        (MAX_OPEN, "this agent")
    } else {
        return Ok(());
    };
    Err(Error::new(Code::Busy, format!("{most} messages of {whose} wait for an answer"))
        .hint("wait for some of them, or end them with chat.abort"))
}

fn waiting(id: TurnId, message: &Message) -> Turn {
    Turn {
        id,
        conversation: message.conversation.clone(),
        instance: message.agent.clone(),
        message: message.id.clone(),
        status: TurnStatus::Queued,
        attempts: 0,
        boot: None,
        output: false,
        error: None,
    }
}

/// Asks a message again whose turn left it unanswered; says whether the turn is a new one.
fn again(conn: &Connection, actor: &Actor, of: &TurnId) -> Result<(Turn, bool)> {
    access::check_token(conn, actor)?;
    let seen = access::turn(conn, actor, of)?;
    let agent = meant(conn, actor, Some(seen.instance.as_str()))?;
    // Somebody may have asked again already: the newest turn of the message is the one that counts.
    let newest = turns::newest_of(conn, &seen.message)?.unwrap_or_else(|| seen.clone());
    match newest.status {
        TurnStatus::Failed | TurnStatus::Interrupted | TurnStatus::Cancelled => {}
        TurnStatus::Queued | TurnStatus::Running if newest.id == seen.id => {
            return Err(Error::conflict("the turn has not ended").hint("wait for it, or end it with chat.abort"));
        }
        TurnStatus::Queued | TurnStatus::Running => return Ok((newest, false)),
        TurnStatus::Done => {
            return Err(Error::conflict(format!("the message was answered by {}", newest.id))
                .hint("send the message again to ask it anew"));
        }
    }
    let message = messages::get(conn, &seen.message)?.ok_or_else(|| Error::not_found("message", &seen.message))?;
    let conversation = access::conversation(conn, actor, &seen.conversation)?;
    check_room(conn, &agent.id, &conversation)?;
    let row = waiting(TurnId::mint(), &message);
    turns::insert(conn, &row, Some(of), crate::store::now())?;
    Ok((row, true))
}

fn aborted() -> ApiError {
    ApiError {
        code: Code::Cancelled,
        message: "the answer was stopped".to_owned(),
        hint: Some("ask again with chat.retry".to_owned()),
    }
}
