//! The agent's side of the link.

use std::time::{Duration, Instant};

use agentbot_wire::{AGENT_PROTOCOL, ApiError, Code, Frame, MAX_FRAME};
use futures_util::SinkExt;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::daemon::{Link, NONCE, Slot};

/// How long an idle agent may take to end.
const PROMPT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn the_agent_proves_itself_and_beats_at_once() {
    let slot = Slot::new();
    let listener = slot.listen();
    let mut agent = slot.start();
    let mut link = Link::accept(&listener).await;
    assert_eq!(link.upgrade.path.path(), "/agent/ws");
    assert_eq!(link.upgrade.headers["sec-websocket-protocol"], AGENT_PROTOCOL);
    assert_eq!(link.upgrade.headers["authorization"], format!("Bearer {NONCE}"));
    let (id, hello) = link.hello().await;
    assert_eq!((hello.nonce.as_str(), hello.runtime.as_str(), hello.protocol), (NONCE, "agentbot-agent", 1));
    let policy = json!({"max_frame": MAX_FRAME, "beat_ms": 60_000});
    let welcome = json!({"protocol": 1, "instance": null, "config": {}, "policy": policy});
    link.send(&Frame::answer(&id, welcome)).await;
    // The period is a minute: only a first beat at once can arrive.
    link.beat().await;
    agent.logged("connected").await;
}

#[tokio::test]
async fn beats_follow_the_period_that_the_daemon_asks_for() {
    let slot = Slot::new();
    let listener = slot.listen();
    let _agent = slot.start();
    let mut link = Link::greet(&listener, 50).await;
    let (begun, first) = (Instant::now(), link.beat().await);
    let mut last = first;
    for _ in 0..4 {
        let next = link.beat().await;
        assert!(next > last, "{next} after {last}");
        last = next;
    }
    assert!(last - first >= 150, "five beats in {} ms", last - first);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_daemon_that_starts_late_is_found() {
    let slot = Slot::new();
    let mut agent = slot.start();
    agent.logged("cannot connect").await;
    let listener = slot.listen();
    Link::greet(&listener, 5000).await;
}

#[tokio::test]
async fn a_restarted_daemon_is_found_in_the_same_directory() {
    let slot = Slot::new();
    let mut listener = slot.listen();
    let _agent = slot.start();
    let mut link = Link::greet(&listener, 5000).await;
    for _ in 0..3 {
        let next = slot.listen();
        let cut = Instant::now();
        drop(link);
        drop(listener);
        listener = next;
        link = Link::greet(&listener, 5000).await;
        assert!(cut.elapsed() < Duration::from_secs(3), "{:?}", cut.elapsed());
    }
}

#[tokio::test]
async fn a_new_nonce_is_read_at_the_next_connection() {
    let slot = Slot::new();
    let listener = slot.listen();
    let _agent = slot.start();
    drop(Link::greet(&listener, 5000).await);
    slot.write_nonce("another");
    let (_, hello) = Link::accept(&listener).await.hello().await;
    assert_eq!(hello.nonce, "another");
}

#[tokio::test]
async fn a_refused_hello_is_logged_with_its_reason_and_tried_again_after_two_seconds() {
    let slot = Slot::new();
    let listener = slot.listen();
    let mut agent = slot.start();
    let error = ApiError {
        code: Code::Unauthenticated,
        message: "the nonce is not this slot's".to_owned(),
        hint: Some("restart the agent".to_owned()),
    };
    let mut link = Link::accept(&listener).await;
    link.refuse(error).await;
    let refused = Instant::now();
    let line = agent.logged("refused").await;
    assert!(line.contains("not this slot's") && line.contains("unauthenticated") && line.contains("restart the agent"));
    assert!(!line.contains(NONCE));
    Link::greet(&listener, 5000).await;
    let waited = refused.elapsed();
    assert!(waited > Duration::from_millis(1900) && waited < Duration::from_secs(4), "{waited:?}");
}

#[tokio::test]
async fn a_forbidden_upgrade_is_a_refusal_too() {
    let slot = Slot::new();
    let listener = slot.listen();
    let mut agent = slot.start();
    Link::forbid(&listener).await;
    assert!(agent.logged("refused").await.contains("403"));
}

#[tokio::test]
async fn a_frame_at_the_limit_is_answered_and_a_longer_one_costs_only_the_link() {
    let slot = Slot::new();
    let listener = slot.listen();
    let mut agent = slot.start();
    let mut link = Link::greet(&listener, 5000).await;
    let filled = |fill: usize| Frame::request("1", "agent.drain", json!({"x": "a".repeat(fill)})).to_text();
    let room = MAX_FRAME - filled(0).len();
    link.stream.send(Message::text(filled(room))).await.unwrap();
    assert_eq!(link.answer().await, Frame::answer("1", json!({})));
    // The agent may hang up before all of it is sent.
    let _ = link.stream.send(Message::text(filled(room + 1))).await;
    agent.logged("lost the daemon").await;
    Link::greet(&listener, 5000).await;
}

#[tokio::test]
async fn garbage_costs_nothing() {
    let slot = Slot::new();
    let listener = slot.listen();
    let mut agent = slot.start();
    let mut link = Link::greet(&listener, 5000).await;
    for garbage in ["", "}{", "[]", "null", r#"{"type":"req"}"#, r#"{"type":"other","id":"1"}"#] {
        link.stream.send(Message::text(garbage)).await.unwrap();
    }
    link.stream.send(Message::text("[".repeat(100_000))).await.unwrap();
    link.stream.send(Message::binary(vec![0; 1000])).await.unwrap();
    assert_eq!(link.request("1", "agent.drain").await, Frame::answer("1", json!({})));
    agent.logged("no frame").await;
}

#[tokio::test]
async fn an_unknown_request_is_answered_as_unsupported() {
    let slot = Slot::new();
    let listener = slot.listen();
    let _agent = slot.start();
    let mut link = Link::greet(&listener, 5000).await;
    let Frame::Res { id, ok: false, error: Some(error), .. } = link.request("77", "agent.dance").await else {
        panic!("not refused")
    };
    assert_eq!((id.as_str(), error.code), ("77", Code::Unsupported));
    assert!(error.hint.is_some());
}

#[tokio::test]
async fn a_ping_is_answered() {
    let slot = Slot::new();
    let listener = slot.listen();
    let _agent = slot.start();
    let mut link = Link::greet(&listener, 60_000).await;
    link.stream.send(Message::Ping("7".into())).await.unwrap();
    assert_eq!(link.message().await, Some(Message::Pong("7".into())));
}

#[tokio::test]
async fn a_drained_agent_beats_until_it_is_told_to_end() {
    let slot = Slot::new();
    let listener = slot.listen();
    let mut agent = slot.start();
    let mut link = Link::greet(&listener, 20).await;
    assert_eq!(link.request("1", "agent.drain").await, Frame::answer("1", json!({})));
    for _ in 0..3 {
        link.beat().await;
    }
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_connected_agent_says_goodbye_and_ends_at_once() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let slot = Slot::new();
        let listener = slot.listen();
        let mut agent = slot.start();
        let mut link = Link::greet(&listener, 5000).await;
        let told = Instant::now();
        agent.signal(signal);
        assert!(matches!(link.message().await, Some(Message::Close(Some(_)))));
        assert_eq!(agent.exit().await.code(), Some(0));
        assert!(told.elapsed() < PROMPT, "{:?}", told.elapsed());
    }
}

