//! Random neighbours in random batches on a disk that fills up.

use std::time::Duration;

use futures_util::future::join_all;
use proptest::prelude::*;
use rusqlite::Connection;

use super::{hold, ids, insert, open, with_table};
use crate::error::{Error, Result};
use crate::store::{Store, StoreOptions};

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
