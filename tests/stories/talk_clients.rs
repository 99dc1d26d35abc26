//! Clients that send what they should not: each is told so, and the others are not touched.

use std::time::Duration;

use agentbot_tests::{ChatClient, Daemon, ECHO, EchoAgent, Ended, Setup};
use agentbot_wire::{MAX_MESSAGE, TurnId};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn messages_have_a_length_and_letters_and_nothing_else() {
    let daemon = Daemon::start(Setup::scripted()).await;
    daemon.provision("helper").await;
    let _echo = EchoAgent::at(&daemon, "helper", 1, Duration::ZERO).await;
    let mut client = daemon.chat().await;
    client.follow("helper").await;
    let ask = async |client: &mut ChatClient, text: &str| -> Result<Value, String> {
        let params = json!({ "agent": "helper", "text": text });
        let reply = client.ask::<Value>("chat.send", &params).await.expect("an open connection");
        reply.map_err(|error| error.code.to_string())
    };

    let longest = "é".repeat((MAX_MESSAGE - ECHO.len()) / 2);
    for good in
        [longest.as_str(), "\u{202e}שלום\u{200f}", "line\n\tline", "🦀", "\u{ffff}", "' OR 1=1; --", "{\"a\":1}"]
    {
        let sent = ask(&mut client, good).await.unwrap_or_else(|code| panic!("{code}: {good:.40}"));
        let turn: TurnId = serde_json::from_value(sent["turn"].clone()).expect("a turn");
        client.done(&turn).await;
        let stored = client.ledger.all_messages();
        assert_eq!(stored[stored.len() - 1].content, format!("{ECHO}{good}"), "it comes back as it was sent");
    }
    assert!(ask(&mut client, &"x".repeat(MAX_MESSAGE)).await.is_ok());
    assert_eq!(ask(&mut client, &"x".repeat(MAX_MESSAGE + 1)).await, Err("too_large".to_owned()));
    assert_eq!(ask(&mut client, &format!("{}é", "x".repeat(MAX_MESSAGE - 1))).await, Err("too_large".to_owned()));
    for bad in ["", "  \n", "a\0b", "a\rb", "\u{1b}[31mred", "\u{7f}", "\u{9b}31m"] {
        assert_eq!(ask(&mut client, bad).await, Err("invalid".to_owned()), "{bad:?}");
    }
    let deep = format!(r#"{{"type":"req","id":"1","method":"chat.send","params":{}"#, "[".repeat(100_000));
    let mut diver = daemon.chat().await;
    diver.say(deep).await.expect("a frame of legal size");
    let (_, end) = diver.end(SOON).await;
    assert!(matches!(end, Ended::Closed(1007, _)), "{end:?}");
    for (method, params, code) in [
        ("no.such.method", json!({}), "unsupported"),
        ("chat.send", json!([]), "invalid"),
        ("chat.send", json!({ "agent": "helper" }), "invalid"),
        ("chat.send", json!({ "agent": "nobody", "text": "x" }), "not_found"),
        ("chat.send", json!({ "agent": "helper", "text": "x", "topic": "t".repeat(129) }), "invalid"),
        ("chat.send", json!({ "agent": "helper", "text": "x", "idempotency_key": "k".repeat(256) }), "invalid"),
        ("chat.history", json!({ "conversation": "cnv_01kak2m5v5e7qrf9v3n6m8t0zx" }), "not_found"),
        ("chat.history", json!({ "conversation": "ins_01kak2m5v5e7qrf9v3n6m8t0zx" }), "invalid"),
        ("chat.abort", json!({ "turn": "trn_01kak2m5v5e7qrf9v3n6m8t0zx" }), "not_found"),
        ("chat.subscribe", json!({ "agent": "nobody" }), "not_found"),
    ] {
        let refused = client.ask::<Value>(method, &params).await.expect("the connection goes on");
        let error = refused.expect_err(method);
        assert_eq!(error.code.to_string(), code, "{method} {params:.80}: {error:?}");
        assert!(error.hint.is_some(), "{method}: {error:?}");
    }
    client.ledger.check();
    daemon.finish().await;
}
