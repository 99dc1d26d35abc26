use super::*;

fn request(messages: Value, tools: &[&str]) -> Request {
    let tools =
        tools.iter().map(|name| json!({"type": "function", "function": {"name": name, "description": "does it"}}));
    let tools = Value::Array(tools.collect());
    Request::new(serde_json::from_value(messages).unwrap(), serde_json::from_value(tools).unwrap())
}

fn text(reply: Reply) -> String {
    let Reply::Say(pieces) = reply else { panic!("a text was wanted, not {reply:?}") };
    pieces.into_iter().map(|piece| piece.text).collect()
}

fn user(text: &str) -> Value {
    json!([{"role": "system", "content": "be nice"}, {"role": "user", "content": text}])
}

/// What is said once the tool has answered.
fn after(text_of_user: &str, result: &str) -> String {
    let mut messages = user(text_of_user);
    let call = json!({"id": "1", "type": "function", "function": {"name": "memory", "arguments": "{}"}});
    messages.as_array_mut().unwrap().extend([
        json!({"role": "assistant", "content": null, "tool_calls": [call]}),
        json!({"role": "tool", "tool_call_id": "1", "content": result}),
    ]);
    text(reply(&request(messages, &["memory", "files"])))
}

#[test]
fn it_never_passes_for_a_language_model() {
    for said in ["hello", "who are you", "help", "write me a poem about rain"] {
        let answer = text(reply(&request(user(said), &[])));
        assert!(answer.contains("No language model is configured"), "{answer}");
    }
}

#[test]
fn how_to_get_a_language_model_is_told_as_it_works() {
    for said in ["help", "who are you"] {
        let answer = text(reply(&request(user(said), &[])));
        let steps =
            ["[models.providers]", "agentbotctl model discover", "agentbotctl provision NAME --model PROVIDER/MODEL"];
        assert!(steps.iter().all(|step| answer.contains(step)), "{answer}");
        // The default is for agents made afterwards: it helps nobody who asks.
        assert!(!answer.contains("`default`"), "{answer}");
    }
    for said in ["hello", "write me a poem about rain"] {
        let answer = text(reply(&request(user(said), &[])));
        assert!(answer.contains("`help`") && answer.matches(['.', '!']).count() <= 3, "{answer}");
    }
}

#[test]
fn a_tool_is_used_if_it_was_given() {
    let asked = |text: &str| reply(&request(user(text), &["memory", "files"]));
    let uses = |tool: &str, arguments| Reply::Use(tool.to_owned(), arguments);
    assert_eq!(
        asked("remember colour is green"),
        uses("memory", json!({"action": "put", "key": "colour", "value": "green"}))
    );
    assert_eq!(asked("recall colour"), uses("memory", json!({"action": "get", "key": "colour"})));
    assert_eq!(asked("what do you remember?"), uses("memory", json!({"action": "list"})));
    assert_eq!(asked("search for green"), uses("memory", json!({"action": "search", "query": "green"})));
    assert_eq!(asked("forget colour"), uses("memory", json!({"action": "forget", "key": "colour"})));
    assert_eq!(asked("list files"), uses("files", json!({"action": "list"})));
    assert_eq!(asked("read a"), uses("files", json!({"action": "read", "path": "a"})));
    assert_eq!(asked("write a: b"), uses("files", json!({"action": "write", "path": "a", "content": "b"})));
}

#[test]
fn a_tool_that_was_not_given_is_not_used() {
    for (tools, said) in [(&[][..], "recall x"), (&["files"][..], "recall x"), (&["memory"][..], "list files")] {
        let answer = text(reply(&request(user(said), tools)));
        assert!(answer.contains("I was not given it"), "{answer}");
    }
}

#[test]
fn what_the_tool_answered_is_told_in_whatever_form_it_comes() {
    assert_eq!(
        after("remember colour is green", r#"{"key":"colour","saved":true}"#),
        "I will remember that colour is green."
    );
    for result in
        [r#"{"memory":{"colour":"green"},"more":false}"#, r#"{"key":"colour","value":"green"}"#, "green", "\"green\""]
    {
        assert_eq!(after("recall colour", result), "colour is green", "{result}");
    }
    for result in [r#"{"memory":{},"more":false}"#, r#"{"value":null}"#, "null"] {
        assert_eq!(after("recall colour", result), "I remember nothing about colour.", "{result}");
    }
    assert_eq!(after("what do you remember", r#"{"memory":{"a":1,"b":"x"}}"#), "I remember:\n- a: 1\n- b: x");
    assert_eq!(after("what do you remember", "{}"), "I remember nothing.");
    for result in [r#"["a","b"]"#, r#"{"entries":[{"name":"a"},{"name":"b"}]}"#] {
        assert_eq!(after("list files", result), "These files are there:\n- a\n- b", "{result}");
    }
    assert_eq!(after("list files", "[]"), "There are no files.");
    assert_eq!(after("read a", r#"{"content":"text"}"#), "text");
    for result in [r#"{"error":{"message":"no such file"}}"#, r#"{"error":"no such file"}"#, "Error: no such file"] {
        assert_eq!(after("read a", result), "That did not work: no such file", "{result}");
    }
}

#[test]
fn an_earlier_tools_answer_is_not_the_answer_to_the_next_question() {
    let messages = json!([
        {"role": "user", "content": "recall a"},
        {"role": "assistant", "tool_calls": []},
        {"role": "tool", "content": "old"},
        {"role": "assistant", "content": "a is old"},
        {"role": "user", "content": [{"type": "text", "text": "recall b"}]},
    ]);
    assert!(matches!(reply(&request(messages, &["memory"])), Reply::Use(..)));
}

#[test]
fn numbers_come_one_to_a_piece_with_their_pause() {
    let Reply::Say(pieces) = reply(&request(user("wait 20 ms count to 1000"), &[])) else { panic!("a text") };
    assert_eq!(pieces.len(), 1_000);
    assert!(pieces.iter().all(|piece| piece.pause == Duration::from_millis(20)));
    assert_eq!((pieces[0].text.as_str(), pieces[999].text.as_str()), ("1 ", "1000"));
}

#[test]
fn tools_of_other_kinds_are_passed_over() {
    let messages = serde_json::from_value(user("tools")).unwrap();
    let tools = serde_json::from_value(json!([{"type": "web_search"}])).unwrap();
    assert_eq!(text(reply(&Request::new(messages, tools))), "I was not given any tools.");
}

#[test]
fn its_tools_are_listed() {
    let answer = text(reply(&request(user("tools"), &["memory", "other"])));
    assert_eq!(answer, "I was given these tools:\n- `memory`: does it\n- `other`: does it");
    assert_eq!(text(reply(&request(user("tools"), &[]))), "I was not given any tools.");
}

#[test]
fn an_answer_comes_in_several_pieces() {
    let Reply::Say(pieces) = reply(&request(user("hello"), &[])) else { panic!("a text") };
    assert!(pieces.len() > 5);
    assert!(matches!(reply(&request(json!([]), &[])), Reply::Say(_)), "no message at all is answered too");
}
