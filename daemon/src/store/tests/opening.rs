//! What is opened, what is made, and what is refused as it was found.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agentbot_wire::Code;
use refinery::{Migration, Runner};
use rusqlite::Connection;

use super::{ids, insert, new, open, with_table};
use crate::store::{Store, StoreOptions, connection, file, meta, migrate};

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

/// Every file of a directory with its content.
fn content(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && !path.to_string_lossy().ends_with("-shm"))
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .filter(|(_, bytes)| !bytes.is_empty())
        .collect();
    files.sort();
    files
}

/// Expects a refusal with a hint that leaves every byte in place, and gives its sentence.
fn refused(path: &Path) -> String {
    let before = content(path.parent().unwrap());
    let error = Store::open(path, StoreOptions::default()).unwrap_err();
    assert!(error.to_api().hint.is_some(), "{error}");
    assert_eq!(content(path.parent().unwrap()), before, "{error}");
    error.message().to_owned()
}

#[test]
fn what_is_not_ours_is_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agentbot.db");
    fs::write(&path, "").unwrap();
    assert!(refused(&path).ends_with("is empty"));
    fs::write(&path, "short").unwrap();
    assert!(refused(&path).contains("is not a database"));
    fs::write(&path, "a long text that is no database at all. ".repeat(100)).unwrap();
    assert!(refused(&path).contains("is not a database"));
    fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE meta (key TEXT, value TEXT)").unwrap();
    assert!(refused(&path).contains("is a database of something else"));
}

#[test]
fn what_cannot_be_a_database_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agentbot.db");
    fs::create_dir(&path).unwrap();
    assert!(refused(&path).ends_with("it is a directory"));
    fs::remove_dir(&path).unwrap();
    let code = |path: &Path| Store::open(path, StoreOptions::default()).unwrap_err().code();
    assert_eq!(code(&dir.path().join("absent/agentbot.db")), Code::NotFound);
    fs::write(dir.path().join("file"), "x").unwrap();
    assert_eq!(code(&dir.path().join("file/agentbot.db")), Code::Invalid);
}

#[test]
fn a_log_without_its_database_is_not_thrown_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agentbot.db");
    fs::write(file::beside(&path, "-wal"), "changes").unwrap();
    assert!(refused(&path).contains("its log"));
    fs::write(file::beside(&path, "-wal"), "").unwrap();
    open(&path);
}

#[tokio::test]
async fn a_damaged_database_is_refused_untouched() {
    let (_dir, path, store) = new();
    with_table(&store).await;
    store.write(|conn| (0..2000).try_for_each(|id| insert(conn, id))).await.unwrap();
    store.close().await.unwrap();
    drop(store);
    let whole = fs::read(&path).unwrap();
    for page in 0..whole.len() / 4096 {
        let mut bytes = whole.clone();
        // The head of a page; the first one keeps the words that make it ours.
        let head = if page == 0 { 100 } else { page * 4096 };
        bytes[head..head + 100].fill(0xA5);
        fs::write(&path, bytes).unwrap();
        let message = refused(&path);
        assert!(message.contains("damaged"), "page {page}: {message}");
    }
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(refused(&path).contains("damaged"));
    fs::write(&path, whole).unwrap();
    assert_eq!(ids(&open(&path)).await.len(), 2000);
}

#[tokio::test]
async fn a_newer_schema_is_refused_untouched() {
    let (_dir, path, store) = new();
    store
        .write(|conn| {
            Ok(conn.execute_batch(
                "INSERT INTO refinery_schema_history SELECT version + 1, name, applied_on, checksum
                 FROM refinery_schema_history ORDER BY version DESC LIMIT 1",
            )?)
        })
        .await
        .unwrap();
    store.close().await.unwrap();
    drop(store);
    let known = migrate::runner().get_migrations().len();
    assert!(refused(&path).contains(&format!("has schema {}, this version of Agentbot knows {known}", known + 1)));
}

#[tokio::test]
async fn a_history_that_cannot_be_read_is_an_error_and_no_panic() {
    for (sql, words) in [
        ("UPDATE refinery_schema_history SET checksum = '1'", "another version of Agentbot"),
        ("UPDATE refinery_schema_history SET checksum = 'x'", "failed inside"),
        ("UPDATE refinery_schema_history SET applied_on = 'x'", "failed inside"),
        ("DELETE FROM refinery_schema_history", "what its schema is"),
        ("DROP TABLE refinery_schema_history", "what its schema is"),
    ] {
        let (_dir, path, store) = new();
        store.write(move |conn| Ok(conn.execute_batch(sql)?)).await.unwrap();
        store.close().await.unwrap();
        drop(store);
        assert!(refused(&path).contains(words), "{sql}");
    }
}

