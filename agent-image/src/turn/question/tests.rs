use super::*;
use serde_json::json;

use crate::kit;
use crate::model::{MAX_ARGUMENTS, MAX_CALLS};
use crate::turn::about::MAX_ROUNDS;

fn message(sender: &str, content: &str) -> Message {
    let id = |prefix: &str| format!("{prefix}_{:026}", 1);
    serde_json::from_value(json!({
        "id": id("msg"), "agentId": id("ins"), "conversation": id("cnv"), "sender": sender, "content": content,
        "timestamp": "2026-01-02T03:04:05Z", "platform": "ws", "seq": 1, "turn": id("trn"),
    }))
    .unwrap()
}

fn call(number: usize, arguments: &str) -> Call {
    Call { id: format!("c{number}"), name: "files".to_owned(), arguments: arguments.to_owned() }
}

fn read_call(number: usize) -> Call {
    call(number, r#"{"action":"read","path":"a"}"#)
}

fn messages(body: &[u8]) -> Vec<Value> {
    let body: Value = serde_json::from_slice(body).unwrap();
    body["messages"].as_array().unwrap().clone()
}

/// Role and content of each message after the system prompt.
fn told(body: &[u8]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    messages(body).iter().skip(1).map(|message| (text(&message["role"]), text(&message["content"]))).collect()
}

fn contents(body: &[u8]) -> Vec<String> {
    told(body).into_iter().map(|(_, content)| content).collect()
}

/// Two messages of history, a question, and two rounds of one result each.
fn scene(about: &About) -> Question<'_> {
    let mut question = Question::new(about, "today", &message("user", "now"));
    question.put_history(&[message("user", "\"first\"\n"), message("agent", "second")]);
    question.put_round("I look.".to_owned(), [(read_call(1), "é\"\n".repeat(100))]);
    question.put_round(String::new(), [(read_call(2), "y".repeat(300))]);
    question
}

/// What is told within so many bytes.
fn within(budget: usize) -> Vec<u8> {
    let about = About { window: budget, ..About::default() };
    let body = scene(&about).body(false);
    assert!(body.len() <= budget, "{} {budget}", body.len());
    body
}

#[test]
fn what_exactly_fits_is_told_and_one_byte_less_loses_the_oldest_message() {
    let about = About { window: MAX_BODY, ..About::default() };
    let whole = scene(&about).body(false);
    assert_eq!(within(whole.len()), whole);
    let body = within(whole.len() - 1);
    assert_eq!(contents(&body)[..2], ["second", "now"]);
    assert_eq!(contents(&body)[3], "é\"\n".repeat(100));
}

#[test]
fn results_are_shortened_when_the_history_is_gone_and_the_oldest_ones_first() {
    let about = About { window: MAX_BODY, ..About::default() };
    let mut without = scene(&about);
    without.put_history(&[]);
    let whole = without.body(false);
    assert_eq!(contents(&within(whole.len()))[2], "é\"\n".repeat(100));
    let body = contents(&within(whole.len() - 40));
    assert_eq!(body[0], "now");
    assert!(body[2].starts_with("é\"\né\"") && body[2].ends_with("[cut]"), "{}", body[2]);
    assert_eq!(body[4], "y".repeat(300));
    // As much is left as fits: one character of at most two bytes is missing, or half of an escape.
    assert!(within(whole.len() - 40).len() >= whole.len() - 42);
}

#[test]
fn every_budget_is_kept_and_each_call_keeps_its_result() {
    let about = About { window: MAX_BODY, ..About::default() };
    let whole = scene(&about).body(false).len();
    let least = Question::new(&about, "today", &message("user", "now")).body(false).len() + 230;
    for budget in least..=whole {
        let messages = messages(&within(budget));
        let ids = |role: &str, pointer: &str| -> Vec<Value> {
            let of_role = messages.iter().filter(|message| message["role"] == role);
            of_role.filter_map(|message| message.pointer(pointer).cloned()).collect()
        };
        assert_eq!(ids("assistant", "/tool_calls/0/id"), ids("tool", "/tool_call_id"), "{budget}");
        assert_eq!(messages[0]["role"], "system");
        assert!(messages.iter().any(|message| message["content"] == "now"), "{budget}");
        assert_eq!(messages.last().unwrap()["tool_call_id"], "c2", "{budget}");
    }
}

#[test]
fn a_question_over_the_window_is_asked_all_the_same() {
    let about = About { window: 10, ..About::default() };
    let mut question = scene(&about);
    assert_eq!(question.room(), 0);
    let body = question.body(true);
    assert_eq!(contents(&body), ["now", "", "[cut]"]);
    assert!(question.body(true) == body, "what is cut stays so");
}

#[test]
fn long_arguments_are_shortened_and_stay_json() {
    let about = About { window: 6_000, ..About::default() };
    let mut question = Question::new(&about, "today", &message("user", "now"));
    let arguments = json!({"action": "write", "path": "a", "content": "é\"".repeat(5_000), "value": {"a": [1]}});
    question.put_round(String::new(), [(call(1, &arguments.to_string()), "done".to_owned())]);
    let body = question.body(false);
    let arguments = messages(&body)[2]["tool_calls"][0]["function"]["arguments"].as_str().unwrap().to_owned();
    let arguments: Value = serde_json::from_str(&arguments).unwrap();
    assert_eq!((&arguments["action"], &arguments["path"]), (&json!("write"), &json!("a")));
    assert!(arguments["content"].as_str().unwrap().ends_with("\"[cut]") && arguments["value"] == "[cut]");
    assert_eq!(contents(&body)[2], "done");
    for odd in ["{broken", "[1,2]", "", &json!({"k".repeat(2_000): 1}).to_string()] {
        assert_eq!(shortened(odd), "{}");
    }
}

#[test]
fn the_most_that_a_turn_can_bring_stays_below_what_the_daemon_takes() {
    let config = json!({"context_tokens": u64::MAX, "persona": "\u{1}".repeat(1 << 20), "model": "m"});
    let about = About::default().with_config(&config);
    let mut question = Question::new(&about, "today", &message("user", &"\"".repeat(agentbot_wire::MAX_MESSAGE)));
    question.put_history(&vec![message("user", &"\\".repeat(agentbot_wire::MAX_MESSAGE)); 20]);
    for round in 1..MAX_ROUNDS {
        // Two large ones are enough; the others bring many small pieces.
        let (arguments, result) = if round < 3 { (MAX_ARGUMENTS / MAX_CALLS / 2, 32 * 1024) } else { (300, 300) };
        let uses = (0..MAX_CALLS).map(|number| {
            let arguments = json!({"content": "\"".repeat(arguments)}).to_string();
            (call(number, &arguments), "\n".repeat(result))
        });
        question.put_round("\"".repeat(agentbot_wire::MAX_MESSAGE), uses);
        let body = question.body(false);
        assert!(body.len() <= about.window.min(MAX_BODY), "{}", body.len());
    }
}

#[test]
fn sizes_are_those_of_json() {
    let text: String = (0..=0x7f_u8).map(char::from).chain("é€𝄞".chars()).collect();
    assert_eq!(escaped(&text) + 2, Value::from(text).to_string().len());
    assert!(kit::schemas().to_string().len() < 3_000, "the smallest window has room for a question");
}
