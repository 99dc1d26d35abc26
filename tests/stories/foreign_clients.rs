//! Programs that nobody of this project wrote talk to an agent.

use std::time::Duration;

use agentbot_tests::{Daemon, ECHO, EchoAgent, Setup, foreign};
use agentbot_wire::Phase;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);
const CLIENTS: [&str; 2] = ["chat_websockets.py", "chat_ws.js"];
const TEXT: &str = "grüße, 你好, 🦀";

/// Two agents that echo, and their tokens.
async fn two_agents(daemon: &Daemon) -> (Vec<EchoAgent>, [String; 2]) {
    let mut echoes = Vec::new();
    for name in ["one", "two"] {
        daemon.provision(name).await;
        echoes.push(EchoAgent::at(daemon, name, 4, Duration::from_millis(5)).await);
        daemon.wait_phase(name, Phase::Running, SOON).await;
    }
    (echoes, [daemon.token("one").await, daemon.token("two").await])
}

fn check(program: &str, told: &Value, actor: &str) {
    let answer = format!("{ECHO}{TEXT}");
    assert_eq!(told["protocol"], "agentbot.chat.v1", "{program}: {told}");
    assert!(told["actor"].as_str().is_some_and(|shown| shown.starts_with(actor)), "{program}: {told}");
    assert_eq!(told["messages"], json!([TEXT, answer]), "{program}: {told}");
    assert_eq!(told["pieces"], answer, "{program}: {told}");
    assert_eq!((&told["status"], &told["unknown"]), (&json!("done"), &json!("unsupported")), "{program}: {told}");
    let close = if program.ends_with(".py") { 1003 } else { 1007 };
    assert_eq!(told["close"], close, "{program}: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_foreign_clients_talk_by_both_doors() {
    let (setup, door) = Setup::scripted().tcp();
    let daemon = Daemon::start(setup).await;
    let (_echoes, [one, two]) = two_agents(&daemon).await;
    let (socket, door) = (daemon.home().socket().display().to_string(), door.to_string());

    for program in CLIENTS {
        check(program, &foreign(program, &["unix", &socket, "one", TEXT], None).await, "operator:");
        check(program, &foreign(program, &["tcp", &door, "two", TEXT], Some(&two)).await, "gateway:");
    }
    let refused = foreign("chat_ws.js", &["tcp", &door, "one", TEXT], Some(&"0".repeat(64))).await;
    assert_eq!(refused, json!({ "refused": 401 }));
    // A token decides: whoever has one agent's cannot name another.
    let stranger = foreign("chat_ws.js", &["tcp", &door, "two", TEXT], Some(&one)).await;
    assert_eq!((&stranger["refused"], &stranger["messages"]), (&json!("not_found"), &json!([])), "{stranger}");
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openai_sdk_talks_to_the_agent_whose_token_it_has_and_to_no_other() {
    let (setup, door) = Setup::scripted().tcp();
    let daemon = Daemon::start(setup).await;
    let (echoes, [one, two]) = two_agents(&daemon).await;
    let door = door.to_string();
    let answer = format!("{ECHO}{TEXT}");

    let told = foreign("openai_sdk.py", &[&door, TEXT], Some(&one)).await;

    assert_eq!((&told["plain"], &told["streamed"]), (&json!(answer), &json!(answer)), "{told}");
    assert_eq!((&told["finish"], &told["stream_finish"]), (&json!("stop"), &json!("stop")), "{told}");
    assert!(told["pieces"].as_u64().is_some_and(|pieces| pieces >= 4), "it is streamed: {told}");
    assert_eq!(told["object"], "chat.completion", "{told}");
    assert_eq!(told["no_messages"]["status"], 400, "{told}");
    assert!(matches!(told["too_long"]["status"].as_u64(), Some(400 | 413)), "{told}");
    let conversations = |name: &str| format!("/api/conversations?agentId={name}");
    let kept = daemon.get(&conversations("one")).await.expect(200).value();
    assert_eq!((&kept["count"], &kept["conversations"][0]["seq"]), (&json!(1), &json!(4)), "{kept}");

    let other = foreign("openai_sdk.py", &[&door, "for one"], Some(&two)).await;
    assert_eq!(other["plain"], format!("{ECHO}for one"), "{other}");
    assert_eq!(daemon.get(&conversations("one")).await.value(), kept, "the other token reaches the other agent alone");
    assert_eq!((echoes[0].answered(), echoes[1].answered()), (2, 2));
    let wrong = foreign("openai_sdk.py", &[&door, TEXT], Some(&"0".repeat(64))).await;
    assert_eq!((&wrong["refused"]["status"], &wrong["refused"]["kind"]), (&json!(401), &json!("AuthenticationError")));
    daemon.finish().await;
}
