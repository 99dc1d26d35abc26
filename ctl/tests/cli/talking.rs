//! `chat` without a prompt: one question, pipes and programs.

use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use agentbot_wire::{ApiError, Code, Phase, ToolStatus, method};
use serde_json::Value;

use crate::broken_daemon::until;
use crate::chat::Act;
use crate::run::{Run, command, ctl};
use crate::twin::{Twin, nowhere};

fn say(text: &str) -> Act {
    Act::Say(text.to_owned())
}

/// Runs with a text on standard input.
fn fed(twin: &Twin, words: &[&str], input: &str) -> Run {
    let mut child = command(&twin.socket()).args(words).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}

fn interrupt(child: &std::process::Child) {
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).unwrap();
}

/// What a run left; one that does not end by itself is ended.
fn ends(mut child: std::process::Child) -> Run {
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() && began.elapsed() < Duration::from_secs(8) {
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let _ = child.kill();
    child.wait_with_output().unwrap().into()
}

/// The lines of JSON on standard output.
fn lines(run: &Run) -> Vec<Value> {
    run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_question_gets_its_answer_and_nothing_else_on_standard_output() {
    let twin = Twin::with(&["helper"]);
    twin.state().chats.scripts.push_back(vec![
        say("# One\n"),
        Act::Tool("files", "write notes.md", ToolStatus::Succeeded),
        Act::Tool("files", "read gone.md", ToolStatus::Failed),
        say("**two**"),
    ]);
    let run = ctl(&twin.socket(), &["chat", "helper", "how", "are", "you?"]).exits(0);
    assert_eq!(run.stdout, "# One\n**two**\n");
    assert_eq!(run.stderr, "· files write notes.md\n· files read gone.md failed\n");
    let state = twin.state();
    assert_eq!(state.chats.sends[0].text, "how are you?");
    assert_eq!(state.chats.sends[0].topic.as_deref(), Some("main"));
    assert!(state.chats.connects[0].client.as_deref().unwrap().starts_with("agentbotctl/"));
}

#[test]
fn quiet_leaves_tools_out() {
    let twin = Twin::with(&["helper"]);
    twin.state().chats.scripts.push_back(vec![Act::Tool("files", "x", ToolStatus::Succeeded), say("ok")]);
    let run = ctl(&twin.socket(), &["chat", "helper", "hi", "-q"]).exits(0);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("ok\n", ""));
}

#[test]
fn standard_input_is_the_text_or_stands_behind_it() {
    let twin = Twin::with(&["helper"]);
    fed(&twin, &["chat", "helper"], "from a pipe\r\nline two\n").exits(0);
    fed(&twin, &["chat", "helper", "-"], "from a dash").exits(0);
    fed(&twin, &["chat", "helper", "review", "this", "-"], "the text\n").exits(0);
    let sent: Vec<_> = twin.state().chats.sends.iter().map(|send| send.text.clone()).collect();
    assert_eq!(sent, ["from a pipe\nline two", "from a dash", "review this\n\nthe text"]);
    assert!(fed(&twin, &["chat", "helper"], " \n").exits(2).stderr.contains("there is no text to send"));
}

#[test]
fn words_leave_standard_input_to_whom_it_belongs() {
    let twin = Twin::with(&["helper"]);
    let loops = format!("while read -r line; do {} chat helper \"$line\"; done", env!("CARGO_BIN_EXE_agentbotctl"));
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &loops]).env("AGENTBOT_SOCKET", twin.socket());
    let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"one\ntwo\nthree\n").unwrap();
    let run = Run::from(child.wait_with_output().unwrap()).exits(0);
    assert_eq!(run.stdout, "echo: one\necho: two\necho: three\n");
    // A pipe that nobody closes is not waited for either.
    let mut child = command(&twin.socket()).args(["chat", "helper", "hi"]).stdin(Stdio::piped()).spawn().unwrap();
    let open = child.stdin.take();
    let run = Run::from(child.wait_with_output().unwrap()).exits(0);
    drop(open);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("echo: hi\n", ""));
}