#[tokio::test]
async fn an_agent_without_a_daemon_ends_at_once() {
    let slot = Slot::new();
    let mut agent = slot.start();
    agent.logged("cannot connect").await;
    let told = Instant::now();
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.exit().await.code(), Some(0));
    assert!(told.elapsed() < PROMPT, "{:?}", told.elapsed());
}

#[tokio::test]
async fn an_agent_whose_daemon_hangs_ends_at_once() {
    let slot = Slot::new();
    let listener = slot.listen();
    let mut agent = slot.start();
    // Accepted, never upgraded.
    let (_stream, _) = listener.accept().await.unwrap();
    let told = Instant::now();
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.exit().await.code(), Some(0));
    assert!(told.elapsed() < PROMPT, "{:?}", told.elapsed());
}

#[tokio::test]
async fn a_log_that_nobody_reads_does_not_hold_the_agent_up() {
    let slot = Slot::new();
    let listener = slot.listen();
    let mut agent = slot.start();
    let mut link = Link::greet(&listener, 5000).await;
    // Each is one line; together they are several times what a pipe holds.
    for number in 0..4000 {
        link.request(&number.to_string(), "agent.dance").await;
    }
    agent.logged("connected").await;
    link.request("last", "agent.drain").await;
    agent.signal(Signal::SIGTERM);
    agent.logged("stopped").await;
    assert!(agent.dropped > 0, "the pipe held everything: the test shows nothing");
}
