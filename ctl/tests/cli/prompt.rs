//! `chat` at a prompt on a terminal.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use agentbot_wire::{ApiError, Code, Phase, Platform, Sender, ToolStatus, method};

use crate::broken_daemon::until;
use crate::chat::Act;
use crate::pty::Pty;
use crate::twin::Twin;

fn say(text: &str) -> Act {
    Act::Say(text.to_owned())
}

struct Stage {
    twin: Twin,
    state: tempfile::TempDir,
}

impl Stage {
    fn new(scripts: Vec<Vec<Act>>) -> Self {
        let twin = Twin::with(&["helper"]);
        twin.state().chats.scripts.extend(scripts);
        Self { twin, state: tempfile::tempdir().unwrap() }
    }

    fn chat(&self, words: &[&str], variables: &[(&str, &str)]) -> Pty {
        let all: Vec<_> = ["chat", "helper"].iter().chain(words).copied().collect();
        Pty::run(&self.twin.socket(), self.state.path(), &all, variables)
    }
}

#[test]
fn a_talk_greets_answers_remembers_and_says_goodbye() {
    let stage = Stage::new(vec![vec![say("# Good\n\n**bold** "), say("words")]]);
    let mut pty = stage.chat(&[], &[]);
    pty.sees("helper running · builtin/basic · topic main, new conversation", 1);
    pty.press("how are you?\r");
    pty.sees("bold words", 1);
    assert!(pty.raw().contains("\x1b[1m"), "{:?}", pty.raw());
    pty.press("\x04");
    assert_eq!(pty.ends(), Some(0));
    pty.sees("the conversation stays: agentbotctl chat helper", 1);
    assert!(!pty.text().split("bold words").last().unwrap().contains("thinking"), "{}", pty.text());
    let history = stage.state.path().join("agentbot/history");
    assert!(std::fs::read_to_string(&history).unwrap().contains("how are you?"));
    assert_eq!(std::fs::metadata(&history).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn nothing_is_remembered_where_that_is_not_wanted() {
    let stage = Stage::new(Vec::new());
    let mut pty = stage.chat(&["--no-history"], &[]);
    pty.sees("›", 1);
    pty.press("secret\r");
    pty.sees("echo: secret", 1);
    pty.press("\x04");
    assert_eq!(pty.ends(), Some(0));
    assert!(!stage.state.path().join("agentbot").exists());
}

#[test]
fn without_colours_there_are_marks_and_no_styles() {
    let stage = Stage::new(vec![vec![say("# Good\n\n**bold** `code`")]]);
    let mut pty = stage.chat(&[], &[("NO_COLOR", "1")]);
    pty.sees("›", 1);
    pty.press("hi\r");
    pty.sees("# Good", 1);
    pty.sees("**bold** `code`", 1);
    let raw = pty.raw();
    assert!(!raw.contains("\x1b[1m") && !raw.contains("\x1b[3") && !raw.contains("\x1b[2m"), "{raw:?}");
}

#[test]
fn ctrl_c_stops_the_turn_within_a_blink_and_the_talk_goes_on() {
    let held = || vec![say("begun "), Act::Hold];
    let stage = Stage::new((0..5).map(|_| held()).chain([vec![say("once more")]]).collect());
    stage.twin.state().chats.held = true;
    let mut pty = stage.chat(&[], &[]);
    pty.sees("›", 1);
    // The machine may be busy with something else for a moment, but not most times.
    let mut took: Vec<_> = (1..=5)
        .map(|times| {
            pty.press("hi\r");
            pty.sees("begun", times);
            let began = Instant::now();
            pty.press("\x03");
            until(|| stage.twin.state().chats.aborts.len() == times);
            let took = began.elapsed();
            pty.sees("stopped; /retry asks again", times);
            took
        })
        .collect();
    took.sort();
    assert!(took[2] < Duration::from_millis(200), "{took:?}");
    pty.press("/retry\r");
    pty.sees("once more", 1);
    pty.press("/quit\r");
    assert_eq!(pty.ends(), Some(0));
}

#[test]
fn ctrl_c_at_the_prompt_drops_the_line_and_leaves_when_pressed_twice() {
    let stage = Stage::new(Vec::new());
    let mut pty = stage.chat(&[], &[]);
    pty.sees("›", 1);
    pty.press("half");
    pty.sees("half", 1);
    pty.press("\x03");
    pty.sees("›", 2);
    pty.press("\x03");
    pty.sees("Ctrl-C once more", 1);
    // A key counts for the line once that is there.
    pty.sees("›", 3);
    pty.press("\x03");
    assert_eq!(pty.ends(), Some(0));
    assert!(stage.twin.state().chats.sends.is_empty());
}

#[test]
fn several_lines_are_one_message() {
    let stage = Stage::new(Vec::new());
    let mut pty = stage.chat(&[], &[]);
    pty.sees("›", 1);
    pty.press("one\\\r");
    pty.press("two\r");
    until(|| stage.twin.state().chats.sends.len() == 1);
    pty.sees("echo: one", 1);
    pty.press("\x1b[200~three\nfour\x1b[201~\r");
    until(|| stage.twin.state().chats.sends.len() == 2);
    let sent: Vec<_> = stage.twin.state().chats.sends.iter().map(|send| send.text.clone()).collect();
    assert_eq!(sent, ["one\ntwo", "three\nfour"]);
}

#[test]
fn a_connection_cut_in_the_middle_is_told_once_and_nothing_is_shown_twice() {
    let mut script = vec![say("first paragraph\n\n"), say("second "), Act::Pause(100), Act::Cut, say("half\n\n")];
    script.push(say("the end"));
    let stage = Stage::new(vec![script]);
    let mut pty = stage.chat(&["--no-history"], &[]);
    pty.sees("›", 1);
    pty.press("hi\r");
    pty.sees("the end", 1);
    pty.press("/quit\r");
    assert_eq!(pty.ends(), Some(0));
    pty.sees("/quit", 1);
    let text = pty.text();
    assert_eq!(text.matches("first paragraph").count(), 1, "{text}");
    assert_eq!(text.matches("agentbotd is away").count(), 1, "{text}");
}

#[test]
fn what_others_say_appears_above_the_line_that_is_typed() {
    let stage = Stage::new(Vec::new());
    let mut pty = stage.chat(&[], &[]);
    pty.sees("›", 1);
    pty.press("hello\r");
    pty.sees("echo: hello", 1);
    pty.press("half a li");
    pty.sees("half a li", 1);
    {
        let mut state = stage.twin.state();
        let conversation = state.chats.conversations[0].id.clone();
        state.chats.store(&conversation, Sender::User, Platform::Http, "from \x1b]0;x\x07a browser", None);
    }
    pty.sees("user via http", 1);
    pty.sees("from a browser", 1);
    pty.press("ne\r");
    pty.sees("echo: half a line", 1);
}

#[test]
fn phases_are_told_and_a_message_waits() {
    let stage = Stage::new(Vec::new());
    let mut pty = stage.chat(&[], &[]);
    pty.sees("›", 1);
    let phase = |phase: Phase| {
        let mut state = stage.twin.state();
        state.agents[0].phase = phase;
        let agent = state.agents[0].clone();
        state.chats.phase(&agent);
    };
    phase(Phase::Stopped);
    pty.sees("helper is stopped: agentbotctl start helper", 1);
    pty.press("hi\r");
    pty.sees("helper is stopped; the message waits: agentbotctl start helper", 1);
    phase(Phase::Running);
    pty.sees("echo: hi", 1);
}

#[test]
fn topics_and_history_are_at_hand() {
    let stage = Stage::new(Vec::new());
    let mut pty = stage.chat(&[], &[]);
    pty.sees("›", 1);
    pty.press("hello\r");
    pty.sees("echo: hello", 1);
    pty.press("/topic work\r");
    pty.sees("it begins with your first message", 1);
    pty.press("other\r");
    pty.sees("echo: other", 1);
    pty.press("/topic\r");
    pty.sees("main  2 messages", 1);
    pty.press("/topic main\r");
    pty.sees("topic main\n", 1);
    pty.press("/history\r");
    pty.sees("echo: hello", 2);
    assert_eq!(stage.twin.state().chats.sends[1].topic.as_deref(), Some("work"));
    pty.press("/nonsense\r");
    pty.sees("is no command here", 1);
}

#[test]
fn what_is_asked_at_the_prompt_is_answered_when_something_before_it_is_missing() {
    let error = ApiError { code: Code::ModelFailed, message: "no model".to_owned(), hint: None };
    let stage = Stage::new(vec![vec![Act::Fail(error)], vec![say("asked once more")]]);
    let mut pty = stage.chat(&[], &[]);
    pty.sees("›", 1);
    pty.press("hi\r");
    pty.sees("/retry asks again", 1);
    stage.twin.state().chats.hole = Some(method::CHAT_HISTORY);
    pty.press("/history\r");
    pty.sees("! no model", 1);
    stage.twin.state().chats.hole = Some(method::CHAT_RETRY);
    pty.press("/retry\r");
    pty.sees("asked once more", 1);
    assert!(stage.twin.state().chats.hole.is_none());
}

#[test]
fn an_abort_without_an_answer_is_not_said_to_be_done() {
    let stage = Stage::new(vec![vec![say("begun "), Act::Hold]]);
    (stage.twin.state().chats.held, stage.twin.state().chats.deaf_to_aborts) = (true, true);
    let mut pty = stage.chat(&[], &[]);
    pty.sees("›", 1);
    pty.press("hi\r");
    pty.sees("begun", 1);
    pty.press("\x03");
    pty.sees("asked to stop, and not heard to have stopped yet", 1);
}

#[test]
fn who_types_lines_for_a_program_is_told_so() {
    let stage = Stage::new(Vec::new());
    let mut pty = stage.chat(&["-o", "json"], &[]);
    pty.sees("each line is a message; Ctrl-D ends", 1);
    pty.press("hi\r");
    pty.sees("echo: hi", 1);
    pty.press("\x04");
    assert_eq!(pty.ends(), Some(0));
    let mut pty = stage.chat(&["-o", "json", "-q"], &[]);
    pty.press("hi\r");
    pty.sees("echo: hi", 1);
    assert!(!pty.text().contains("each line"), "{}", pty.text());
}

#[test]
fn a_failed_turn_and_a_tool_are_shown_and_escapes_are_not() {
    let hint = Some("agentbotctl model list".to_owned());
    let error = ApiError { code: Code::ModelFailed, message: "no \x1b[2Jmodel".to_owned(), hint };
    let stage = Stage::new(vec![vec![
        Act::Tool("files", "write \x1b]52;c;eA==\x07notes.md", ToolStatus::Succeeded),
        say("half\x1b"),
        say("]0;owned\x07 \u{9b}2Jdone\x1b[?1049h"),
        Act::Fail(error),
    ]]);
    let mut pty = stage.chat(&[], &[]);
    pty.sees("›", 1);
    pty.press("hi\r");
    pty.sees("· files write notes.md", 1);
    pty.sees("✗ no model", 1);
    pty.sees("hint: agentbotctl model list", 1);
    let raw = pty.raw();
    for attack in ["\x1b]", "\x1b[2J", "\u{9b}", "\x1b[?1049h", "owned"] {
        assert!(!raw.contains(attack), "{attack:?} in {raw:?}");
    }
}

#[test]
fn a_long_reason_is_wrapped_between_words() {
    let error = ApiError { code: Code::ModelFailed, message: "because of something ".repeat(8), hint: None };
    let stage = Stage::new(vec![vec![Act::Fail(error)]]);
    let mut pty = stage.chat(&["--no-history"], &[]);
    pty.sees("›", 1);
    pty.press("hi\r");
    pty.sees("/retry asks again", 1);
    let text = pty.text();
    let reason: Vec<_> = text.lines().filter(|line| line.contains("because")).collect();
    assert!(reason.len() > 1 && reason.iter().all(|line| line.chars().count() < 80), "{text}");
}

#[test]
fn keys_pressed_during_an_answer_are_the_next_line() {
    let stage = Stage::new(vec![vec![say("slow "), Act::Hold, say("answer")]]);
    stage.twin.state().chats.held = true;
    let mut pty = stage.chat(&[], &[]);
    pty.sees("›", 1);
    pty.press("hi\r");
    pty.sees("slow", 1);
    pty.press("typed ahead\r");
    stage.twin.state().chats.held = false;
    pty.sees("echo: typed ahead", 1);
    let sent: Vec<_> = stage.twin.state().chats.sends.iter().map(|send| send.text.clone()).collect();
    assert_eq!(sent, ["hi", "typed ahead"]);
}

#[test]
fn one_answer_on_a_terminal_is_rendered_too() {
    let stage = Stage::new(vec![vec![Act::Tool("files", "x", ToolStatus::Succeeded), say("- one\n- **two**")]]);
    let mut pty = stage.chat(&["hi"], &[]);
    assert_eq!(pty.ends(), Some(0));
    pty.sees("• one\n• two\n", 1);
    pty.sees("· files x", 1);
}

#[test]
fn a_rotation_asks_first() {
    let stage = Stage::new(Vec::new());
    let words = ["token", "helper", "--rotate"];
    let mut pty = Pty::run(&stage.twin.socket(), stage.state.path(), &words, &[]);
    pty.sees("Go ahead? [y/N]", 1);
    pty.press("n\r");
    assert_eq!(pty.ends(), Some(1));
    assert!(stage.twin.changes().is_empty());
    let mut pty = Pty::run(&stage.twin.socket(), stage.state.path(), &words, &[]);
    pty.sees("Go ahead? [y/N]", 1);
    pty.press("y\r");
    assert_eq!(pty.ends(), Some(0));
    pty.sees(&"fedcba9876543210".repeat(4), 1);
}
