//! What agents remember: keys with any JSON, theirs alone, bounded in every direction.

use std::time::Duration;

use agentbot_wire::{
    Code, InstanceId, MAX_FRAME, MAX_MEMORY_BULK, MAX_MEMORY_KEY, MAX_MEMORY_KEYS, MAX_MEMORY_VALUE, MemoryFound,
    MemoryGet, MemoryPut, MemorySaved, MemorySearch, MemoryView,
};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::ration::{Pace, Turn, Turns};
use crate::store::{Connection, Store, memory as table, now};

/// Keys that an agent may write in a second, over time.
pub const WRITES_PER_SECOND: u32 = 20;
/// Keys that it may write at once.
pub const WRITES_AT_ONCE: u32 = 100;
/// Bytes of all values of one agent.
pub const MAX_TOTAL: usize = 16 * 1024 * 1024;
/// The most of one answer that goes into a frame; the rest of the frame is its envelope.
const ANSWER: usize = MAX_FRAME - 4 * 1024;
/// What a search gives when nobody says how many.
const FOUND: u32 = 20;
/// Time that an agent waits for its own look before.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest text that is searched for, in characters.
const MAX_QUERY: usize = 256;

/// The memory of all agents; clones share it.
#[derive(Clone)]
pub struct Memory {
    store: Store,
    writes: Pace<InstanceId>,
    looks: Turns<InstanceId>,
}

impl Memory {
    /// In a store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, writes: Pace::new(WRITES_PER_SECOND, WRITES_AT_ONCE), looks: Turns::default() }
    }

    /// An agent reads one key or all; what does not fit a frame is left out.
    ///
    /// # Errors
    /// `invalid` for a key that there cannot be; `busy` for all while the agent looks already; storage errors.
    pub async fn get(&self, instance: &InstanceId, params: &MemoryGet) -> Result<MemoryFound> {
        let instance = instance.clone();
        let Some(key) = params.key.clone() else {
            let turn = self.turn(&instance).await?;
            let all = move |conn: &Connection| {
                let _turn = turn;
                table::some(conn, &instance, ANSWER, usize::MAX, |_, _| true)
            };
            let (memory, more) = self.store.scan(all).await?;
            return Ok(MemoryFound { memory, more });
        };
        check_key(&key)?;
        let value = self.store.read(|conn| table::get(conn, &instance, &key)).await?;
        Ok(MemoryFound { memory: value.map(|value| (key, value)).into_iter().collect(), more: false })
    }

    /// An agent writes one key, or forgets it.
    ///
    /// # Errors
    /// `invalid`, `too_large`, `limit_reached`; `rate_limited` when it writes too often; `not_found` when it was purged
    /// meanwhile; storage errors.
    pub async fn put(&self, instance: &InstanceId, params: &MemoryPut) -> Result<MemorySaved> {
        let entry = Entry::check(&params.key, &params.value)?;
        if !self.writes.keeps(instance) {
            return Err(Error::new(
                Code::RateLimited,
                format!("more than {WRITES_PER_SECOND} keys a second are written"),
            )
            .hint("write less often, or more in one value"));
        }
        let (saved, key) = (entry.json.is_some(), entry.key.clone());
        self.store(instance, vec![entry]).await?;
        Ok(MemorySaved { key, saved })
    }

    /// An agent searches keys and values.
    ///
    /// # Errors
    /// `invalid` for an empty or too long text; `busy` while the agent looks already; storage errors.
    pub async fn search(&self, instance: &InstanceId, params: &MemorySearch) -> Result<MemoryFound> {
        let query = params.query.trim().to_lowercase();
        if query.is_empty() || query.chars().count() > MAX_QUERY {
            return Err(Error::invalid("query", format!("1 to {MAX_QUERY} characters")).hint("search for a word"));
        }
        let limit = params.limit.unwrap_or(FOUND);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).clamp(1, MAX_MEMORY_KEYS);
        let instance = instance.clone();
        let query = Query::new(query);
        let turn = self.turn(&instance).await?;
        let search = move |conn: &Connection| {
            let _turn = turn;
            table::some(conn, &instance, ANSWER, limit, |key, json| query.is_in(key, json))
        };
        let (memory, more) = self.store.scan(search).await?;
        Ok(MemoryFound { memory, more })
    }

    /// An agent looks through its memory once at a time, so that others may too. A look that nobody waits for any more
    /// keeps its turn until it ends.
    async fn turn(&self, instance: &InstanceId) -> Result<Turn> {
        self.looks.wait(instance, PATIENCE).await.ok_or_else(|| {
            Error::new(Code::Busy, "this agent looks through its memory already")
                .hint("wait for one answer before the next")
        })
    }

    /// Everything that an agent remembers, for those who may see it.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn view(&self, instance: &InstanceId) -> Result<MemoryView> {
        let of = instance.clone();
        let read = move |conn: &Connection| {
            let (memory, _) = table::some(conn, &of, usize::MAX, usize::MAX, |_, _| true)?;
            Ok((memory, table::extent(conn, &of)?.last))
        };
        let (memory, last_updated) = self.store.scan(read).await?;
        Ok(MemoryView { count: memory.len(), memory, agent: instance.clone(), last_updated })
    }

    /// Writes one key for an agent, or forgets it; says whether it has a value now.
    ///
    /// # Errors
    /// As [`Memory::put`], without a rate.
    pub async fn write(&self, instance: &InstanceId, key: &str, value: &Value) -> Result<bool> {
        let entry = Entry::check(key, value)?;
        let saved = entry.json.is_some();
        self.store(instance, vec![entry]).await?;
        Ok(saved)
    }

    /// Writes several keys for an agent, all of them or none; says how many.
    ///
    /// # Errors
    /// As [`Memory::write`]; `limit_reached` for too many at once.
    pub async fn write_all(&self, instance: &InstanceId, values: &Value) -> Result<usize> {
        let Value::Object(values) = values else {
            return Err(Error::invalid("memory", "without `key` it is an object of keys and values").hint(
                "for example {\"memory\": {\"colour\": \"green\"}}, or {\"key\": \"colour\", \"memory\": \"green\"}",
            ));
        };
        if values.len() > MAX_MEMORY_BULK {
            let message = format!("{} keys at once; {MAX_MEMORY_BULK} are allowed", values.len());
            return Err(Error::new(Code::LimitReached, message).hint("write them in several calls"));
        }
        let entries = values.iter().map(|(key, value)| Entry::check(key, value)).collect::<Result<Vec<_>>>()?;
        let count = entries.len();
        self.store(instance, entries).await?;
        Ok(count)
    }

    async fn store(&self, instance: &InstanceId, entries: Vec<Entry>) -> Result<()> {
        let instance = instance.clone();
        self.store
            .write(move |conn| {
                let at = now();
                for entry in entries {
                    match entry.json {
                        Some(json) => table::put(conn, &instance, &entry.key, &json, at)?,
                        None => drop(table::forget(conn, &instance, &entry.key)?),
                    }
                }
                let table::Extent { keys, bytes, .. } = table::extent(conn, &instance)?;
                // The error undoes what was written above.
                if keys > MAX_MEMORY_KEYS || bytes > MAX_TOTAL {
                    let limit = format!("an agent remembers at most {MAX_MEMORY_KEYS} keys and {MAX_TOTAL} bytes");
                    return Err(Error::new(Code::LimitReached, limit).hint("forget a key: write null to it"));
                }
                Ok(())
            })
            .await
    }
}

