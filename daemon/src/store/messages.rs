//! Table `messages`: what was said. Their places in a conversation have no gaps: a place is taken in the savepoint that
//! stores the message.

use agentbot_wire::{ConversationId, InstanceId, Message, MessageId, Platform, Sender, TurnId};
use jiff::Timestamp;
use rusqlite::{Connection, Row, ToSql, named_params};

use super::events::TRIM_BATCH;
use super::rows::{Columns, many, one};
use super::{conversations, ms};
use crate::error::Result;

const SELECT: &str = "SELECT id, instance, conversation, sender, content, at, platform, seq, turn FROM messages";

fn from_row(row: &Row<'_>) -> Result<Message> {
    let mut c = Columns::of(row);
    Ok(Message {
        id: c.word("message")?,
        agent: c.word("instance")?,
        conversation: c.word("conversation")?,
        sender: c.known("sender", Sender::from_word)?,
        content: c.next()?,
        timestamp: c.time()?,
        platform: c.known("platform", Platform::from_word)?,
        seq: c.next()?,
        turn: c.maybe_word("turn")?,
    })
}

/// A message before it has a place.
#[derive(Clone, Copy, Debug)]
pub struct NewMessage<'a> {
    /// The agent.
    pub agent: &'a InstanceId,
    /// The conversation.
    pub conversation: &'a ConversationId,
    /// The turn that it begins or ends.
    pub turn: &'a TurnId,
    /// Who wrote it.
    pub sender: Sender,
    /// Its text.
    pub content: &'a str,
    /// The way by which it came.
    pub platform: Platform,
    /// Who caused it, in the words of an actor.
    pub actor: &'a str,
    /// Its sender's idempotency key.
    pub key: Option<&'a str>,
}

/// Stores a message at the end of its conversation. It may be published once the request that called this is
/// acknowledged, and not before.
///
/// # Errors
/// Storage errors.
pub fn append(conn: &Connection, new: &NewMessage<'_>, now: Timestamp) -> Result<Message> {
    let seq = conversations::next_seq(conn, new.conversation, now)?;
    let id = MessageId::mint();
    conn.prepare_cached(
        "INSERT INTO messages
             (id, tenant_id, conversation, seq, instance, turn, sender, content, platform, actor, key, at)
         VALUES (:id, (SELECT tenant_id FROM conversations WHERE id = :conversation), :conversation, :seq, :instance,
             :turn, :sender, :content, :platform, :actor, :key, :at)",
    )?
    .execute(named_params! {
        ":id": id.as_str(), ":conversation": new.conversation.as_str(), ":seq": seq,
        ":instance": new.agent.as_str(), ":turn": new.turn.as_str(), ":sender": new.sender.as_str(),
        ":content": new.content, ":platform": new.platform.as_str(), ":actor": new.actor, ":key": new.key,
        ":at": ms(now),
    })?;
    Ok(Message {
        id,
        agent: new.agent.clone(),
        conversation: new.conversation.clone(),
        sender: new.sender,
        content: new.content.to_owned(),
        timestamp: now,
        platform: new.platform,
        seq,
        turn: Some(new.turn.clone()),
    })
}

/// One message.
///
/// # Errors
/// Storage errors.
pub fn get(conn: &Connection, id: &MessageId) -> Result<Option<Message>> {
    one(conn.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?, [id.as_str()], from_row)
}

/// The message that an actor sent to an agent with an idempotency key.
///
/// # Errors
/// Storage errors.
pub fn by_key(conn: &Connection, instance: &InstanceId, actor: &str, key: &str) -> Result<Option<Message>> {
    let find = conn.prepare_cached(&format!("{SELECT} WHERE instance = ?1 AND actor = ?2 AND key = ?3"))?;
    one(find, [instance.as_str(), actor, key], from_row)
}

/// The messages that a turn left, oldest first: those that are not its question.
///
/// # Errors
/// Storage errors.
pub fn answers(conn: &Connection, turn: &TurnId) -> Result<Vec<Message>> {
    let find = conn.prepare_cached(&format!("{SELECT} WHERE turn = ?1 AND sender <> 'user' ORDER BY seq"))?;
    many(find, [turn.as_str()], from_row)
}

