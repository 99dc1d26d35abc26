//! What goes wrong: models that fail, links that break, processes that die.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use agentbot_wire::Frame;
use serde_json::{Value, json};

use crate::stage::{Call, Stage, turn};

/// Runs a turn whose call of the model is treated so; its fault.
async fn failing(config: Value, treat: impl AsyncFnOnce(Call)) -> (String, Value) {
    let mut stage = Stage::set(config).await;
    stage.begin(1, "hi").await;
    let call = stage.door.call().await;
    let (fault, ()) = tokio::join!(stage.fault(), treat(call));
    assert_eq!(fault["code"], "model_failed");
    let message = fault["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("the model builtin/basic "), "{message}");
    assert!(fault["hint"].is_string() && !message.contains('\n'));
    // The agent takes the next one.
    stage.begin(2, "again").await;
    stage.door.call().await.say("fine").await;
    assert_eq!(stage.done().await, "fine");
    (message, fault)
}

#[tokio::test]
async fn an_http_error_is_told_with_its_reason() {
    let openai = json!({"error": {"message": "no such model:\n x", "type": "invalid_request_error"}}).to_string();
    let (message, fault) = failing(json!({}), async |call| call.answer("404 Not Found", &openai).await).await;
    assert!(message.contains("no such model: x (HTTP 404)"), "{message}");
    assert!(fault["hint"].as_str().unwrap().contains("model list"));
    let ours = json!({"error": {"message": "the key is wrong", "hint": "set another"}}).to_string();
    let (message, fault) = failing(json!({}), async |call| call.answer("502 Bad Gateway", &ours).await).await;
    assert!(message.contains("the key is wrong") && fault["hint"] == "set another");
    let (message, _) = failing(json!({}), async |call| call.answer("500 Oops", "<html>").await).await;
    assert!(message.contains("HTTP 500"));
}

#[tokio::test]
async fn an_error_in_the_stream_is_told_and_what_was_said_stays() {
    let mut stage = Stage::set(json!({})).await;
    stage.begin(1, "hi").await;
    let mut call = stage.door.call().await;
    call.begin().await;
    call.text("half of").await;
    call.event(&json!({"error": {"message": "overloaded"}})).await;
    let (heard, event, payload) = stage.listen().await;
    assert_eq!((heard.as_str(), event.as_str()), ("half of", "turn.failed"));
    assert!(payload["error"]["message"].as_str().unwrap().contains("overloaded"));
}

#[tokio::test]
async fn a_connection_that_breaks_while_the_link_stands_is_the_models_fault() {
    let (message, _) = failing(json!({}), async |mut call| {
        call.begin().await;
        call.text("ha").await;
        call.cut();
    })
    .await;
    assert!(message.contains("connection"), "{message}");
    let (message, _) = failing(json!({}), async |call| call.cut()).await;
    assert!(message.contains("connection"), "{message}");
}

#[tokio::test]
async fn a_stream_of_nonsense_or_of_nothing_fails() {
    let (message, _) = failing(json!({}), async |mut call| {
        call.begin().await;
        call.raw("data: }{\n\n").await;
        call.finish("stop").await;
    })
    .await;
    assert!(message.contains("shape"), "{message}");
    let (message, _) = failing(json!({}), async |call| call.say("").await).await;
    assert!(message.contains("empty answer"), "{message}");
    let (message, _) = failing(json!({}), async |call| call.answer("200 OK", "").await).await;
    assert!(message.contains("shape"), "{message}");
}

#[tokio::test]
async fn a_stream_that_ends_without_saying_so_is_no_answer() {
    let (message, _) = failing(json!({}), async |mut call| {
        call.begin().await;
        call.text("half an ans").await;
        call.end().await;
    })
    .await;
    // Neither the daemon nor the connection to it is at fault.
    assert!(message.ends_with("failed: its answer broke off before its end"), "{message}");
}

#[tokio::test]
async fn a_daemon_that_ends_a_stream_politely_as_it_goes_is_asked_again() {
    let mut stage = Stage::set(json!({})).await;
    stage.begin(1, "hi").await;
    let mut call = stage.door.call().await;
    call.begin().await;
    call.text("half an ans").await;
    call.end().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    stage.link.stream.close(None).await.unwrap();
    stage.relink().await;
    let call = stage.door.call().await;
    stage.run(1, "hi").await;
    call.say("a whole answer").await;
    assert_eq!(stage.done().await, "a whole answer");
}

#[tokio::test]
async fn either_sign_of_the_end_is_enough() {
    for sign in ["data: [DONE]\n\n", "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}"] {
        let mut stage = Stage::set(json!({})).await;
        stage.begin(1, "hi").await;
        let mut call = stage.door.call().await;
        call.begin().await;
        call.text("whole").await;
        call.raw(sign).await;
        call.end().await;
        assert_eq!(stage.done().await, "whole");
    }
}

#[tokio::test]
async fn a_daemon_that_says_that_it_ends_is_asked_again_when_it_is_back() {
    for in_stream in [false, true] {
        let mut stage = Stage::set(json!({})).await;
        stage.begin(1, "hi").await;
        let mut call = stage.door.call().await;
        let error = json!({"error": {"message": "the daemon ends", "code": "shutting_down"}});
        if in_stream {
            call.begin().await;
            call.text("lost").await;
            call.event(&error).await;
        } else {
            call.answer("503 Service Unavailable", &error.to_string()).await;
        }
        stage.link.stream.close(None).await.unwrap();
        stage.relink().await;
        let call = stage.door.call().await;
        stage.run(1, "hi").await;
        call.say("kept").await;
        assert_eq!(stage.done().await, "kept");
    }
}

#[tokio::test]
async fn a_line_without_end_fails() {
    let (message, _) = failing(json!({}), async |mut call| {
        call.begin().await;
        let piece = "a".repeat(60_000);
        while call.raw(&piece).await {}
    })
    .await;
    assert!(message.contains("longer"), "{message}");
}

#[tokio::test]
async fn a_stream_that_says_nothing_for_ever_is_cut_by_its_length() {
    let (message, _) = failing(json!({}), async |mut call| {
        call.begin().await;
        let piece = ": nothing\n".repeat(6_000);
        while call.raw(&piece).await {}
    })
    .await;
    assert!(message.contains("longer"), "{message}");
}

#[tokio::test]
async fn a_link_that_breaks_in_the_middle_of_an_answer_loses_nothing() {
    let mut stage = Stage::set(json!({})).await;
    stage.begin(1, "hi").await;
    let mut call = stage.door.call().await;
    call.begin().await;
    call.text("one ").await;
    stage.event().await;
    // Only the link: the call of the model goes on.
    stage.link.stream.close(None).await.unwrap();
    call.text("two ").await;
    stage.relink().await;
    call.text("three ").await;
    assert!(stage.is_silent().await, "nothing is told before it is asked for");
    assert_eq!(stage.run(1, "hi").await, Frame::answer("r1", json!({})));
    let (event, payload) = stage.event().await;
    assert_eq!((event.as_str(), &payload["snapshot"]), ("turn.delta", &json!(true)));
    assert_eq!(payload["text"], "one two three ");
    call.text("four").await;
    call.finish("stop").await;
    let (heard, event, payload) = stage.listen().await;
    assert_eq!((heard.as_str(), event.as_str()), ("four", "turn.done"));
    assert_eq!(payload["text"], "one two three four");
}

#[tokio::test]
async fn an_answer_that_ends_without_a_link_is_told_after_it() {
    let mut stage = Stage::set(json!({})).await;
    stage.begin(1, "hi").await;
    let mut call = stage.door.call().await;
    call.begin().await;
    stage.link.stream.close(None).await.unwrap();
    call.text("all of it").await;
    call.finish("stop").await;
    stage.agent.logged("is done").await;
    stage.relink().await;
    stage.run(1, "hi").await;
    assert_eq!(stage.event().await, ("turn.done".to_owned(), json!({"turn": turn(1), "text": "all of it"})));
}

#[tokio::test]
async fn a_daemon_that_is_restarted_in_the_middle_of_an_answer_costs_only_time() {
    let mut stage = Stage::set(json!({})).await;
    stage.begin(1, "hi").await;
    let mut call = stage.door.call().await;
    call.begin().await;
    call.text("the first try").await;
    stage.event().await;
    let old = std::mem::replace(&mut stage.door, crate::stage::Door::open(stage.slot.listen()));
    call.cut();
    // The link's end may be seen later than the call's.
    tokio::time::sleep(Duration::from_millis(50)).await;
    stage.link.stream.close(None).await.unwrap();
    drop(old);
    stage.relink().await;
    let mut call = stage.door.call().await;
    call.begin().await;
    call.text("the second").await;
    stage.run(1, "hi").await;
    call.text(" try").await;
    call.finish("stop").await;
    let (heard, event, payload) = stage.listen().await;
    assert_eq!((heard.as_str(), event.as_str()), ("the second try", "turn.done"));
    assert_eq!(payload["text"], "the second try");
}

#[tokio::test]
async fn an_agent_killed_before_it_showed_anything_works_on_the_turn_again() {
    let mut stage = Stage::set(json!({})).await;
    stage.begin(1, "hi").await;
    let _call = stage.door.call().await;
    stage.kill_and_start().await;
    stage.begin(1, "hi").await;
    stage.door.call().await.say("the second life").await;
    assert_eq!(stage.done().await, "the second life");
}

#[tokio::test]
async fn an_agent_killed_in_the_middle_of_an_answer_or_a_tool_says_interrupted() {
    for uses_tool in [false, true] {
        let mut stage = Stage::set(json!({})).await;
        stage.begin(1, "hi").await;
        let mut call = stage.door.call().await;
        if uses_tool {
            call.use_tools(&[("files", json!({"action": "list"}))]).await;
        } else {
            call.begin().await;
            call.text("half").await;
        }
        stage.event().await;
        stage.kill_and_start().await;
        assert_eq!(stage.run(1, "hi").await, Frame::answer("r1", json!({})));
        let fault = stage.fault().await;
        assert_eq!(fault["code"], "interrupted");
        assert!(stage.door.nobody_calls() || uses_tool);
    }
}

#[tokio::test]
async fn an_agent_killed_after_the_answer_tells_it_again() {
    let mut stage = Stage::set(json!({})).await;
    stage.begin(1, "hi").await;
    stage.door.call().await.say("once").await;
    assert_eq!(stage.done().await, "once");
    stage.kill_and_start().await;
    stage.run(1, "hi").await;
    assert_eq!(stage.event().await, ("turn.done".to_owned(), json!({"turn": turn(1), "text": "once"})));
    assert!(stage.door.nobody_calls());
}

#[tokio::test]
async fn what_was_remembered_and_cannot_be_read_is_set_aside() {
    let mut stage = Stage::set(json!({})).await;
    stage.begin(1, "hi").await;
    stage.door.call().await.say("once").await;
    stage.done().await;
    let file = stage.workspace.path().join(".agentbot/turns").join(format!("{}.json", turn(1)));
    fs::write(&file, "{\"shown\":tru").unwrap();
    stage.kill_and_start().await;
    stage.begin(1, "hi").await;
    stage.agent.logged("set aside").await;
    stage.door.call().await.say("twice").await;
    assert_eq!(stage.done().await, "twice");
    assert!(file.with_extension("corrupt").exists());
}

#[tokio::test]
async fn a_workspace_that_cannot_be_written_costs_the_memory_and_not_the_answer() {
    let mut stage = Stage::set(json!({})).await;
    // A file where the directory would be stops root too.
    fs::write(stage.workspace.path().join(".agentbot"), "in the way").unwrap();
    fs::set_permissions(stage.workspace.path(), fs::Permissions::from_mode(0o500)).unwrap();
    stage.begin(1, "hi").await;
    stage.agent.logged("cannot be remembered").await;
    stage.door.call().await.say("all the same").await;
    assert_eq!(stage.done().await, "all the same");
    stage.run(1, "hi").await;
    assert_eq!(stage.event().await.0, "turn.done", "this process remembers");
}

#[tokio::test]
async fn each_process_has_its_own_word_and_keeps_it_over_links() {
    let mut stage = Stage::set(json!({})).await;
    let mut boots = Vec::new();
    for kill in [false, false, true] {
        if kill {
            stage.agent.signal(nix::sys::signal::Signal::SIGKILL);
            stage.agent.exit().await;
            let command = crate::stage::command(&stage.slot, stage.workspace.path()).spawn().unwrap();
            stage.agent = crate::daemon::Agent::watch(command);
        } else {
            stage.link.stream.close(None).await.unwrap();
        }
        let mut link = stage.door.link().await;
        boots.push(link.hello().await.1.boot.unwrap());
        stage.link = link;
    }
    assert!(boots[0] == boots[1] && boots[1] != boots[2], "{boots:?}");
}

#[tokio::test]
async fn a_model_that_hangs_does_not_hold_beats_or_other_turns_up() {
    let mut stage = Stage::beating(json!({}), 100).await;
    stage.begin(1, "hang").await;
    let _hanging = stage.door.call().await;
    stage.begin(2, "go").await;
    stage.door.call().await.say("gone").await;
    assert_eq!(stage.done().await, "gone");
    let mut last = stage.beat().await;
    for _ in 0..3 {
        let next = stage.beat().await;
        // As far apart as was asked for; a busy machine may be late, and never early.
        assert!((90..1_000).contains(&(next - last)), "{last} {next}");
        last = next;
    }
}
