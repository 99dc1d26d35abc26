//! One request and its neighbours: errors, panics, limits, the end.

use std::sync::mpsc as blocking;
use std::time::Duration;

use agentbot_wire::Code;
use futures_util::future::join_all;
use rusqlite::Connection;

use super::{hold, ids, insert, new, open, with_table};
use crate::error::{Error, Result};
use crate::store::{Store, StoreOptions, meta};

#[tokio::test]
async fn what_is_acknowledged_is_read_at_once() {
    let (_dir, _path, store) = new();
    store.write(|conn| meta::set(conn, "colour", "green")).await.unwrap();
    let colour = store.read(|conn| meta::get(conn, "colour")).await.unwrap();
    assert_eq!(colour.as_deref(), Some("green"));
}

#[tokio::test]
async fn an_error_undoes_its_own_request_alone() {
    let (_dir, _path, store) = new();
    with_table(&store).await;
    let (release, held) = hold(&store);
    let good = store.write(|conn| insert(conn, 1));
    let bad = store.write(|conn| {
        insert(conn, 2)?;
        Err::<(), _>(Error::conflict("no"))
    });
    let worse = store.write(|conn| {
        insert(conn, 3)?;
        std::panic::resume_unwind(Box::new("worse"));
        #[allow(unreachable_code)]
        Ok(())
    });
    let last = store.write(|conn| insert(conn, 4));
    let release = async { drop(release) };
    let (_, good, bad, worse, last, ()) = tokio::join!(held, good, bad, worse, last, release);
    good.unwrap();
    assert_eq!(bad.unwrap_err().code(), Code::Conflict);
    assert!(worse.unwrap_err().to_string().contains("worse"));
    last.unwrap();
    assert_eq!(ids(&store).await, [1, 4]);
}

#[tokio::test]
async fn one_more_than_the_queue_holds_is_refused_and_the_rest_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { queue: 3, ..StoreOptions::default() };
    let store = Store::open(&dir.path().join("agentbot.db"), options).unwrap().store;
    with_table(&store).await;
    let (release, wait) = blocking::channel::<()>();
    let (begun, running) = tokio::sync::oneshot::channel();
    let held = store.write(move |_| {
        begun.send(()).unwrap();
        let _ = wait.recv();
        Ok(())
    });
    let burst = async {
        running.await.unwrap();
        let requests = (0..4).map(|id| store.write(move |conn| insert(conn, id)));
        let (answers, ()) = tokio::join!(join_all(requests), async { drop(release) });
        answers
    };
    let (_, answers) = tokio::join!(held, burst);
    let codes: Vec<_> = answers.into_iter().map(|answer| answer.map_err(|error| error.code())).collect();
    assert_eq!(codes, [Ok(()), Ok(()), Ok(()), Err(Code::Busy)]);
    assert_eq!(ids(&store).await, [0, 1, 2]);
}

#[tokio::test]
async fn a_caller_that_leaves_loses_the_answer_and_not_the_request() {
    let (_dir, _path, store) = new();
    with_table(&store).await;
    let (release, held) = hold(&store);
    let mut held = Box::pin(held);
    assert!(futures_util::poll!(&mut held).is_pending());
    {
        let mut leaving = Box::pin(store.write(|conn| insert(conn, 7)));
        assert!(futures_util::poll!(&mut leaving).is_pending());
    }
    drop(release);
    held.await.unwrap();
    store.write(|_| Ok(())).await.unwrap();
    assert_eq!(ids(&store).await, [7]);
}

#[tokio::test]
async fn closing_does_what_waits_and_refuses_what_comes_later() {
    let (_dir, path, store) = new();
    with_table(&store).await;
    let waiting: Vec<_> = (0..20).map(|id| store.write(move |conn| insert(conn, id))).collect();
    let (answers, closed) = tokio::join!(join_all(waiting), store.close());
    closed.unwrap();
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(store.write(|_| Ok(())).await.unwrap_err().code(), Code::ShuttingDown);
    store.close().await.unwrap();
    assert_eq!(ids(&store).await.len(), 20);
    drop(store);
    assert_eq!(ids(&open(&path)).await.len(), 20);
}