#[test]
fn an_input_that_never_ends_is_told_of_and_left() {
    let twin = Twin::with(&["helper"]);
    let words = ["chat", "helper", "hi", "-", "--timeout", "1500ms"];
    let mut child = command(&twin.socket()).args(words).stdin(Stdio::piped()).spawn().unwrap();
    let open = child.stdin.take();
    let run = Run::from(child.wait_with_output().unwrap()).exits(7);
    drop(open);
    assert!(run.stderr.starts_with("waiting for the end of standard input\n"), "{run:?}");
    assert!(run.stderr.contains("nothing was sent") && run.stderr.contains("< /dev/null"), "{run:?}");
    assert!(twin.state().chats.sends.is_empty());
    let mut child = command(&twin.socket()).args(["chat", "helper"]).stdin(Stdio::piped()).spawn().unwrap();
    let open = child.stdin.take();
    std::thread::park_timeout(Duration::from_millis(300));
    interrupt(&child);
    Run::from(child.wait_with_output().unwrap()).exits(130);
    drop(open);
}

#[test]
fn a_message_is_refused_past_its_limit_and_sent_up_to_it() {
    let twin = Twin::with(&["helper"]);
    twin.state().chats.scripts.push_back(vec![say("ok")]);
    fed(&twin, &["chat", "helper"], &"a".repeat(64 * 1024)).exits(0);
    let run = fed(&twin, &["chat", "helper"], &"a".repeat(64 * 1024 + 1)).exits(2);
    assert!(run.stderr.contains("at most 64 KiB, this one has 65537 bytes"), "{run:?}");
    // Where reading stops is within a character.
    let run = fed(&twin, &["chat", "helper"], &("a".to_owned() + &"ä".repeat(80 * 1024))).exits(2);
    assert!(run.stderr.contains("at most 64 KiB, this one has more than 128 KiB"), "{run:?}");
    assert_eq!(twin.state().chats.sends.len(), 1);
}

#[test]
fn programs_get_an_event_a_line_and_the_end_last() {
    let twin = Twin::with(&["helper"]);
    twin.state().chats.scripts.push_back(vec![
        say("a\x1b[31m\u{9b}"),
        Act::Tool("files", "x", ToolStatus::Succeeded),
        say("b"),
        Act::Answer("ab".to_owned()),
    ]);
    let run = ctl(&twin.socket(), &["chat", "helper", "hi", "-o", "json"]).exits(0);
    assert!(!run.stdout.chars().any(|c| c.is_control() && c != '\n'), "{run:?}");
    let lines = lines(&run);
    let names: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["chat.message", "chat.delta", "chat.tool", "chat.tool", "chat.delta", "chat.message", "chat.done"]
    );
    assert_eq!(lines[0]["seq"], 1);
    assert_eq!(lines[1]["payload"]["text"], "a\x1b[31m\u{9b}", "a program gets what the daemon said");
    assert_eq!(lines[5]["payload"]["content"], "ab");
    assert_eq!(lines[6]["payload"]["status"], "done");
    let yaml = ctl(&twin.socket(), &["chat", "helper", "hi", "-o", "yaml"]).exits(0).stdout;
    assert!(yaml.starts_with("---\nevent: chat.message\n") && yaml.contains("---\nevent: chat.done\n"), "{yaml}");
}

#[test]
fn each_line_of_a_pipe_can_be_a_message() {
    let twin = Twin::with(&["helper"]);
    let run = fed(&twin, &["chat", "helper", "--lines", "-o", "json"], "one\n\ntwo\n").exits(0);
    let ends = lines(&run).into_iter().filter(|line| line["event"] == "chat.done").count();
    assert_eq!(ends, 2, "{run:?}");
    let run = fed(&twin, &["chat", "helper", "--lines"], "three\nfour").exits(0);
    assert_eq!(run.stdout, "echo: three\necho: four\n");
}

