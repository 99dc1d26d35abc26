//! Table `conversations`: what is said with an agent, by topic. The newest message's place stands here.

use agentbot_wire::{Code, ConversationId, ConversationView, InstanceId, TenantId};
use jiff::Timestamp;
use rusqlite::{Connection, Row};

use super::ms;
use super::rows::{Columns, many, one};
use crate::error::{Error, Result};

/// Conversations that one agent may have: the cursors of all of them fit one frame.
pub const MAX_PER_AGENT: usize = 2_000;

const SELECT: &str = "SELECT id, instance, topic, last_seq, created_at, updated_at FROM conversations";

fn from_row(row: &Row<'_>) -> Result<ConversationView> {
    let mut c = Columns::of(row);
    Ok(ConversationView {
        id: c.word("conversation")?,
        agent: c.word("instance")?,
        topic: c.next()?,
        seq: c.next()?,
        created_at: c.time()?,
        updated_at: c.time()?,
    })
}

/// One conversation.
///
/// # Errors
/// Storage errors.
pub fn get(conn: &Connection, id: &ConversationId) -> Result<Option<ConversationView>> {
    one(conn.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?, [id.as_str()], from_row)
}

/// The conversation of an agent about a topic.
///
/// # Errors
/// Storage errors.
pub fn about(conn: &Connection, instance: &InstanceId, topic: &str) -> Result<Option<ConversationView>> {
    let find = conn.prepare_cached(&format!("{SELECT} WHERE instance = ?1 AND topic = ?2"))?;
    one(find, [instance.as_str(), topic], from_row)
}

/// The conversation of an agent about a topic, begun if there is none.
///
/// # Errors
/// `limit_reached` when the agent has as many as it may; storage errors.
pub fn open(
    conn: &Connection,
    tenant: &TenantId,
    instance: &InstanceId,
    topic: &str,
    now: Timestamp,
) -> Result<ConversationView> {
    if let Some(found) = about(conn, instance, topic)? {
        return Ok(found);
    }
    let mut count = conn.prepare_cached("SELECT count(*) FROM conversations WHERE instance = ?1")?;
    let count: usize = count.query_row([instance.as_str()], |row| row.get(0))?;
    if count >= MAX_PER_AGENT {
        return Err(Error::new(Code::LimitReached, format!("the agent has {MAX_PER_AGENT} conversations already"))
            .hint("go on with one of them: `agentbotctl conversations` lists them"));
    }
    let id = ConversationId::mint();
    conn.prepare_cached(
        "INSERT INTO conversations (id, tenant_id, instance, topic, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
    )?
    .execute((id.as_str(), tenant.as_str(), instance.as_str(), topic, ms(now)))?;
    Ok(ConversationView {
        id,
        agent: instance.clone(),
        topic: topic.to_owned(),
        seq: 0,
        created_at: now,
        updated_at: now,
    })
}

/// The conversations of an agent, most recently used first.
///
/// # Errors
/// Storage errors.
pub fn of_instance(conn: &Connection, instance: &InstanceId) -> Result<Vec<ConversationView>> {
    let find = conn.prepare_cached(&format!("{SELECT} WHERE instance = ?1 ORDER BY updated_at DESC, id DESC"))?;
    many(find, [instance.as_str()], from_row)
}

/// Gives the next place in a conversation away.
///
/// # Errors
/// Storage errors.
pub(super) fn next_seq(conn: &Connection, id: &ConversationId, now: Timestamp) -> Result<u64> {
    let mut take = conn.prepare_cached(
        "UPDATE conversations SET last_seq = last_seq + 1, updated_at = ?2 WHERE id = ?1 RETURNING last_seq",
    )?;
    Ok(take.query_row((id.as_str(), ms(now)), |row| row.get(0))?)
}
