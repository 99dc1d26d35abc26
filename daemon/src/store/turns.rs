//! Table `turns`: one message in, one answer out. A row says how far that is; it is ended once.

use agentbot_wire::{ApiError, ConversationId, InstanceId, MessageId, TurnId, TurnStatus, TurnView};
use jiff::Timestamp;
use rusqlite::{Connection, Row, named_params};

use super::ms;
use super::rows::{Columns, many, one};
use crate::error::{Error, Result};

/// A turn as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Its id.
    pub id: TurnId,
    /// Its conversation.
    pub conversation: ConversationId,
    /// The agent.
    pub instance: InstanceId,
    /// What it answers.
    pub message: MessageId,
    /// How far it is.
    pub status: TurnStatus,
    /// How many processes of the agent took it.
    pub attempts: u32,
    /// The one that took it last.
    pub boot: Option<String>,
    /// Whether output was shown, or a tool used.
    pub output: bool,
    /// Why it has no answer.
    pub error: Option<ApiError>,
}

impl Turn {
    /// As clients see it.
    #[must_use]
    pub fn view(&self) -> TurnView {
        TurnView {
            turn: self.id.clone(),
            conversation: self.conversation.clone(),
            message: self.message.clone(),
            status: self.status,
            error: self.error.clone(),
        }
    }
}

const SELECT: &str = "SELECT id, conversation, instance, message, status, attempts, boot, output, error FROM turns";

fn from_row(row: &Row<'_>) -> Result<Turn> {
    let mut c = Columns::of(row);
    Ok(Turn {
        id: c.word("turn")?,
        conversation: c.word("conversation")?,
        instance: c.word("instance")?,
        message: c.word("message")?,
        status: c.known("status of a turn", TurnStatus::from_word)?,
        attempts: c.next()?,
        boot: c.next()?,
        output: c.next()?,
        error: c.json("error of a turn")?,
    })
}

/// Adds a turn that waits; `retry_of` is the one that it repeats.
///
/// # Errors
/// Storage errors.
pub fn insert(conn: &Connection, turn: &Turn, retry_of: Option<&TurnId>, now: Timestamp) -> Result<()> {
    conn.prepare_cached(
        "INSERT INTO turns (id, tenant_id, conversation, instance, message, status, retry_of, created_at)
         VALUES (:id, (SELECT tenant_id FROM conversations WHERE id = :conversation), :conversation, :instance,
             :message, :status, :retry_of, :now)",
    )?
    .execute(named_params! {
        ":id": turn.id.as_str(), ":conversation": turn.conversation.as_str(), ":instance": turn.instance.as_str(),
        ":message": turn.message.as_str(), ":status": turn.status.as_str(),
        ":retry_of": retry_of.map(TurnId::as_str), ":now": ms(now),
    })?;
    Ok(())
}

/// One turn.
///
/// # Errors
/// Storage errors.
pub fn get(conn: &Connection, id: &TurnId) -> Result<Option<Turn>> {
    one(conn.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?, [id.as_str()], from_row)
}

/// Every turn that has not ended, in the order in which they were asked for.
///
/// # Errors
/// Storage errors.
pub fn open(conn: &Connection) -> Result<Vec<Turn>> {
    many(conn.prepare_cached(&format!("{SELECT} WHERE ended_at IS NULL ORDER BY rowid"))?, [], from_row)
}

/// Deleted agents that have turns which have not ended.
///
/// # Errors
/// Storage errors.
pub fn orphaned(conn: &Connection) -> Result<Vec<InstanceId>> {
    let find = conn.prepare_cached(
        "SELECT DISTINCT i.id FROM turns t JOIN instances i ON i.id = t.instance
         WHERE t.ended_at IS NULL AND i.deleted_at IS NOT NULL",
    )?;
    many(find, [], |row| Columns::of(row).word("instance"))
}

/// The turns of an agent that have not ended.
///
/// # Errors
/// Storage errors.
pub fn open_of(conn: &Connection, instance: &InstanceId) -> Result<Vec<Turn>> {
    let find = conn.prepare_cached(&format!("{SELECT} WHERE instance = ?1 AND ended_at IS NULL ORDER BY rowid"))?;
    many(find, [instance.as_str()], from_row)
}

/// How many turns of an agent have not ended, and how many of these are of one conversation.
///
/// # Errors
/// Storage errors.
pub fn count_open(conn: &Connection, instance: &InstanceId, conversation: &ConversationId) -> Result<(usize, usize)> {
    let mut count = conn.prepare_cached(
        "SELECT count(*), coalesce(sum(conversation = ?2), 0) FROM turns WHERE instance = ?1 AND ended_at IS NULL",
    )?;
    Ok(count.query_row([instance.as_str(), conversation.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?)
}

/// The newest turn that answers a message.
///
/// # Errors
/// Storage errors.
pub fn newest_of(conn: &Connection, message: &MessageId) -> Result<Option<Turn>> {
    let find = conn.prepare_cached(&format!("{SELECT} WHERE message = ?1 ORDER BY rowid DESC LIMIT 1"))?;
    one(find, [message.as_str()], from_row)
}

/// Writes down that a process of the agent took an open turn, unless a later one did.
///
/// # Errors
/// Storage errors.
pub fn take(conn: &Connection, id: &TurnId, attempts: u32, boot: Option<&str>) -> Result<()> {
    conn.prepare_cached(
        "UPDATE turns SET status = 'running', attempts = ?2, boot = ?3
         WHERE id = ?1 AND ended_at IS NULL AND attempts <= ?2",
    )?
    .execute((id.as_str(), attempts, boot))?;
    Ok(())
}

/// Writes down that an open turn showed output or used a tool.
///
/// # Errors
/// Storage errors.
pub fn show(conn: &Connection, id: &TurnId) -> Result<()> {
    conn.prepare_cached("UPDATE turns SET output = 1 WHERE id = ?1 AND ended_at IS NULL")?.execute([id.as_str()])?;
    Ok(())
}

/// Ends an open turn; says whether it was open.
///
/// # Errors
/// Storage errors.
pub fn end(
    conn: &Connection,
    id: &TurnId,
    status: TurnStatus,
    error: Option<&ApiError>,
    now: Timestamp,
) -> Result<bool> {
    let error = error.map(serde_json::to_string).transpose().map_err(Error::internal)?;
    let ended = conn
        .prepare_cached("UPDATE turns SET status = ?2, error = ?3, ended_at = ?4 WHERE id = ?1 AND ended_at IS NULL")?
        .execute((id.as_str(), status.as_str(), error, ms(now)))?;
    Ok(ended == 1)
}