#[test]
fn a_line_without_an_answer_is_told_once_and_the_next_one_is_asked() {
    let twin = Twin::with(&["helper"]);
    let busy = ApiError { code: Code::LimitReached, message: "64 messages wait".to_owned(), hint: None };
    twin.state().chats.refuse = Some(busy);
    twin.state().chats.scripts.push_back(vec![failing()]);
    let input = format!("refused\nfails\n{}\nlast\n", "a".repeat(64 * 1024 + 1));
    let run = fed(&twin, &["chat", "helper", "--lines", "-o", "json"], &input).exits(2);
    for reason in ["64 messages wait", "the model does not answer", "at most 64 KiB"] {
        assert_eq!(run.stderr.matches(reason).count(), 1, "{reason}: {run:?}");
    }
    let failed: Vec<_> =
        lines(&run).into_iter().filter(|line| line["ok"] == false).map(|line| line["error"]["code"].clone()).collect();
    assert_eq!(failed, ["limit_reached", "model_failed", "too_large"]);
    assert_eq!(lines(&run).last().unwrap()["payload"]["status"], "done");
    // The time is each line's own; a late answer is not taken for that to the next line.
    twin.state().chats.scripts.push_back(vec![Act::Pause(700), say("late")]);
    let run = fed(&twin, &["chat", "helper", "--lines", "--timeout", "400ms"], "slow\nquick\n").exits(7);
    assert_eq!(run.stdout, "echo: quick\n");
    assert_eq!(run.stderr.matches("did not answer in time").count(), 1, "{run:?}");
}

fn failing() -> Act {
    let hint = Some("see agentbotctl model list".to_owned());
    Act::Fail(ApiError { code: Code::ModelFailed, message: "the model does not answer".to_owned(), hint })
}

#[test]
fn a_turn_that_fails_ends_with_1_the_reason_and_a_hint() {
    let twin = Twin::with(&["helper"]);
    twin.state().chats.scripts.push_back(vec![say("half an ans"), failing()]);
    let run = ctl(&twin.socket(), &["chat", "helper", "hi"]).exits(1);
    assert_eq!(run.stdout, "", "half an answer is no answer");
    assert!(run.stderr.contains("error: the model does not answer\nhint: see agentbotctl model list\n"), "{run:?}");
    twin.state().chats.scripts.push_back(vec![failing()]);
    let run = ctl(&twin.socket(), &["chat", "helper", "hi", "-o", "json"]).exits(1);
    let lines = lines(&run);
    assert_eq!(lines[lines.len() - 2]["payload"]["status"], "failed");
    let last = lines.last().unwrap();
    assert_eq!((&last["ok"], &last["error"]["code"]), (&false.into(), &"model_failed".into()));
}

#[test]
fn a_refused_message_ends_as_the_daemon_says() {
    let twin = Twin::with(&["helper"]);
    let error = ApiError { code: Code::LimitReached, message: "64 messages wait".to_owned(), hint: None };
    twin.state().chats.refuse = Some(error);
    assert!(ctl(&twin.socket(), &["chat", "helper", "hi"]).exits(1).stderr.contains("64 messages wait"));
    assert!(ctl(&twin.socket(), &["chat", "nobody", "hi"]).exits(4).stderr.contains("there is no agent nobody"));
}

#[test]
fn a_turn_goes_on_after_the_time_that_was_given() {
    let twin = Twin::with(&["helper"]);
    twin.state().chats.held = true;
    twin.state().chats.scripts.push_back(vec![Act::Hold]);
    let run = ctl(&twin.socket(), &["chat", "helper", "hi", "--timeout", "300ms"]).exits(7);
    assert!(run.stderr.contains("the turn goes on") && run.stderr.contains("messages helper"), "{run:?}");
    assert_eq!(twin.state().chats.aborts.len(), 0);
}

#[test]
fn ctrl_c_aborts_the_turn_at_once() {
    let twin = Twin::with(&["helper"]);
    twin.state().chats.held = true;
    twin.state().chats.scripts.push_back(vec![Act::Hold]);
    let child = command(&twin.socket()).args(["chat", "helper", "hi"]).spawn().unwrap();
    until(|| !twin.state().chats.open().is_empty());
    let began = Instant::now();
    interrupt(&child);
    let run = Run::from(child.wait_with_output().unwrap()).exits(130);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(run.stderr.contains("the turn is aborted"), "{run:?}");
    assert_eq!(twin.state().chats.aborts.len(), 1);
}

