//! A disk whose sync fails: the pages may be in the file, the change must not come back.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use agentbot_wire::Code;

use super::{ids, insert, open, with_table};

const PLACE: &str = "AGENTBOT_TEST_SYNC_DB";
const FLAG: &str = "AGENTBOT_TEST_SYNC_FLAG";
const GOES_ON: &str = "AGENTBOT_TEST_SYNC_GOES_ON";

/// Stands before the C library: while the flag file is there, no sync works.
const SHIM: &str = r#"
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int outcome(void) {
    const char *flag = getenv("AGENTBOT_TEST_SYNC_FLAG");
    if (flag && access(flag, F_OK) == 0) { errno = EIO; return -1; }
    return 0;
}
int fsync(int fd) { (void)fd; return outcome(); }
int fdatasync(int fd) { (void)fd; return outcome(); }
"#;

/// The process whose disk fails; the test below starts it. It ends without tidying up.
#[tokio::test]
#[ignore = "runs only as the child of the test below"]
async fn a_child_whose_disk_fails() {
    let flag = PathBuf::from(env::var_os(FLAG).unwrap());
    let store = open(&PathBuf::from(env::var_os(PLACE).unwrap()));
    with_table(&store).await;
    store.write(|conn| insert(conn, 1)).await.unwrap();
    fs::write(&flag, "").unwrap();
    let refused = store.write(|conn| (2..500).try_for_each(|id| insert(conn, id))).await.unwrap_err();
    println!("\nrefused: {}", refused.code() == Code::Internal && refused.message().contains("disk failed"));
    if env::var_os(GOES_ON).is_some() {
        fs::remove_file(&flag).unwrap();
        store.write(|conn| insert(conn, 900)).await.unwrap();
    }
    std::process::abort();
}

#[tokio::test]
async fn a_change_refused_for_a_failed_sync_does_not_come_back_after_a_crash() {
    for goes_on in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (path, flag) = (dir.path().join("agentbot.db"), dir.path().join("flag"));
        let (source, shim) = (dir.path().join("shim.c"), dir.path().join("shim.so"));
        fs::write(&source, SHIM).unwrap();
        let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&shim).arg(&source).status();
        assert!(built.expect("this test needs the C compiler that SQLite is built with").success());
        let mut child = Command::new(env::current_exe().unwrap());
        child
            .args(["--ignored", "--exact", "--nocapture", "store::tests::sync_failure::a_child_whose_disk_fails"])
            .env("LD_PRELOAD", &shim)
            .env(PLACE, &path)
            .env(FLAG, &flag)
            .stderr(Stdio::null());
        if goes_on {
            child.env(GOES_ON, "1");
        }
        let said = String::from_utf8(child.output().unwrap().stdout).unwrap();
        assert!(said.contains("refused: true"), "{said}");
        let present = ids(&open(&path)).await;
        assert_eq!(present, if goes_on { vec![1, 900] } else { vec![1] });
    }
}
