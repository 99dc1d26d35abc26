//! Agents that do not keep to the protocol: each harms its own turns and nobody else.

use std::time::{Duration, Instant};

use agentbot_tests::{Daemon, ScriptedAgent, Setup, Shown};
use agentbot_wire::{Code, MAX_MESSAGE, Message, Sender, TurnStatus};
use serde_json::json;

const A_WHILE: Duration = Duration::from_millis(500);

async fn last_two(client: &mut agentbot_tests::ChatClient, of: &agentbot_wire::ChatSent) -> Vec<Message> {
    let mut said = client.history(&of.conversation).await;
    said.split_off(said.len().saturating_sub(2))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_never_takes_a_turn_or_hangs_on_it_loses_it_in_time() {
    let setup = Setup::scripted().set("chat.ack_timeout", "\"1s\"").set("chat.turn_idle", "\"1s\"");
    let daemon = Daemon::start(setup).await;
    let (_, mut agent) = daemon.scripted("helper").await;
    let mut client = daemon.chat().await;
    client.follow("helper").await;

    let begun = Instant::now();
    let ignored = client.send("helper", "main", "ignore this").await;
    let waits = client.send("helper", "main", "and then this").await;
    agent.turn().await;
    let done = client.done(&ignored.turn).await;
    assert_eq!(done.status, TurnStatus::Failed);
    assert_eq!(done.error.as_ref().map(|error| error.code), Some(Code::AgentUnresponsive), "{done:?}");
    assert!(done.error.and_then(|error| error.hint).is_some());
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    agent.cancelled(&ignored.turn).await;

    let begun = Instant::now();
    let run = agent.take().await;
    assert_eq!(run.turn, waits.turn, "what waited comes next");
    agent.delta(&run.turn, "a beginning, and then nothing").await;
    let done = client.done(&run.turn).await;
    assert_eq!(done.status, TurnStatus::Failed);
    assert!(matches!(done.error.as_ref().map(|error| error.code), Some(Code::TimedOut)));
    assert!((Duration::from_secs(1)..Duration::from_secs(4)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    agent.cancelled(&run.turn).await;
    let said = last_two(&mut client, &ignored).await;
    assert_eq!((said[0].sender, said[0].content.as_str()), (Sender::Agent, "a beginning, and then nothing"));
    assert_eq!(said[1].sender, Sender::System);

    // Whoever shows from time to time that it works is not given up.
    let slow = client.send("helper", "main", "slowly").await;
    let run = agent.take().await;
    for _ in 0..6 {
        tokio::time::sleep(A_WHILE).await;
        agent.delta(&run.turn, ".").await;
    }
    agent.done(&run.turn, "......").await;
    assert_eq!(client.done(&slow.turn).await.status, TurnStatus::Done);
    client.ledger.check();
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_answer_and_pieces_after_the_end_are_dropped() {
    let daemon = Daemon::start(Setup::scripted()).await;
    let (_, mut agent) = daemon.scripted("helper").await;
    let mut client = daemon.chat().await;
    client.follow("helper").await;

    let sent = client.send("helper", "main", "one").await;
    let run = agent.take().await;
    agent.done(&run.turn, "first").await;
    agent.done(&run.turn, "second").await;
    agent.failed(&run.turn, "model_failed", "third").await;
    agent.delta(&run.turn, "fourth").await;
    agent.tool(&run.turn, "fifth").await;
    agent.ack(&run.turn).await;
    client.done(&sent.turn).await;
    let next = client.send("helper", "main", "two").await;
    let run = agent.take().await;
    agent.done(&run.turn, "the other").await;

    let mut late = Vec::new();
    loop {
        match client.next(Duration::from_secs(10)).await.expect("the end of the second turn") {
            Shown::Done(done) if done.turn == next.turn => break,
            shown @ (Shown::Delta(_) | Shown::Tool(_) | Shown::Done(_)) => late.push(shown),
            _ => {}
        }
    }
    assert_eq!(late, [], "nothing of an ended turn is shown");
    let texts: Vec<String> =
        client.history(&sent.conversation).await.into_iter().map(|message| message.content).collect();
    assert_eq!(texts, ["one", "first", "two", "the other"]);
    client.ledger.check();
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_cannot_touch_a_turn_or_conversation_of_another() {
    let daemon = Daemon::start(Setup::scripted()).await;
    let (_, mut own) = daemon.scripted("own").await;
    let (_, mut stranger) = daemon.scripted("stranger").await;
    let mut client = daemon.chat().await;
    client.follow("own").await;
    client.follow("stranger").await;

    let sent = client.send("own", "main", "for own").await;
    let run = own.take().await;
    stranger.delta(&run.turn, "not mine").await;
    stranger.tool(&run.turn, "not mine").await;
    stranger.snapshot(&run.turn, "not mine").await;
    stranger.failed(&run.turn, "cancelled", "not mine").await;
    stranger.done(&run.turn, "not mine").await;
    let read = stranger.ask("chat.history", json!({ "conversation": sent.conversation })).await;
    assert_eq!(read.expect_err("another agent's conversation").code, Code::NotFound);
    let unknown = json!({ "conversation": "cnv_01kak2m5v5e7qrf9v3n6m8t0zx" });
    let missing = stranger.ask("chat.history", unknown).await.expect_err("no such conversation");
    assert_eq!(missing.code, Code::NotFound, "foreign is like missing");
    own.delta(&run.turn, "mine").await;
    own.done(&run.turn, "mine").await;

    assert_eq!(client.done(&sent.turn).await.status, TurnStatus::Done);
    assert_eq!(client.ledger.text(&sent.turn), "mine");
    let texts: Vec<String> =
        client.history(&sent.conversation).await.into_iter().map(|message| message.content).collect();
    assert_eq!(texts, ["for own", "mine"]);
    let read = own.ask("chat.history", json!({ "conversation": sent.conversation, "limit": 10 })).await;
    assert_eq!(read.expect("its own conversation")["messages"].as_array().map(Vec::len), Some(2));
    daemon.finish().await;
}

/// One answer of pieces and an end, and how it ended.
async fn answer(
    client: &mut agentbot_tests::ChatClient,
    agent: &mut ScriptedAgent,
    pieces: &[usize],
    end: Option<usize>,
) -> (agentbot_wire::ChatDone, Vec<Message>) {
    let sent = client.send("helper", "main", "go").await;
    let run = agent.take().await;
    for piece in pieces {
        agent.delta(&run.turn, &"a".repeat(*piece)).await;
    }
    if let Some(end) = end {
        agent.done(&run.turn, &"a".repeat(end)).await;
    }
    (client.done(&sent.turn).await, last_two(client, &sent).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_has_as_many_bytes_as_a_message_and_not_one_more() {
    let daemon = Daemon::start(Setup::scripted()).await;
    let (_, mut agent) = daemon.scripted("helper").await;
    let mut client = daemon.chat().await;
    client.follow("helper").await;
    let half = MAX_MESSAGE / 2;

    let (done, said) = answer(&mut client, &mut agent, &[half, half], Some(MAX_MESSAGE)).await;
    assert_eq!((done.status, said[1].content.len()), (TurnStatus::Done, MAX_MESSAGE));

    for (pieces, end) in [(vec![half, half, 1], None), (vec![], Some(MAX_MESSAGE + 1)), (vec![MAX_MESSAGE + 1], None)] {
        let (done, said) = answer(&mut client, &mut agent, &pieces, end).await;
        assert_eq!(done.status, TurnStatus::Failed, "{pieces:?} {end:?}");
        assert_eq!(done.error.as_ref().map(|error| error.code), Some(Code::TooLarge), "{done:?}");
        assert_eq!((said[0].sender, said[0].content.len()), (Sender::Agent, MAX_MESSAGE), "what fits is kept");
        assert_eq!(said[1].sender, Sender::System);
    }
    client.ledger.check();
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_control_characters_reach_nobody_and_other_letters_do() {
    let daemon = Daemon::start(Setup::scripted()).await;
    let (_, mut agent) = daemon.scripted("helper").await;
    let mut client = daemon.chat().await;
    client.follow("helper").await;
    let wild = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\0\rred\u{7f}\n\tשלום \u{202e}drow 🦀";
    let tame = "]0;owned[2J31mred\n\tשלום \u{202e}drow 🦀";

    let sent = client.send("helper", "main", "go").await;
    let run = agent.take().await;
    agent.delta(&run.turn, wild).await;
    agent.tool(&run.turn, "\u{1b}[31mfiles\r").await;
    agent.done(&run.turn, wild).await;
    let tool = client
        .until("the tool", |shown| if let Shown::Tool(tool) = shown { Some(tool.call.name.clone()) } else { None })
        .await;
    client.done(&sent.turn).await;
    let failing = client.send("helper", "main", "go").await;
    let run = agent.take().await;
    agent.failed(&run.turn, "storage_full", "\u{1b}[31mno\r").await;
    let failed = client.done(&failing.turn).await;

    assert_eq!(client.ledger.text(&sent.turn), tame);
    assert_eq!(client.ledger.messages(&sent.conversation)[1].content, tame);
    assert!(!tool.chars().any(char::is_control), "{tool:?}");
    let error = failed.error.expect("why");
    assert!(!error.message.chars().any(char::is_control), "{error:?}");
    assert_eq!(error.code, Code::AgentFailed, "an agent does not speak for the daemon");
    for message in client.ledger.messages(&sent.conversation) {
        assert!(!message.content.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{message:?}");
    }
    daemon.finish().await;
}