const BUSY: Duration = Duration::from_millis(100);

fn schema(later: &[(&str, &str)]) -> Runner {
    let mut all = migrate::runner().get_migrations().clone();
    all.extend(later.iter().map(|(name, sql)| Migration::unapplied(name, sql).unwrap()));
    Runner::new(&all).set_grouped(true)
}

#[test]
fn an_older_database_is_copied_then_migrated_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agentbot.db");
    let first = Store::open(&path, StoreOptions::default()).unwrap();
    drop(first);
    let next = schema(&[("V900__more", "CREATE TABLE more (id INTEGER PRIMARY KEY) STRICT;")]);
    let (conn, fresh, migrated) = file::open(&path, &next, BUSY, 3).unwrap();
    let migrated = migrated.unwrap();
    assert_eq!((fresh, migrated.to), (false, 900));
    assert_eq!(migrated.copy, file::beside(&path, ".before-v900"));
    conn.execute("INSERT INTO more VALUES (1)", []).unwrap();
    let id = meta::daemon_id(&conn).unwrap();
    drop(conn);
    assert_eq!(file::open(&path, &next, BUSY, 3).unwrap().2, None);
    assert_eq!(fs::metadata(&migrated.copy).unwrap().permissions().mode() & 0o777, 0o600);
    // The copy is a database of ours that the older version opens.
    let back = Store::open(&migrated.copy, StoreOptions::default()).unwrap();
    assert_eq!((back.daemon_id, back.fresh), (id, false));
}

#[test]
fn a_migration_that_fails_leaves_the_old_schema_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agentbot.db");
    drop(Store::open(&path, StoreOptions::default()).unwrap());
    let broken = schema(&[("V900__good", "CREATE TABLE good (id INTEGER);"), ("V901__bad", "CREATE TABLE nonsense;")]);
    assert!(file::open(&path, &broken, BUSY, 3).is_err());
    let reopened = Store::open(&path, StoreOptions::default()).unwrap();
    assert!(!reopened.fresh && reopened.migrated.is_none());
    let conn = connection::reader(&path, BUSY).unwrap();
    assert!(conn.prepare("SELECT * FROM good").is_err());
}

#[test]
fn a_migration_may_rebuild_a_table_and_may_not_leave_rows_dangling() {
    let setup =
        "CREATE TABLE a (id INTEGER PRIMARY KEY); CREATE TABLE b (a INTEGER REFERENCES a (id) ON DELETE CASCADE);
                 INSERT INTO a VALUES (1); INSERT INTO b VALUES (1);";
    let rebuild = "CREATE TABLE a2 (id INTEGER PRIMARY KEY, n TEXT); INSERT INTO a2 (id) SELECT id FROM a;
                   DROP TABLE a; ALTER TABLE a2 RENAME TO a;";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agentbot.db");
    let (conn, fresh, _) = file::open(&path, &schema(&[("V900__a", setup), ("V901__b", rebuild)]), BUSY, 3).unwrap();
    assert!(fresh);
    assert_eq!(conn.query_row("SELECT count(*) FROM b", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    drop(conn);
    let dangling = schema(&[("V900__a", setup), ("V901__b", rebuild), ("V902__c", "DELETE FROM a;")]);
    let error = file::open(&path, &dangling, BUSY, 3).unwrap_err();
    assert!(error.message().contains("rows of `b`"), "{error}");
}

#[test]
fn a_half_made_database_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agentbot.db");
    for suffix in [".new", ".new-journal"] {
        fs::write(file::beside(&path, suffix), "half").unwrap();
    }
    assert!(Store::open(&path, StoreOptions::default()).unwrap().fresh);
    assert!(!file::beside(&path, ".new").exists());
}

#[test]
fn another_process_that_holds_the_database_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agentbot.db");
    drop(Store::open(&path, StoreOptions::default()).unwrap());
    let other = Connection::open(&path).unwrap();
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    let options = StoreOptions { busy_timeout: BUSY, ..StoreOptions::default() };
    let error = Store::open(&path, options).unwrap_err();
    assert_eq!(error.code(), Code::Busy, "{error}");
    drop(other);
    open(&path);
}
