//! What the store promises, driven through its front door.

mod agents;
mod crash;
mod disk;
mod interleaving;
mod opening;
mod requests;
mod sync_failure;
mod tables;

use std::path::{Path, PathBuf};
use std::sync::mpsc as blocking;

use rusqlite::Connection;

use super::{Store, StoreOptions};
use crate::error::Result;

pub(super) fn open(path: &Path) -> Store {
    Store::open(path, StoreOptions::default()).unwrap().store
}

pub(super) fn new() -> (tempfile::TempDir, PathBuf, Store) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agentbot.db");
    let store = open(&path);
    (dir, path, store)
}

pub(super) async fn with_table(store: &Store) {
    store
        .write(|conn| {
            Ok(conn.execute_batch(
                "CREATE TABLE t (seq INTEGER PRIMARY KEY, id INTEGER NOT NULL, filler BLOB);
                 CREATE TRIGGER t_abort BEFORE INSERT ON t WHEN NEW.id < 0
                 BEGIN SELECT RAISE(ROLLBACK, 'the trigger ended it'); END;",
            )?)
        })
        .await
        .unwrap();
}

pub(super) fn insert(conn: &Connection, id: i64) -> Result<()> {
    conn.prepare_cached("INSERT INTO t (id) VALUES (?1)")?.execute([id])?;
    Ok(())
}

pub(super) async fn ids(store: &Store) -> Vec<i64> {
    store
        .scan(|conn| {
            let mut find = conn.prepare_cached("SELECT id FROM t ORDER BY seq")?;
            Ok(find.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()?)
        })
        .await
        .unwrap()
}

/// Keeps the writer busy until the sender is used or dropped, so that what comes next queues.
pub(super) fn hold(store: &Store) -> (blocking::Sender<()>, impl Future<Output = Result<()>> + use<>) {
    let (release, wait) = blocking::channel::<()>();
    let store = store.clone();
    let held = async move {
        store
            .write(move |_| {
                let _ = wait.recv();
                Ok(())
            })
            .await
    };
    (release, held)
}
