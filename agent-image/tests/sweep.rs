//! Breaks at every moment of a turn: whatever is cut when, the turn ends as the protocol says.

use std::time::Duration;

use agentbot_wire::Frame;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};

use crate::daemon::PATIENCE;
use crate::stage::{Stage, message, turn};

/// What the daemon saw of a turn.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    acked: bool,
    /// The answer as the pieces said it.
    heard: String,
    used_tool: bool,
    /// How it ended: the event, and answer or code.
    end: Option<(String, String)>,
    calls: u32,
}

const ANSWER: &str = "I look.\n\nThere is nothing in the workspace, nothing at all.";

/// Plays daemon and model until the turn ends or `until`. The model looks into the workspace, then answers slowly.
async fn play(stage: &mut Stage, until: Instant, seen: &mut Seen) {
    let played = timeout_at(until, async {
        loop {
            tokio::select! {
                call = stage.door.call() => {
                    let mut call = call;
                    call.begin().await;
                    // A call of the process that died may still stand in the queue.
                    if !call.raw(": hello\n\n").await {
                        continue;
                    }
                    seen.calls += 1;
                    let has_result = call.messages().iter().any(|(role, _)| role == "tool");
                    if has_result {
                        for piece in ["There is nothing in ", "the workspace, ", "nothing at all."] {
                            call.text(piece).await;
                            sleep(Duration::from_millis(2)).await;
                        }
                        call.finish("stop").await;
                    } else {
                        call.text("I look.").await;
                        let function = json!({"name": "files", "arguments": "{\"action\":\"list\"}"});
                        let piece = json!({"index": 0, "id": "c", "function": function});
                        call.event(&json!({"choices": [{"delta": {"tool_calls": [piece]}}]})).await;
                        call.finish("tool_calls").await;
                    }
                }
                frame = stage.link.frame() => match frame {
                    Frame::Req { id, .. } => {
                        stage.link.send(&Frame::answer(&id, json!({"messages": [], "more": false}))).await;
                    }
                    Frame::Res { .. } => seen.acked = true,
                    Frame::Event { event, payload, .. } => {
                        if hear(seen, &event, &payload) {
                            return;
                        }
                    }
                }
            }
        }
    });
    let _ = played.await;
}

/// Notes an event; `true` says that it was the last.
fn hear(seen: &mut Seen, event: &str, payload: &Value) -> bool {
    let text = payload["text"].as_str().unwrap_or_default();
    match event {
        "turn.delta" if payload["snapshot"] == true => seen.heard = text.to_owned(),
        "turn.delta" => seen.heard.push_str(text),
        "turn.tool" => seen.used_tool = true,
        "turn.done" => seen.end = Some((event.to_owned(), text.to_owned())),
        "turn.failed" => {
            seen.end = Some((event.to_owned(), payload["error"]["code"].as_str().unwrap_or_default().to_owned()));
        }
        _ => return false,
    }
    event != "turn.delta" && event != "turn.tool"
}

async fn ask(stage: &mut Stage) {
    let params = json!({"turn": turn(1), "message": message(1, "user", "look", &turn(1)), "attempt": 1});
    stage.link.send(&Frame::request("r1", "turn.run", params)).await;
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

#[tokio::test]
async fn an_agent_killed_at_any_moment_of_a_turn_ends_it_once() {
    let mut ends = [0, 0, 0];
    for moment in 0..200_u64 {
        // On a busy machine the later moments come later.
        if moment >= 40 && ends.iter().all(|count| *count > 0) {
            break;
        }
        let mut stage = Stage::set(json!({})).await;
        ask(&mut stage).await;
        let mut before = Seen::default();
        play(&mut stage, Instant::now() + Duration::from_micros(moment * 700), &mut before).await;
        stage.kill_and_start().await;
        ask(&mut stage).await;
        let mut after = Seen::default();
        play(&mut stage, soon(), &mut after).await;
        let (event, what) = after.end.expect("the turn ends");
        match (event.as_str(), what.as_str()) {
            ("turn.done", text) => {
                assert_eq!(text, ANSWER, "at {moment}");
                // An answer that was begun before the death is told as it was, never given a second time.
                assert!(after.calls == 0 || (before.heard.is_empty() && !before.used_tool), "at {moment}: {before:?}");
                ends[if after.calls == 0 { 0 } else { 1 }] += 1;
            }
            ("turn.failed", "interrupted") => {
                assert!(before.end.is_none() && after.calls == 0, "at {moment}: {before:?}");
                ends[2] += 1;
            }
            other => panic!("at {moment}: {other:?}"),
        }
    }
    assert!(ends.iter().all(|count| *count > 0), "every kind of end was met: {ends:?}");
}

#[tokio::test]
async fn a_link_cut_at_any_moment_of_a_turn_loses_and_doubles_nothing() {
    for moment in 0..40_u64 {
        let mut stage = Stage::set(json!({})).await;
        ask(&mut stage).await;
        let mut seen = Seen::default();
        play(&mut stage, Instant::now() + Duration::from_micros(moment * 700), &mut seen).await;
        if seen.end.is_none() {
            let _ = stage.link.stream.close(None).await;
            stage.relink().await;
            ask(&mut stage).await;
            play(&mut stage, soon(), &mut seen).await;
        }
        let (event, text) = seen.end.expect("the turn ends");
        assert_eq!((event.as_str(), text.as_str()), ("turn.done", ANSWER));
        // Pieces that came with the end on a new connection need not be told apart from it.
        assert!(seen.heard == text || text.starts_with(&seen.heard), "at {moment}: {}", seen.heard);
        assert!(seen.calls >= 2, "at {moment}");
    }
}