/// Which messages of a conversation are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// The newest ones.
    Newest,
    /// The newest ones before a place.
    Before(u64),
    /// The oldest ones after a place.
    After(u64),
}

/// At most `limit` messages of a conversation, oldest first, with their contents at most `bytes` together (one is given
/// in any case); and whether there are more in the direction that was asked for.
///
/// # Errors
/// Storage errors.
pub fn page(
    conn: &Connection,
    conversation: &ConversationId,
    span: Span,
    limit: usize,
    bytes: usize,
) -> Result<(Vec<Message>, bool)> {
    let (bound, order, place) = match span {
        Span::Newest => ("", "DESC", 0),
        Span::Before(seq) => ("AND seq < ?3", "DESC", seq),
        Span::After(seq) => ("AND seq > ?3", "ASC", seq),
    };
    let mut find =
        conn.prepare_cached(&format!("{SELECT} WHERE conversation = ?1 {bound} ORDER BY seq {order} LIMIT ?2"))?;
    let (id, rows) = (conversation.as_str(), i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX));
    let place = i64::try_from(place).unwrap_or(i64::MAX);
    let params: &[&dyn ToSql] = if bound.is_empty() { &[&id, &rows] } else { &[&id, &rows, &place] };
    let mut rows = find.query(params)?;
    let (mut messages, mut room, mut more) = (Vec::new(), bytes, false);
    while let Some(row) = rows.next()? {
        let message = from_row(row)?;
        let fits = message.content.len() <= room;
        if messages.len() == limit || !(fits || messages.is_empty()) {
            more = true;
            break;
        }
        room = room.saturating_sub(message.content.len());
        messages.push(message);
    }
    if order == "DESC" {
        messages.reverse();
    }
    Ok((messages, more))
}

/// Messages of all conversations of an agent, newest first, past `offset` newer ones.
///
/// # Errors
/// Storage errors.
pub fn of_instance(conn: &Connection, instance: &InstanceId, limit: u32, offset: u64) -> Result<Vec<Message>> {
    let find = conn.prepare_cached(&format!("{SELECT} WHERE instance = ?1 ORDER BY row DESC LIMIT ?2 OFFSET ?3"))?;
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    many(find, (instance.as_str(), limit, offset), from_row)
}

/// How many messages an agent has: places have no gaps, so the newest ones tell.
///
/// # Errors
/// Storage errors.
pub fn count(conn: &Connection, instance: &InstanceId) -> Result<u64> {
    let mut count = conn.prepare_cached("SELECT coalesce(sum(last_seq), 0) FROM conversations WHERE instance = ?1")?;
    Ok(count.query_row([instance.as_str()], |row| row.get(0))?)
}

/// Removes messages and turns of an agent, the oldest first, at most [`TRIM_BATCH`] of each, so that it never keeps the writer
/// for long; says how many are gone.
///
/// # Errors
/// Storage errors.
pub fn remove_some(conn: &Connection, instance: &InstanceId) -> Result<usize> {
    let batch = i64::try_from(TRIM_BATCH).unwrap_or(i64::MAX);
    let mut gone = 0;
    for delete in [
        "DELETE FROM messages WHERE row IN (SELECT row FROM messages WHERE instance = ?1 LIMIT ?2)",
        "DELETE FROM turns WHERE rowid IN (
             SELECT t.rowid FROM conversations c JOIN turns t ON t.conversation = c.id WHERE c.instance = ?1 LIMIT ?2)",
    ] {
        gone += conn.prepare_cached(delete)?.execute((instance.as_str(), batch))?;
    }
    Ok(gone)
}

/// Forgets idempotency keys of messages from before a time, at most [`TRIM_BATCH`]; says how many.
///
/// # Errors
/// Storage errors.
pub fn forget_keys(conn: &Connection, before: Timestamp) -> Result<usize> {
    let batch = i64::try_from(TRIM_BATCH).unwrap_or(i64::MAX);
    Ok(conn
        .prepare_cached(
            "UPDATE messages SET key = NULL
             WHERE row IN (SELECT row FROM messages WHERE key IS NOT NULL AND at < ?1 LIMIT ?2)",
        )?
        .execute((ms(before), batch))?)
}
