//! Turns wait for one another, and for their agent.

use std::collections::BTreeSet;
use std::time::Duration;

use agentbot_tests::{Call, Daemon, ECHO, EchoAgent, Setup, Shown};
use agentbot_wire::{ChatSend, Code, Phase, Sender, TurnStatus};
use serde_json::{Value, json};

const A_WHILE: Duration = Duration::from_millis(500);
const SOON: Duration = Duration::from_secs(60);
/// Turns of one agent that run at the same time.
const RUNNING: usize = 4;
/// Turns of one conversation that have not ended.
const OPEN: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_has_one_turn_at_a_time_in_the_order_of_its_messages() {
    let daemon = Daemon::start(Setup::scripted()).await;
    let (_, mut agent) = daemon.scripted("helper").await;
    let mut client = daemon.chat().await;
    client.follow("helper").await;

    let mut sent = Vec::new();
    for number in 0..5 {
        sent.push(client.send("helper", "main", &format!("message {number}")).await);
    }
    for (number, sent) in sent.iter().enumerate() {
        let run = agent.take().await;
        assert_eq!(run.message.content, format!("message {number}"));
        assert_eq!(run.turn, sent.turn);
        assert_eq!(agent.turn_within(A_WHILE).await.map(|run| run.message.content), None, "one at a time");
        agent.done(&run.turn, "done").await;
        client.done(&sent.turn).await;
    }

    client.ledger.check();
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_has_four_turns_at_a_time_of_as_many_conversations() {
    let daemon = Daemon::start(Setup::scripted()).await;
    let (_, mut agent) = daemon.scripted("helper").await;
    let mut client = daemon.chat().await;
    client.follow("helper").await;

    for number in 0..=RUNNING {
        client.send("helper", &format!("topic {number}"), "go").await;
    }
    let mut running = Vec::new();
    for _ in 0..RUNNING {
        running.push(agent.take().await);
    }
    assert!(agent.turn_within(A_WHILE).await.is_none(), "the fifth waits");
    // The last that came is the first that is answered.
    let last = running.pop().expect("four turns");
    agent.done(&last.turn, "done").await;
    running.push(agent.take().await);
    for run in running {
        agent.done(&run.turn, "done").await;
        client.done(&run.turn).await;
    }

    client.ledger.check();
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_turns_of_a_conversation_wait_and_no_more() {
    let daemon = Daemon::start(Setup::scripted()).await;
    let (_, mut agent) = daemon.scripted("helper").await;
    let mut client = daemon.chat().await;
    client.follow("helper").await;
    client.send("helper", "main", "runs").await;
    let first = agent.take().await;
    let mut last = None;
    for number in 1..OPEN {
        last = Some(client.send("helper", "main", &format!("waits {number}")).await);
    }

    let one_more = ChatSend { agent: Some("helper".to_owned()), text: "one more".to_owned(), ..ChatSend::default() };
    let refused = client.ask::<Value>("chat.send", &one_more).await.expect("an open connection");
    let refused = refused.expect_err("the queue is full");

    assert_eq!(refused.code, Code::Busy, "{refused:?}");
    assert!(refused.hint.is_some(), "{refused:?}");
    client.send("helper", "another topic", "has a queue of its own").await;
    agent.done(&first.turn, "done").await;
    client.done(&first.turn).await;
    let seq = client.send_as(&one_more).await.seq;
    assert_eq!(seq, last.expect("waiting ones").seq + 2, "what was refused took no place");
    client.ledger.check();
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_a_stopped_agent_waits_until_it_is_started() {
    let daemon = Daemon::start(Setup::new()).await;
    daemon.running("helper").await;
    let mut client = daemon.chat().await;
    client.follow("helper").await;
    daemon.act("helper", "stop").await;

    let sent = client.send("helper", "main", "hello").await;
    let early = client.next(A_WHILE).await;
    assert!(matches!(early, Ok(Shown::Message(_) | Shown::Phase(_))), "{early:?}");
    daemon.act("helper", "start").await;

    assert_eq!(client.done(&sent.turn).await.status, TurnStatus::Done);
    client.ledger.check();
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_agents_turns_end_and_undelete_brings_the_conversation_back() {
    let daemon = Daemon::start(Setup::scripted()).await;
    let (_, mut agent) = daemon.scripted("helper").await;
    let mut client = daemon.chat().await;
    client.follow("helper").await;
    let runs = client.send("helper", "main", "runs").await;
    let waits = client.send("helper", "main", "waits").await;
    agent.take().await;

    daemon.delete_agent("helper").await;
    // They end in any order.
    let mut ended = BTreeSet::new();
    while ended.len() < 2 {
        let done =
            client.until("an end", |shown| if let Shown::Done(done) = shown { Some(done.clone()) } else { None });
        let done = done.await;
        assert_eq!(done.status, TurnStatus::Cancelled);
        ended.insert(done.turn);
    }
    assert_eq!(ended, BTreeSet::from([runs.turn, waits.turn]));
    client.ledger.check();
    drop(agent);
    daemon.call(Call::post("/api/instance/helper/undelete").respond_async()).await.expect(202);
    let mut agent = daemon.rejoin("helper", "boot-2").await;
    daemon.wait_phase("helper", Phase::Running, SOON).await;

    let before = client.history(&runs.conversation).await;
    let texts: Vec<(Sender, &str)> =
        before.iter().take(2).map(|message| (message.sender, message.content.as_str())).collect();
    assert_eq!(texts, [(Sender::User, "runs"), (Sender::User, "waits")], "{before:?}");
    assert_eq!(before.iter().filter(|message| message.sender == Sender::System).count(), 2, "{before:?}");
    let again = client.send("helper", "main", "again").await;
    assert_eq!((again.conversation, again.seq), (runs.conversation, before.len() as u64 + 1));
    let run = agent.take().await;
    assert_eq!(run.message.content, "again");
    agent.done(&run.turn, "yes").await;
    client.done(&run.turn).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_leaves_no_message() {
    let daemon = Daemon::start(Setup::scripted()).await;
    for name in ["gone", "stays"] {
        daemon.provision(name).await;
        let _echo = EchoAgent::at(&daemon, name, 1, Duration::ZERO).await;
        daemon.wait_phase(name, Phase::Running, SOON).await;
        let body = json!({ "agentId": name, "message": format!("to {name}"), "topic": "t" });
        let reply = daemon.call(Call::post("/api/chat").json(&body)).await.expect(200).value();
        assert_eq!(reply["reply"], format!("{ECHO}to {name}"));
    }
    let rows = |daemon: &Daemon| {
        ["conversations", "messages", "turns"].map(|table| daemon.count(&format!("SELECT count(*) FROM {table}")))
    };
    assert_eq!(rows(&daemon), [2, 4, 2]);

    daemon.purge("gone").await;

    assert_eq!(rows(&daemon), [1, 2, 1]);
    daemon.finish().await;
}
