//! Gateway tokens, of which the store has the salt and the hash.

use agentbot_wire::InstanceId;
use rusqlite::{Connection, OptionalExtension, params};

use crate::error::{Error, Result};
use crate::store::column::damaged;

/// A gateway token as the store knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// What it is derived with.
    pub salt: [u8; 16],
    /// SHA-256 of it.
    pub hash: [u8; 32],
}

/// Gives an agent another token; the former one is nobody's from then on.
///
/// # Errors
/// Storage errors.
pub fn set_token(conn: &Connection, id: &InstanceId, token: &TokenRow) -> Result<()> {
    conn.prepare_cached("UPDATE instances SET token_salt = ?2, token_hash = ?3 WHERE id = ?1")?.execute(params![
        id.as_str(),
        token.salt,
        token.hash
    ])?;
    Ok(())
}

/// The living agent whose token has that hash.
///
/// # Errors
/// Storage errors.
pub fn token_holder(conn: &Connection, hash: &[u8; 32]) -> Result<Option<InstanceId>> {
    let id: Option<String> = conn
        .prepare_cached("SELECT id FROM instances WHERE token_hash = ?1 AND desired NOT IN ('deleted', 'purged')")?
        .query_row([hash], |row| row.get(0))
        .optional()?;
    id.map(|id| id.parse().map_err(|_| damaged("instance", &id))).transpose()
}

/// Whether that is still the token of an agent that lives. Asked in the transaction that acts for whoever holds it.
///
/// # Errors
/// Storage errors.
pub fn token_is_current(conn: &Connection, instance: &InstanceId, hash: &[u8; 32]) -> Result<bool> {
    Ok(token_holder(conn, hash)?.is_some_and(|holder| holder == *instance))
}

/// The hash of an agent's token, whether it lives or not; `None` while it has none.
///
/// # Errors
/// Storage errors.
pub fn token_hash(conn: &Connection, id: &InstanceId) -> Result<Option<[u8; 32]>> {
    let found: Option<Option<[u8; 32]>> = conn
        .prepare_cached("SELECT token_hash FROM instances WHERE id = ?1")?
        .query_row([id.as_str()], |row| row.get(0))
        .optional()?;
    Ok(found.flatten())
}

/// Agents whose token has no hash yet, each with its salt.
///
/// # Errors
/// Storage errors.
pub fn without_token_hash(conn: &Connection) -> Result<Vec<(InstanceId, [u8; 16])>> {
    let mut statement = conn.prepare_cached("SELECT id, token_salt FROM instances WHERE token_hash IS NULL")?;
    let found = statement.query_and_then([], |row| {
        let (id, salt): (String, [u8; 16]) = (row.get(0)?, row.get(1)?);
        Ok::<_, Error>((id.parse().map_err(|_| damaged("instance", &id))?, salt))
    })?;
    found.collect()
}