#[test]
fn an_abort_that_nobody_answered_is_not_said_to_be_done() {
    let twin = Twin::with(&["helper"]);
    (twin.state().chats.held, twin.state().chats.deaf_to_aborts) = (true, true);
    twin.state().chats.scripts.push_back(vec![Act::Hold]);
    let child = command(&twin.socket()).args(["chat", "helper", "hi"]).spawn().unwrap();
    until(|| !twin.state().chats.open().is_empty());
    std::thread::park_timeout(Duration::from_millis(100));
    interrupt(&child);
    let run = Run::from(child.wait_with_output().unwrap()).exits(130);
    assert!(run.stderr.contains("asked to abort, and did not say yet"), "{run:?}");
    assert!(run.stderr.contains("agentbotctl messages helper --follow"), "{run:?}");
    assert!(!run.stderr.contains("is aborted"), "{run:?}");
}

#[test]
fn a_daemon_that_does_not_read_does_not_keep_ctrl_c_from_being_seen() {
    let twin = Twin::with(&["helper"]);
    twin.state().chats.deaf = true;
    let words = ["chat", "helper", "--lines", "--timeout", "400ms"];
    let mut child = command(&twin.socket()).args(words).stdin(Stdio::piped()).spawn().unwrap();
    // Each character is six in a frame: one line is about what a socket keeps, and the next waits to be written.
    let line = "\u{1}".repeat(42_000) + "\n";
    let mut input = child.stdin.take().unwrap();
    // It is left when the program ends.
    std::thread::spawn(move || input.write_all(line.repeat(20).as_bytes()));
    until(|| !twin.state().chats.subscribes.is_empty());
    std::thread::park_timeout(Duration::from_millis(1500));
    let began = Instant::now();
    interrupt(&child);
    let run = ends(child).exits(130);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(run.stderr.matches("did not take the message in time").count() >= 2, "{run:?}");
    assert!(run.stderr.contains("it may have arrived"), "{run:?}");
}

#[test]
fn a_question_under_way_is_answered_when_something_before_it_is_missing() {
    let twin = Twin::with(&["helper"]);
    let words = ["chat", "helper", "hi", "--idempotency-key", "k1", "--timeout", "10s"];
    ctl(&twin.socket(), &words).exits(0);
    // The turn is over: what it left is asked for as a page.
    twin.state().chats.hole = Some(method::CHAT_HISTORY);
    assert_eq!(ctl(&twin.socket(), &words).exits(0).stdout, "echo: hi\n");
    assert!(twin.state().chats.hole.is_none());
    twin.state().chats.hole = Some(method::CHAT_HISTORY);
    let run = ctl(&twin.socket(), &["messages", "helper", "--topic", "main", "--timeout", "10s"]).exits(0);
    assert!(run.stdout.contains("echo: hi"), "{run:?}");
    assert!(twin.state().chats.hole.is_none());
}

#[test]
fn detach_prints_the_ids_and_does_not_wait() {
    let twin = Twin::with(&["helper"]);
    twin.state().chats.held = true;
    twin.state().chats.scripts.push_back(vec![Act::Hold]);
    let run = ctl(&twin.socket(), &["chat", "helper", "hi", "--detach", "--topic", "work"]).exits(0);
    for part in ["turn          trn_", "message       msg_", "conversation  cnv_"] {
        assert!(run.stdout.contains(part), "{part}: {run:?}");
    }
    assert_eq!(twin.state().chats.sends[0].topic.as_deref(), Some("work"));
    let run = ctl(&twin.socket(), &["chat", "helper", "hi", "--detach", "-o", "json"]).exits(0);
    assert!(lines(&run)[0]["turn"].as_str().unwrap().starts_with("trn_"), "{run:?}");
}

#[test]
fn the_same_key_sends_a_message_once() {
    let twin = Twin::with(&["helper"]);
    for _ in 0..2 {
        let run = ctl(&twin.socket(), &["chat", "helper", "hi", "--idempotency-key", "k1"]).exits(0);
        assert_eq!(run.stdout, "echo: hi\n");
    }
    let users = twin.state().chats.messages.iter().filter(|one| one.content == "hi").count();
    assert_eq!(users, 1);
}

