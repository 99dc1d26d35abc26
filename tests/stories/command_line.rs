//! `agentbotctl` against a real daemon.

use agentbot_tests::{Daemon, Setup};
use serde_json::Value;
use std::process::Output;

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("one document on stdout: {error}: {output:?}"))
}

fn code(output: &Output, wanted: i32) {
    assert_eq!(output.status.code(), Some(wanted), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daily_verbs_work_from_provision_to_purge() {
    let daemon = Daemon::start(Setup::new()).await;

    for arguments in [
        &["provision", "helper"][..],
        &["list"],
        &["show", "helper"],
        &["stop", "helper"],
        &["start", "helper"],
        &["restart", "helper"],
        &["repair", "helper"],
        &["token", "helper"],
        &["status"],
        &["operation", "list"],
        &["delete", "helper"],
        &["list", "--deleted"],
        &["undelete", "helper"],
        &["delete", "helper", "--purge", "--yes"],
    ] {
        let output = daemon.ctl(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        assert!(!output.stdout.is_empty() || !output.stderr.is_empty(), "{arguments:?} says what it did");
    }

    assert_eq!(daemon.agents().await.len(), 0);
    daemon.nothing_left().await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_tell_what_kind_of_failure_it_was() {
    let mut daemon = Daemon::start(Setup::new()).await;
    code(&daemon.ctl(&["provision", "helper", "--detach"]).await, 0);

    code(&daemon.ctl(&["provision", "NOT A NAME"]).await, 2);
    code(&daemon.ctl(&["nosuchverb"]).await, 2);
    code(&daemon.ctl(&["show", "nobody"]).await, 4);
    code(&daemon.ctl(&["provision", "helper"]).await, 5);
    daemon.kill9().await;
    code(&daemon.ctl(&["list"]).await, 6);

    daemon.restart().await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_one_document_also_on_failure() {
    let mut daemon = Daemon::start(Setup::new()).await;

    let made = daemon.ctl(&["provision", "helper", "-o", "json"]).await;
    let listed = daemon.ctl(&["-o", "json", "list"]).await;
    let missing = daemon.ctl(&["show", "nobody", "-o", "json"]).await;
    daemon.kill9().await;
    let away = daemon.ctl(&["list", "-o", "json"]).await;

    code(&made, 0);
    document(&made);
    assert!(document(&listed).to_string().contains("helper"));
    let error = document(&missing);
    assert_eq!((error["ok"].clone(), error["error"]["code"].clone()), (false.into(), "not_found".into()));
    assert_eq!(document(&away)["ok"], false);
    daemon.restart().await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_engine_away_the_operation_is_named_and_the_code_is_six() {
    let home = agentbot_tests::Home::new();
    let nowhere = home.path().join("no-engine.sock");
    let daemon = Daemon::start_in(home, Setup::new().engine(&nowhere)).await;

    let output = daemon.ctl(&["provision", "helper", "-o", "json"]).await;

    code(&output, 6);
    assert!(document(&output).to_string().contains("op_"), "{output:?}");
    daemon.abandon().await;
}
