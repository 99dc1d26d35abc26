//! What the store promises, driven through its front door.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc as blocking;
use std::time::Duration;

use agentbot_wire::Code;
use futures_util::future::join_all;
use proptest::prelude::*;
use rusqlite::Connection;

use super::*;

fn open(path: &Path) -> Store {
    Store::open(path, StoreOptions::default()).unwrap().store
}

fn new() -> (tempfile::TempDir, PathBuf, Store) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agentbot.db");
    let store = open(&path);
    (dir, path, store)
}

async fn with_table(store: &Store) {
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

fn insert(conn: &Connection, id: i64) -> Result<()> {
    conn.prepare_cached("INSERT INTO t (id) VALUES (?1)")?.execute([id])?;
    Ok(())
}

async fn ids(store: &Store) -> Vec<i64> {
    store
        .scan(|conn| {
            let mut find = conn.prepare_cached("SELECT id FROM t ORDER BY seq")?;
            Ok(find.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()?)
        })
        .await
        .unwrap()
}

/// Keeps the writer busy until the sender is used or dropped, so that what comes next queues.
fn hold(store: &Store) -> (blocking::Sender<()>, impl Future<Output = Result<()>> + use<>) {
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

#[test]
fn the_files_are_private_and_the_identity_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agentbot.db");
    let first = Store::open(&path, StoreOptions::default()).unwrap();
    assert!(first.fresh && first.migrated.is_none());
    let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(files.len(), 3, "{files:?}");
    for file in &files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
    let id = first.daemon_id.clone();
    drop(first);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let second = Store::open(&path, StoreOptions::default()).unwrap();
    assert_eq!((second.fresh, &second.daemon_id), (false, &id));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
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

#[derive(Clone, Copy, Debug)]
enum Act {
    Insert,
    Fail,
    Panic,
    RollBack,
    RollBackAndBegin,
    Commit,
    Abort,
    AbortUnseen,
    Big,
    BigUnseen,
    /// Waits until everything so far is answered.
    Pause,
}

impl Act {
    fn run(self, conn: &Connection, id: i64) -> Result<()> {
        const BIG: &str = "INSERT INTO t (id, filler) VALUES (?1, zeroblob(150000))";
        match self {
            Self::Insert | Self::Pause => return insert(conn, id),
            Self::Fail => {
                insert(conn, id)?;
                return Err(Error::conflict("refused"));
            }
            Self::Panic => {
                insert(conn, id)?;
                std::panic::resume_unwind(Box::new("on purpose"));
            }
            Self::RollBack => {
                insert(conn, id)?;
                conn.execute_batch("ROLLBACK")?;
            }
            Self::RollBackAndBegin => {
                conn.execute_batch("ROLLBACK; BEGIN; SAVEPOINT request")?;
                insert(conn, id)?;
            }
            Self::Commit => {
                insert(conn, id)?;
                conn.execute_batch("COMMIT")?;
            }
            Self::Abort => insert(conn, -1)?,
            Self::AbortUnseen => {
                let _ = insert(conn, -1);
                let _ = insert(conn, id);
            }
            Self::Big => drop(conn.execute(BIG, [id])?),
            Self::BigUnseen => {
                // Where the big one does not fit, the small one must not slip through alone.
                if conn.execute(BIG, [id]).is_err() {
                    let _ = insert(conn, id);
                }
            }
        }
        Ok(())
    }
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        10 => Just(Act::Insert),
        2 => Just(Act::Fail),
        2 => Just(Act::Panic),
        1 => Just(Act::RollBack),
        1 => Just(Act::RollBackAndBegin),
        1 => Just(Act::Commit),
        1 => Just(Act::Abort),
        1 => Just(Act::AbortUnseen),
        1 => Just(Act::Big),
        1 => Just(Act::BigUnseen),
        2 => Just(Act::Pause),
    ];
    prop::collection::vec(act, 1..40)
}

async fn perform(store: &Store, acts: &[Act]) -> Vec<(i64, bool)> {
    let mut told = Vec::new();
    let numbered: Vec<_> = (1_i64..).zip(acts.iter().copied()).collect();
    for burst in numbered.split_inclusive(|(_, act)| matches!(act, Act::Pause)) {
        let (release, held) = hold(store);
        let requests = burst.iter().map(|&(id, act)| store.write(move |conn| act.run(conn, id)));
        let answers = async { tokio::join!(held, join_all(requests), async { drop(release) }).1 };
        let answers = tokio::time::timeout(Duration::from_secs(30), answers).await.expect("an unanswered request");
        told.extend(burst.iter().zip(answers).map(|(&(id, _), answer)| (id, answer.is_ok())));
    }
    told
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the neighbours do, and with a disk that fills up: acknowledged means present, refused means absent,
    /// in the order of the calls, also after the file was opened again.
    #[test]
    fn acknowledged_is_present_and_refused_is_absent(acts in acts(), batch in 1_usize..9, pages in 0_i64..120) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agentbot.db");
        let options = StoreOptions { batch, ..StoreOptions::default() };
        let told = runtime.block_on(async {
            let store = Store::open(&path, options).unwrap().store;
            with_table(&store).await;
            store
                .write(move |conn| {
                    let used: i64 = conn.query_row("PRAGMA page_count", [], |row| row.get(0))?;
                    Ok(conn.query_row(&format!("PRAGMA max_page_count = {}", used + pages), [], |_| Ok(()))?)
                })
                .await
                .unwrap();
            let told = perform(&store, &acts).await;
            store.close().await.unwrap();
            told
        });
        let acknowledged: Vec<i64> = told.iter().filter(|(_, ok)| *ok).map(|(id, _)| *id).collect();
        for (id, act) in (1_i64..).zip(&acts) {
            if matches!(act, Act::Fail | Act::Panic | Act::RollBack | Act::RollBackAndBegin | Act::Commit | Act::Abort | Act::AbortUnseen) {
                prop_assert!(!acknowledged.contains(&id), "{id} {act:?}");
            }
        }
        if pages > 0 && acts.iter().all(|act| matches!(act, Act::Insert | Act::Pause | Act::Fail | Act::Panic)) {
            let wanted = acts.iter().filter(|act| matches!(act, Act::Insert | Act::Pause)).count();
            prop_assert_eq!(acknowledged.len(), wanted, "an error of one took another with it");
        }
        let present = runtime.block_on(async { ids(&open(&path)).await });
        prop_assert_eq!(present, acknowledged);
    }
}