/// A text that is searched for, in lower case.
struct Query {
    plain: String,
    /// As it stands within a text of JSON, between the quotes.
    escaped: String,
}

impl Query {
    fn new(plain: String) -> Self {
        let quoted = Value::String(plain.clone()).to_string();
        let inside = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        Self { escaped: inside.unwrap_or(&quoted).to_owned(), plain }
    }

    /// Whether it is in a key or a value, whatever their case. A value is parsed only where that can change the answer.
    fn is_in(&self, key: &str, json: &str) -> bool {
        if key.to_lowercase().contains(&self.plain) {
            return true;
        }
        let lower = json.to_lowercase();
        if !json.starts_with('"') {
            return lower.contains(&self.plain);
        }
        if !lower.contains(&self.escaped) {
            return false;
        }
        match serde_json::from_str(json) {
            Ok(Value::String(text)) => text.to_lowercase().contains(&self.plain),
            // Whoever reads it finds it damaged, and says so.
            _ => true,
        }
    }
}

/// One key on its way to the disk: its value as JSON, or nothing to forget it.
struct Entry {
    key: String,
    json: Option<String>,
}

impl Entry {
    fn check(key: &str, value: &Value) -> Result<Self> {
        check_key(key)?;
        let json = (!value.is_null()).then(|| value.to_string());
        if let Some(json) = json.as_ref().filter(|json| json.len() > MAX_MEMORY_VALUE) {
            let message = format!("the value has {} bytes of JSON; {MAX_MEMORY_VALUE} are allowed", json.len());
            return Err(Error::new(Code::TooLarge, message).hint("keep it in a file, and its name in the memory"));
        }
        Ok(Self { key: key.to_owned(), json })
    }
}

fn check_key(key: &str) -> Result<()> {
    if (1..=MAX_MEMORY_KEY).contains(&key.chars().count()) && !key.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Error::invalid("key", format!("1 to {MAX_MEMORY_KEY} characters, none of them a control character"))
        .hint("a word or two make a good key"))
}

#[cfg(test)]
mod tests;
