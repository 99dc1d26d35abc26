//! Disks that are full or read-only: real ones, small, mounted for the test.

use std::fs;
use std::path::Path;

use agentbot_wire::Code;
use futures_util::future::join_all;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rusqlite::Connection;

use super::{ids, open, with_table};
use crate::error::Result;
use crate::store::{Store, StoreOptions, dirs};

/// A small file system of its own.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new(size: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size},mode=0700");
        mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .expect("this test mounts a small file system and needs root for it");
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn seal(&self, read_only: bool) {
        let flags = MsFlags::MS_REMOUNT | if read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
        mount(None::<&str>, self.path(), None::<&str>, flags, None::<&str>).unwrap();
    }

    /// Takes what room there is.
    fn fill(&self) {
        let filler = self.path().join("filler");
        for size in [1 << 16, 1 << 12] {
            let mut content = fs::read(&filler).unwrap_or_default();
            loop {
                content.resize(content.len() + size, 1);
                if fs::write(&filler, &content).is_err() {
                    break;
                }
            }
        }
    }

    fn free(&self) {
        fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
    }
}

fn big(conn: &Connection, id: i64) -> Result<()> {
    conn.execute("INSERT INTO t (id, filler) VALUES (?1, randomblob(30000))", [id])?;
    Ok(())
}

#[tokio::test]
async fn a_full_disk_refuses_loses_nothing_and_works_again_when_there_is_room() {
    let disk = Disk::new("3m");
    let path = disk.path().join("agentbot.db");
    let store = open(&path);
    with_table(&store).await;
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    for round in 0..3 {
        if round == 1 {
            disk.fill();
        }
        if round == 2 {
            disk.free();
        }
        for burst in 0..5 {
            let wanted: Vec<i64> = (0..8).map(|nth| round * 100 + burst * 10 + nth).collect();
            let answers = join_all(wanted.iter().map(|&id| store.write(move |conn| big(conn, id)))).await;
            for (id, answer) in wanted.into_iter().zip(answers) {
                match answer {
                    Ok(()) => acknowledged.push(id),
                    Err(error) => {
                        assert_eq!(error.code(), Code::StorageFull, "{error}");
                        assert!(error.to_api().hint.unwrap().contains("free space"));
                        refused += 1;
                    }
                }
            }
        }
        assert_eq!(ids(&store).await, acknowledged, "reads work all along");
    }
    assert!(refused > 0, "the disk never was full");
    assert!(acknowledged.iter().any(|id| *id >= 200), "with room again nothing was taken");
    drop(store);
    assert_eq!(ids(&open(&path)).await, acknowledged);
}

#[test]
fn a_database_that_does_not_fit_is_not_half_made() {
    let disk = Disk::new("64k");
    let path = disk.path().join("agentbot.db");
    disk.fill();
    assert_eq!(Store::open(&path, StoreOptions::default()).unwrap_err().code(), Code::StorageFull);
    assert!(!path.exists());
    assert_eq!(
        dirs::prepare(&disk.path().join("s"), false).map_err(|error| error.code()),
        Ok(()),
        "directories are free here"
    );
}

#[tokio::test]
async fn a_disk_that_turned_read_only_is_said_so() {
    let disk = Disk::new("3m");
    let path = disk.path().join("agentbot.db");
    disk.seal(true);
    for error in [
        Store::open(&path, StoreOptions::default()).unwrap_err(),
        dirs::prepare(&disk.path().join("s"), false).unwrap_err(),
        dirs::prepare(disk.path(), false).unwrap_err(),
    ] {
        assert!(error.message().contains("read-only"), "{error}");
        assert!(error.to_api().hint.unwrap().contains("--state-dir"));
    }
    disk.seal(false);
    let store = open(&path);
    store.close().await.unwrap();
    drop(store);
    disk.seal(true);
    let error = Store::open(&path, StoreOptions::default()).unwrap_err();
    assert!(error.message().contains("read-only"), "{error}");
}