#[test]
fn an_answer_to_a_message_that_got_lost_is_asked_for_again_and_stored_once() {
    let twin = Twin::with(&["helper"]);
    twin.state().chats.lose_ack = true;
    let run = ctl(&twin.socket(), &["chat", "helper", "hi"]).exits(0);
    assert_eq!(run.stdout, "echo: hi\n");
    let state = twin.state();
    assert_eq!(state.chats.sends.len(), 2);
    assert_eq!(state.chats.sends[0].idempotency_key, state.chats.sends[1].idempotency_key);
    assert_eq!(state.chats.messages.len(), 2);
}

#[test]
fn a_connection_cut_anywhere_in_a_stream_loses_and_doubles_nothing() {
    for at in 0..6 {
        let twin = Twin::with(&["helper"]);
        let mut script: Vec<_> = ["one ", "two ", "three ", "four ", "five"].into_iter().map(say).collect();
        script.insert(at, Act::Cut);
        twin.state().chats.scripts.push_back(script);
        let run = ctl(&twin.socket(), &["chat", "helper", "hi", "-o", "json"]).exits(0);
        let lines = lines(&run);
        let stored: Vec<_> =
            lines.iter().filter(|line| line["event"] == "chat.message").map(|line| line["seq"].clone()).collect();
        assert_eq!(stored, [1, 2], "cut at {at}: {run:?}");
        assert_eq!(lines.iter().filter(|line| line["event"] == "chat.done").count(), 1, "cut at {at}: {run:?}");
        assert_eq!(lines.last().unwrap()["event"], "chat.done");
        assert!(run.stderr.matches("agentbotd is away").count() <= 1, "{run:?}");
    }
}

#[test]
fn a_daemon_that_restarts_in_the_middle_is_waited_for() {
    let mut twin = Twin::with(&["helper"]);
    twin.state().chats.held = true;
    twin.state().chats.scripts.push_back(vec![say("before "), Act::Hold, say("after")]);
    let child = command(&twin.socket()).args(["chat", "helper", "hi"]).spawn().unwrap();
    until(|| !twin.state().chats.open().is_empty());
    twin.away();
    twin.state().chats.held = false;
    twin.serve();
    let run = Run::from(child.wait_with_output().unwrap()).exits(0);
    assert_eq!(run.stdout, "before after\n");
    assert!(run.stderr.contains("agentbotd is away") && run.stderr.contains("agentbotd is back"), "{run:?}");
}

#[test]
fn a_message_to_a_stopped_agent_waits_and_says_how_to_start_it() {
    let twin = Twin::with(&["helper"]);
    twin.state().agents[0].phase = Phase::Stopped;
    let child = command(&twin.socket()).args(["chat", "helper", "hi"]).spawn().unwrap();
    until(|| !twin.state().chats.open().is_empty());
    twin.state().agents[0].phase = Phase::Running;
    let run = Run::from(child.wait_with_output().unwrap()).exits(0);
    assert!(run.stderr.contains("helper is stopped; the message waits: agentbotctl start helper"), "{run:?}");
}

#[test]
fn escapes_in_answers_and_tools_do_not_reach_the_terminal() {
    let twin = Twin::with(&["helper"]);
    twin.state().chats.scripts.push_back(vec![
        Act::Tool("files", "write \x1b]0;owned\x07\u{202e}x", ToolStatus::Succeeded),
        Act::Answer("a\x1b]52;c;Zm9v\x07b\x1b[2Jc\rd\u{9b}31me\u{202e}f".to_owned()),
    ]);
    let run = ctl(&twin.socket(), &["chat", "helper", "hi"]).exits(0);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("abcdef\n", "· files write x\n"));
}

#[test]
fn without_a_daemon_there_is_a_hint() {
    let directory = tempfile::tempdir().unwrap();
    for words in
        [&["chat", "helper", "hi"][..], &["messages", "helper"], &["conversations", "helper"], &["model", "list"]]
    {
        let run = ctl(&nowhere(directory.path()), words).exits(6);
        assert!(run.stderr.contains("systemctl start agentbotd"), "{run:?}");
    }
    let run = ctl(&nowhere(directory.path()), &["chat", "helper", "hi", "-o", "json"]).exits(6);
    assert_eq!(lines(&run)[0]["error"]["code"], "daemon_unreachable");
}