#[tokio::test]
async fn the_last_handle_ends_the_writer_in_order() {
    let (_dir, path, store) = new();
    with_table(&store).await;
    store.write(|conn| insert(conn, 1)).await.unwrap();
    drop(store);
    assert_eq!(ids(&open(&path)).await, [1]);
}

#[tokio::test]
async fn a_request_cannot_commit_on_its_own() {
    let (_dir, _path, store) = new();
    with_table(&store).await;
    let error = store
        .write(|conn| {
            insert(conn, 1)?;
            Ok(conn.execute_batch("COMMIT")?)
        })
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Internal);
    let swallowed = store
        .write(|conn| {
            let _ = insert(conn, -1);
            insert(conn, 2)
        })
        .await;
    assert!(swallowed.is_err(), "the second insert would have been a transaction of its own");
    assert!(ids(&store).await.is_empty());
    store.write(|conn| insert(conn, 3)).await.unwrap();
    assert_eq!(ids(&store).await, [3]);
}

#[tokio::test]
async fn what_takes_too_long_is_ended_and_the_store_goes_on() {
    const FOREVER: &str = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";
    let dir = tempfile::tempdir().unwrap();
    let limit = Duration::from_millis(20);
    let options = StoreOptions { write_limit: limit, read_limit: limit, scan_limit: limit, ..StoreOptions::default() };
    let store = Store::open(&dir.path().join("agentbot.db"), options).unwrap().store;
    let forever = |conn: &Connection| Ok(conn.query_row(FOREVER, [], |row| row.get::<_, i64>(0))?);
    assert_eq!(store.read(forever).await.unwrap_err().code(), Code::TimedOut);
    assert_eq!(store.scan(forever).await.unwrap_err().code(), Code::TimedOut);
    assert_eq!(store.write(forever).await.unwrap_err().code(), Code::TimedOut);
    store.write(|conn| meta::set(conn, "a", "b")).await.unwrap();
    assert!(store.read(|conn| meta::get(conn, "a")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_reader_can_neither_write_nor_be_lost_to_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { readers: 1, ..StoreOptions::default() };
    let store = Store::open(&dir.path().join("agentbot.db"), options).unwrap().store;
    assert!(store.read(|conn| meta::set(conn, "a", "b")).await.is_err());
    let panicked = store.read(|_| -> Result<()> { std::panic::resume_unwind(Box::new("oh")) }).await;
    assert_eq!(panicked.unwrap_err().code(), Code::Internal);
    assert_eq!(store.read(|conn| meta::get(conn, "a")).await.unwrap(), None);
}

#[tokio::test]
async fn a_read_sees_one_moment() {
    let (_dir, path, store) = new();
    with_table(&store).await;
    let other = Connection::open(&path).unwrap();
    let counts = store
        .read(move |conn| {
            let count = |conn: &Connection| conn.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
            let before = count(conn)?;
            insert(&other, 1)?;
            Ok((before, count(conn)?))
        })
        .await
        .unwrap();
    assert_eq!(counts, (0, 0));
}

#[tokio::test]
async fn the_settings_are_those_promised() {
    let (_dir, _path, store) = new();
    let settings = store
        .write(|conn| {
            let pragma =
                |name: &str| conn.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0));
            let names = ["journal_mode", "synchronous", "foreign_keys", "trusted_schema", "mmap_size", "busy_timeout"];
            Ok(names.map(|name| format!("{name} {:?}", pragma(name).unwrap())))
        })
        .await
        .unwrap();
    let wanted = [
        "journal_mode Text(\"wal\")",
        "synchronous Integer(2)",
        "foreign_keys Integer(1)",
        "trusted_schema Integer(0)",
        "mmap_size Integer(0)",
        "busy_timeout Integer(5000)",
    ];
    assert_eq!(settings, wanted);
}
