//! Turns from the message to the answer.

use std::fs;
use std::time::{Duration, Instant};

use agentbot_wire::{Code, Frame, MAX_MESSAGE};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::daemon::NONCE;
use crate::stage::{Stage, message, turn};

fn refused(frame: Frame) -> Code {
    match frame {
        Frame::Res { ok: false, error: Some(error), .. } => error.code,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_message_is_answered_as_the_model_speaks() {
    let mut stage = Stage::set(json!({"persona": "You are a pirate.", "temperature": 0.5})).await;
    stage.begin(1, "who are you?").await;
    let mut call = stage.door.call().await;
    assert!(call.head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"));
    assert!(call.head.contains(&format!("Bearer {NONCE}")));
    assert_eq!((&call.body["stream"], &call.body["temperature"]), (&json!(true), &json!(0.5)));
    assert_eq!(call.body.get("model"), None);
    let messages = call.messages();
    assert!(
        messages[0].0 == "system" && messages[0].1.contains("You are a pirate.") && messages[0].1.contains("scout")
    );
    assert_eq!(messages[1..], [("user".to_owned(), "who are you?".to_owned())]);
    call.begin().await;
    call.text("Arr").await;
    // The first piece is there long before the answer is.
    assert_eq!(stage.event().await, ("turn.delta".to_owned(), json!({"turn": turn(1), "text": "Arr"})));
    call.text(", é\u{1b}\r!").await;
    call.finish("stop").await;
    let (heard, event, payload) = stage.listen().await;
    assert_eq!((heard.as_str(), event.as_str()), (", é!", "turn.done"));
    assert_eq!(payload, json!({"turn": turn(1), "text": "Arr, é!"}));
}

#[tokio::test]
async fn a_fast_model_does_not_cause_a_frame_per_token() {
    let mut stage = Stage::set(json!({})).await;
    stage.begin(1, "count").await;
    let mut call = stage.door.call().await;
    call.begin().await;
    for number in 0..2000 {
        call.text(&format!("{number} ")).await;
    }
    call.finish("stop").await;
    let (mut frames, mut heard) = (0, String::new());
    loop {
        let (event, payload) = stage.event().await;
        if event == "turn.done" {
            assert_eq!(payload["text"], heard);
            break;
        }
        frames += 1;
        heard.push_str(payload["text"].as_str().unwrap());
    }
    assert!(heard.ends_with("1999 ") && frames < 500, "{frames} frames");
}

#[tokio::test]
async fn a_stream_in_odd_shape_is_understood() {
    let mut stage = Stage::set(json!({})).await;
    stage.begin(1, "hi").await;
    let mut call = stage.door.call().await;
    call.begin().await;
    // Comments, CRLF, events cut anywhere, unknown fields, no usage of [DONE].
    for piece in [
        ": ping\r\n\r\n",
        "data: {\"choices\":[{\"del",
        "ta\":{\"content\":\"o",
        "k\",\"x\":1}}],\"usage\":null}\r",
        "\n\r\n",
        "data: {\"choices\":[]}\n\n",
        "event: x\ndata: {\"choices\":[{\"delta\":{\"content\":\"!\"}}]}",
    ] {
        call.raw(piece).await;
    }
    call.raw("\n\n").await;
    let call_end = async { call.finish("stop").await };
    let (text, ()) = tokio::join!(stage.done(), call_end);
    assert_eq!(text, "ok!");
}

#[tokio::test]
async fn an_answer_that_is_not_streamed_is_taken_too() {
    let mut stage = Stage::set(json!({})).await;
    stage.begin(1, "hi").await;
    let body = json!({"choices": [{"message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}]});
    stage.door.call().await.answer("200 OK", &body.to_string()).await;
    assert_eq!(stage.done().await, "whole");
}

#[tokio::test]
async fn the_history_is_read_backwards_until_the_window_is_full() {
    // 1000 tokens are 4000 bytes, of which guide and tools take a part.
    let mut stage = Stage::set(json!({"context_tokens": 1000})).await;
    let long = "w".repeat(500);
    stage.run_in(1, message(100, "user", "now", &turn(1))).await;
    let page = |from: u64| -> Value {
        let messages = (from..from + 2).map(|seq| {
            let sender = if seq % 2 == 1 { "user" } else { "agent" };
            message(seq, sender, &format!("{seq}{long}"), &format!("trn_{:026}", 1000 + seq.div_ceil(2)))
        });
        messages.collect()
    };
    let first = stage.serve("chat.history", json!({"messages": page(97), "more": true})).await;
    assert_eq!((first.get("before_seq"), &first["conversation"]), (None, &json!(format!("cnv_{:026}", 1))));
    let second = stage.serve("chat.history", json!({"messages": page(95), "more": true})).await;
    assert_eq!(second["before_seq"], 97);
    // However many pages there are, only what fits is asked for.
    let mut from = 93;
    let call = loop {
        tokio::select! {
            call = stage.door.call() => break call,
            frame = stage.link.frame() => {
                let Frame::Req { id, .. } = frame else { panic!("{frame:?}") };
                stage.link.send(&Frame::answer(&id, json!({"messages": page(from), "more": true}))).await;
                from -= 2;
            }
        }
    };
    assert!(from > 85, "{from}");
    let messages = call.messages();
    assert!(messages.len() > 3 && messages.len() < 10, "{}", messages.len());
    assert_eq!(messages.last().unwrap(), &("user".to_owned(), "now".to_owned()));
    let before = &messages[messages.len() - 2];
    assert!(before.0 == "assistant" && before.1.starts_with("98w"));
    call.say("fine").await;
    assert_eq!(stage.done().await, "fine");
}

#[tokio::test]
async fn tools_are_used_and_the_model_sees_what_they_said() {
    let mut stage = Stage::set(json!({})).await;
    stage.begin(1, "remember").await;
    let calls = [
        ("memory", json!({"action": "put", "key": "colour", "value": "blue"})),
        ("files", json!({"action": "write", "path": "notes/a.txt", "content": "hello"})),
        ("files", json!({"action": "read", "path": "../../etc/passwd"})),
        ("shell", json!({"cmd": "id"})),
        ("memory", json!("{broken")),
    ];
    stage.door.call().await.use_tools(&calls).await;
    let params = stage.serve("memory.put", json!({"key": "colour", "saved": true})).await;
    assert_eq!(params, json!({"key": "colour", "value": "blue"}));
    let call = stage.door.call().await;
    let results: Vec<String> =
        call.messages().into_iter().filter(|(role, _)| role == "tool").map(|(_, text)| text).collect();
    assert_eq!(results[0], "remembered: colour");
    assert_eq!(results[1], "5 bytes written");
    assert!(results[2].starts_with("error: ") && results[3].contains("no tool `shell`"));
    assert!(results[4].contains("not JSON"));
    assert_eq!(call.body["messages"][2]["tool_calls"][1]["function"]["name"], "files");
    assert_eq!(fs::read_to_string(stage.workspace.path().join("notes/a.txt")).unwrap(), "hello");
    call.use_tools(&[("memory", json!({"action": "get", "key": "colour"}))]).await;
    stage.serve("memory.get", json!({"memory": {"colour": "blue"}, "more": false})).await;
    let call = stage.door.call().await;
    assert_eq!(call.messages().last().unwrap().1, r#"{"value":"blue"}"#);
    call.say("It is blue.").await;
    assert_eq!(stage.done().await, "It is blue.");
}

#[tokio::test]
async fn the_use_of_a_tool_is_told_between_what_is_said() {
    let mut stage = Stage::set(json!({})).await;
    stage.begin(1, "look").await;
    let mut call = stage.door.call().await;
    call.begin().await;
    call.text("I look.").await;
    let piece = json!({"index": 0, "id": "c9", "function": {"name": "files", "arguments": "{\"action\":\"list\"}"}});
    call.event(&json!({"choices": [{"delta": {"tool_calls": [piece]}}]})).await;
    call.finish("tool_calls").await;
    let mut told = Vec::new();
    while told.len() < 3 {
        let (event, payload) = stage.event().await;
        told.push(if event == "turn.tool" { payload["call"].clone() } else { payload["text"].clone() });
    }
    assert_eq!(told[0], "I look.");
    assert_eq!(told[1], json!({"id": "c9", "name": "files", "status": "started", "detail": "list"}));
    assert_eq!(told[2], json!({"id": "c9", "name": "files", "status": "succeeded", "detail": "0 entries"}));
    stage.door.call().await.say("Empty.").await;
    let (heard, _, payload) = stage.listen().await;
    assert_eq!((heard.as_str(), &payload["text"]), ("\n\nEmpty.", &json!("I look.\n\nEmpty.")));
}

#[tokio::test]
async fn a_model_that_only_uses_tools_is_stopped_after_its_rounds() {
    let mut stage = Stage::set(json!({"max_turns": 3})).await;
    stage.begin(1, "loop").await;
    for round in 1..=3 {
        let call = stage.door.call().await;
        assert_eq!(call.body.get("tool_choice").is_some(), round == 3);
        call.use_tools(&[("files", json!({"action": "list"}))]).await;
    }
    let fault = stage.fault().await;
    assert_eq!(fault["code"], "model_failed");
    assert!(
        fault["message"].as_str().unwrap().contains("3 rounds")
            && fault["hint"]
                == "`agentbotctl provision NAME --config '{\"max_turns\":6}'` makes an agent that may use more rounds"
    );
    assert!(stage.door.nobody_calls());
}

#[tokio::test]
async fn each_round_stays_within_the_window_whatever_the_tools_say() {
    // 5000 tokens are 20000 bytes.
    let mut stage = Stage::set(json!({"context_tokens": 5000})).await;
    fs::write(stage.workspace.path().join("long"), "\"é\"\n".repeat(10_000)).unwrap();
    stage.run_in(1, message(100, "user", "read and write", &turn(1))).await;
    stage.history(json!([message(7, "user", &"h".repeat(3000), &turn(7))])).await;
    let call = stage.door.call().await;
    assert_eq!(call.messages().len(), 3, "the history is told while there is room");
    call.use_tools(&[("files", json!({"action": "read", "path": "long"}))]).await;
    let call = stage.door.call().await;
    assert!((19_000..=20_000).contains(&call.length), "{}", call.length);
    let messages = call.messages();
    let roles: Vec<&str> = messages.iter().map(|(role, _)| role.as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool"]);
    assert!(messages[1].1 == "read and write" && messages[3].1.ends_with("[cut]"));
    // A call that is longer than all of the window.
    let content = "c".repeat(50_000);
    call.use_tools(&[("files", json!({"action": "write", "path": "copy", "content": content}))]).await;
    let call = stage.door.call().await;
    assert!(call.length <= 20_000, "{}", call.length);
    assert_eq!(call.messages().last().unwrap().1, "50000 bytes written");
    let arguments = call.body["messages"][4]["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
    let arguments: Value = serde_json::from_str(arguments).unwrap();
    assert!(arguments["path"] == "copy" && arguments["content"].as_str().unwrap().ends_with("[cut]"));
    call.say("both done").await;
    assert_eq!(stage.done().await, "both done");
    assert_eq!(fs::read_to_string(stage.workspace.path().join("copy")).unwrap(), content);
}

#[tokio::test]
async fn a_cancelled_turn_ends_at_once_and_drops_its_call() {
    let mut stage = Stage::set(json!({})).await;
    stage.begin(1, "long").await;
    let mut call = stage.door.call().await;
    call.begin().await;
    call.text("I begin").await;
    stage.event().await;
    let begun = Instant::now();
    let params = json!({"turn": turn(1)});
    stage.link.send(&Frame::request("c", "turn.cancel", params.clone())).await;
    assert_eq!(stage.next().await, Frame::answer("c", json!({})));
    assert!(call.is_dropped().await);
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
    assert!(stage.is_silent().await);
    // Twice is no fault, and the next turn is taken.
    stage.link.send(&Frame::request("c2", "turn.cancel", params)).await;
    assert_eq!(stage.next().await, Frame::answer("c2", json!({})));
    stage.begin(2, "short").await;
    stage.door.call().await.say("yes").await;
    assert_eq!(stage.done().await, "yes");
}

#[tokio::test]
async fn a_cancel_before_the_model_is_asked_leaves_nothing() {
    let mut stage = Stage::set(json!({})).await;
    stage.run(1, "hi").await;
    let Frame::Req { id, .. } = stage.next().await else { panic!("no history asked for") };
    stage.link.send(&Frame::request("c", "turn.cancel", json!({"turn": turn(1)}))).await;
    assert_eq!(stage.next().await, Frame::answer("c", json!({})));
    stage.link.send(&Frame::answer(&id, json!({"messages": [], "more": false}))).await;
    assert!(stage.is_silent().await && stage.door.nobody_calls());
}

#[tokio::test]
async fn a_repeat_of_a_turn_is_dropped_and_an_ended_one_is_told_again() {
    let mut stage = Stage::set(json!({})).await;
    stage.begin(1, "hi").await;
    let mut call = stage.door.call().await;
    assert_eq!(stage.run(1, "hi").await, Frame::answer("r1", json!({})));
    call.begin().await;
    call.text("hello").await;
    call.finish("stop").await;
    assert_eq!(stage.done().await, "hello");
    assert_eq!(stage.run(1, "hi").await, Frame::answer("r1", json!({})));
    assert_eq!(stage.event().await, ("turn.done".to_owned(), json!({"turn": turn(1), "text": "hello"})));
    assert!(stage.is_silent().await && stage.door.nobody_calls());
}

#[tokio::test]
async fn four_turns_are_worked_on_at_once_and_a_fifth_is_refused() {
    let mut stage = Stage::set(json!({})).await;
    let mut calls = Vec::new();
    for number in 1..=4 {
        stage.begin(number, &format!("turn {number}")).await;
        calls.push(stage.door.call().await);
    }
    assert_eq!(refused(stage.run(5, "one too many").await), Code::Busy);
    for call in calls.into_iter().rev() {
        let text = call.messages().last().unwrap().1.clone();
        call.say(&text).await;
        assert_eq!(stage.done().await, text);
    }
    stage.begin(5, "again").await;
    stage.door.call().await.say("now").await;
    assert_eq!(stage.done().await, "now");
}

#[tokio::test]
async fn a_drain_lets_what_is_under_way_finish_and_takes_nothing_new() {
    let mut stage = Stage::set(json!({})).await;
    stage.begin(1, "hi").await;
    let mut call = stage.door.call().await;
    stage.link.send(&Frame::request("d", "agent.drain", Value::Null)).await;
    stage.agent.signal(Signal::SIGTERM);
    assert_eq!(refused(stage.run(2, "late").await), Code::ShuttingDown);
    call.begin().await;
    for piece in ["slow ", "but ", "whole"] {
        tokio::time::sleep(Duration::from_millis(30)).await;
        call.text(piece).await;
    }
    call.finish("stop").await;
    assert_eq!(stage.done().await, "slow but whole");
    assert_eq!(stage.next().await, Frame::answer("d", json!({})));
    assert_eq!(stage.agent.exit().await.code(), Some(0));
}

#[tokio::test]
async fn an_answer_without_end_is_cut_at_the_limit() {
    let mut stage = Stage::set(json!({})).await;
    stage.begin(1, "for ever").await;
    let mut call = stage.door.call().await;
    call.begin().await;
    // Three bytes each: the limit lies within a character.
    let piece = "€".repeat(1000);
    let stream = async { while call.text(&piece).await {} };
    let (text, ()) = tokio::join!(stage.done(), stream);
    assert_eq!(text.len(), MAX_MESSAGE / 3 * 3);
    let most = stage.agent.most_memory();
    assert!(most < 32 * 1024, "{most} KiB");
}

#[tokio::test]
async fn a_history_that_is_refused_fails_the_turn() {
    let mut stage = Stage::set(json!({})).await;
    stage.run(1, "hi").await;
    let Frame::Req { id, .. } = stage.next().await else { panic!("no history asked for") };
    let error = json!({"code": "busy", "message": "16 requests are worked on", "hint": "wait"});
    stage.link.send(&Frame::refusal(&id, serde_json::from_value(error).unwrap())).await;
    let fault = stage.fault().await;
    assert_eq!((&fault["code"], &fault["hint"]), (&json!("busy"), &json!("wait")));
    assert!(fault["message"].as_str().unwrap().contains("16 requests"));
}

#[tokio::test]
async fn a_request_of_the_wrong_shape_is_refused_and_harms_nothing() {
    let mut stage = Stage::set(json!({})).await;
    for params in [Value::Null, json!({}), json!({"turn": "trn_1"}), json!([1]), json!({"turn": turn(1), "attempt": 1})]
    {
        for method in ["turn.run", "turn.cancel"] {
            if method == "turn.cancel" && params["turn"] == turn(1) {
                continue;
            }
            stage.link.send(&Frame::request("x", method, params.clone())).await;
            assert_eq!(refused(stage.next().await), Code::Invalid, "{method} {params}");
        }
    }
    // Answers that nobody waits for, and events that nobody knows.
    stage.link.send(&Frame::answer("q99", json!({}))).await;
    stage.link.send(&Frame::event("config.changed", json!({"config": {"max_turns": 1}}))).await;
    stage.link.send(&Frame::event("new.event", json!([]))).await;
    stage.begin(1, "hi").await;
    let call = stage.door.call().await;
    assert_eq!(call.body["tool_choice"], "none", "the changed configuration counts");
    call.say("fine").await;
    assert_eq!(stage.done().await, "fine");
}
