//! A process that is killed while it writes.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{ids, open, with_table};
use crate::store::{Store, StoreOptions};

const PLACE: &str = "AGENTBOT_TEST_CRASH_DB";

/// The process to be killed; the test below starts it.
#[tokio::test]
#[ignore = "runs only as the child of the test below"]
async fn a_child_writes_until_it_is_killed() {
    let path = PathBuf::from(env::var_os(PLACE).unwrap());
    let store = Store::open(&path, StoreOptions { batch: 4, ..StoreOptions::default() }).unwrap().store;
    if has_no_table(&store).await {
        with_table(&store).await;
    }
    let mut next = 0_i64;
    loop {
        let burst: Vec<i64> = (next..next + 8).collect();
        next += 8;
        let writes = burst.iter().map(|&id| {
            let store = store.clone();
            async move {
                store.write(move |conn| super::insert(conn, id)).await.unwrap();
                println!("\nacknowledged {id}");
            }
        });
        futures_util::future::join_all(writes).await;
    }
}

async fn has_no_table(store: &Store) -> bool {
    store.read(|conn| Ok(conn.prepare("SELECT id FROM t").is_err())).await.unwrap()
}

#[tokio::test]
async fn everything_acknowledged_survives_a_kill() {
    for kill_after in [1, 40, 333, 700] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agentbot.db");
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "store::tests::crash::a_child_writes_until_it_is_killed"])
            .env(PLACE, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut acknowledged = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let Ok(line) = line else { break };
            acknowledged.extend(line.strip_prefix("acknowledged ").map(|id| id.parse::<i64>().unwrap()));
            if acknowledged.len() == kill_after {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(acknowledged.len() >= kill_after, "the child ended after {} of {kill_after}", acknowledged.len());
        let present = ids(&open(&path)).await;
        // Order kept and nothing missing: what was not acknowledged in time may follow.
        assert_eq!(present, (0..).take(present.len()).collect::<Vec<i64>>());
        assert!(acknowledged.iter().all(|id| present.contains(id)), "lost after {kill_after}");
    }
}
