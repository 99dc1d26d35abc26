//! A conversation: stored before it is acknowledged, answered, the same for everybody who looks.

use std::time::{Duration, Instant};

use agentbot_tests::{Call, Daemon, ECHO, EchoAgent, Setup, Shown, figure, told};
use agentbot_wire::{
    ChatLog, ChatReply, ChatSend, ConversationList, Message, MessageList, Platform, Sender, TurnStatus,
};
use futures_util::future::join_all;
use serde_json::json;

const AT_ONCE: Duration = Duration::from_millis(500);

/// What people read of a message.
fn line(message: &Message) -> (u64, Sender, String) {
    (message.seq, message.sender, message.content.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_answered_and_two_clients_see_the_same() {
    let daemon = Daemon::start(Setup::scripted()).await;
    let (view, mut agent) = daemon.scripted("helper").await;
    let (mut one, mut two) = (daemon.chat().await, daemon.chat().await);
    one.follow("helper").await;
    two.follow(view.id.as_str()).await;

    let sent = one.send("helper", "main", "how are you?").await;
    let run = agent.take().await;
    for piece in ["I am ", "well, ", "thank you"] {
        agent.delta(&run.turn, piece).await;
    }
    agent.done(&run.turn, "I am well, thank you.").await;

    assert_eq!((run.turn.clone(), run.attempt, run.message.content.as_str()), (sent.turn.clone(), 1, "how are you?"));
    for client in [&mut one, &mut two] {
        let done = client.done(&sent.turn).await;
        assert_eq!((done.status, done.last_seq, done.error), (TurnStatus::Done, 2, None));
        assert_eq!(client.ledger.text(&sent.turn), "I am well, thank you");
        let seen: Vec<_> = client.ledger.messages(&sent.conversation).iter().map(line).collect();
        let wanted =
            [(1, Sender::User, "how are you?".to_owned()), (2, Sender::Agent, "I am well, thank you.".to_owned())];
        assert_eq!(seen, wanted);
        client.ledger.check();
    }
    assert_eq!(one.ledger.messages(&sent.conversation), two.ledger.messages(&sent.conversation));
    assert_eq!(two.history(&sent.conversation).await, one.ledger.messages(&sent.conversation));
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn post_plain_and_streamed_tells_what_the_socket_tells() {
    let daemon = Daemon::start(Setup::scripted()).await;
    daemon.provision("helper").await;
    let _echo = EchoAgent::at(&daemon, "helper", 3, Duration::ZERO).await;
    let mut socket = daemon.chat().await;
    socket.follow("helper").await;

    let plain: ChatReply =
        daemon.call(Call::post("/api/chat").json(&json!({ "message": "plain" }))).await.expect(200).json();
    let body = json!({ "message": "streamed", "topic": "main", "agentId": "helper" });
    let call = Call::post("/api/chat").json(&body).header("accept", "text/event-stream");
    let streamed = daemon.call(call).await.expect(200);

    assert_eq!((plain.reply.as_str(), plain.status.as_str()), (format!("{ECHO}plain").as_str(), "sent"));
    assert_eq!((plain.topic.as_str(), plain.seq), ("main", 2));
    assert!(streamed.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")), "{streamed}");
    let told = told(&streamed.body);
    let names: Vec<&str> = told.iter().map(|told| told.event.as_str()).collect();
    assert_eq!(names.first(), Some(&"chat.message"), "{names:?}");
    assert_eq!(names.last(), Some(&"chat.done"), "{names:?}");
    let stored: Vec<&str> =
        told.iter().filter(|told| told.event == "chat.message").filter_map(|told| told.id.as_deref()).collect();
    assert_eq!(stored, ["3", "4"]);
    let pieces: String = told
        .iter()
        .filter(|told| told.event == "chat.delta")
        .map(|told| told.data["text"].as_str().expect("a piece of text"))
        .collect();
    assert_eq!(pieces, format!("{ECHO}streamed"));

    let last = told.last().and_then(|told| told.data["turn"].as_str()).expect("chat.done names its turn").to_owned();
    socket.done(&last.parse().expect("a turn")).await;
    socket.ledger.check();
    let seen = socket.ledger.messages(&plain.conversation);
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().filter(|message| message.sender == Sender::User).all(|sent| sent.platform == Platform::Http));
    let log: ChatLog = daemon.get("/api/chat?agentId=helper").await.expect(200).json();
    assert_eq!((log.messages, log.count), (seen.clone(), 4));
    let list: MessageList = daemon.get("/api/agents/helper/messages?limit=3&offset=1").await.expect(200).json();
    let newest_first: Vec<Message> = seen.into_iter().rev().skip(1).take(3).collect();
    assert_eq!((list.messages, list.total, list.limit, list.offset), (newest_first, 4, 3, 1));
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_name_conversations_and_each_counts_for_itself() {
    let daemon = Daemon::start(Setup::scripted()).await;
    daemon.provision("helper").await;
    let _echo = EchoAgent::at(&daemon, "helper", 1, Duration::ZERO).await;
    let mut client = daemon.chat().await;
    client.follow("helper").await;

    let first = client.send("helper", "work", "one").await;
    client.done(&first.turn).await;
    let second = client.send("helper", "play", "two").await;
    client.done(&second.turn).await;
    let third = client.send("helper", "work", "three").await;
    client.done(&third.turn).await;

    assert_eq!(first.conversation, third.conversation);
    assert_ne!(first.conversation, second.conversation);
    assert_eq!((first.seq, second.seq, third.seq), (1, 1, 3));
    client.ledger.check();
    let list: ConversationList = daemon.get("/api/conversations?agentId=helper").await.expect(200).json();
    let topics: Vec<(&str, u64)> = list.conversations.iter().map(|view| (view.topic.as_str(), view.seq)).collect();
    assert_eq!(topics, [("work", 4), ("play", 2)], "most recently used first");
    let by_id =
        ChatSend { conversation: Some(second.conversation.clone()), text: "four".to_owned(), ..ChatSend::default() };
    assert_eq!(client.send_as(&by_id).await.seq, 3);
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_sends_once_in_parallel_and_after_a_restart() {
    let mut daemon = Daemon::start(Setup::scripted()).await;
    daemon.provision("helper").await;
    let _echo = EchoAgent::at(&daemon, "helper", 1, Duration::ZERO).await;
    let send = ChatSend {
        agent: Some("helper".to_owned()),
        text: "only once".to_owned(),
        idempotency_key: Some("key-1".to_owned()),
        ..ChatSend::default()
    };

    let at_once = join_all((0..16).map(async |_| daemon.chat().await.send_as(&send).await)).await;
    daemon.kill9().await;
    daemon.restart().await;
    let mut client = daemon.chat().await;
    let after = client.send_as(&send).await;

    assert!(at_once.iter().all(|sent| *sent == after), "{at_once:?} and {after:?}");
    let said: Vec<Message> = client.history(&after.conversation).await;
    assert_eq!(said.iter().filter(|message| message.sender == Sender::User).count(), 1, "{said:?}");
    let other = ChatSend { text: "another text".to_owned(), ..send };
    let refused = client.ask::<serde_json::Value>("chat.send", &other).await.expect("an open connection");
    assert_eq!(refused.expect_err("another text under the same key").code, agentbot_wire::Code::IdempotencyMismatch);
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_aborted_at_once_whatever_the_agent_does() {
    let daemon = Daemon::start(Setup::scripted()).await;
    let (_, mut agent) = daemon.scripted("helper").await;
    let mut client = daemon.chat().await;
    client.follow("helper").await;
    let mut times = Vec::new();

    for round in 0..5 {
        let sent = client.send("helper", "main", &format!("round {round}")).await;
        let run = agent.take().await;
        agent.delta(&run.turn, "a beginning").await;
        client.until("the first piece", |shown| matches!(shown, Shown::Delta(_)).then_some(())).await;
        let begun = Instant::now();
        client.abort(&sent.turn).await;
        let done = client.done(&sent.turn).await;
        times.push(begun.elapsed());

        assert_eq!(done.status, TurnStatus::Cancelled);
        agent.cancelled(&sent.turn).await;
        // What it says now is too late, and changes nothing.
        agent.delta(&run.turn, "more").await;
        agent.done(&run.turn, "a whole answer").await;
        let said = client.history(&sent.conversation).await;
        let last: Vec<Sender> = said.iter().rev().take(2).rev().map(|message| message.sender).collect();
        assert_eq!(last, [Sender::Agent, Sender::System], "the beginning is kept, and why it ends there: {said:?}");
        assert_eq!(said.iter().rev().nth(1).map(|message| message.content.as_str()), Some("a beginning"));
    }

    times.sort();
    figure(format!("abort to chat.done: median {:?}, longest {:?}", times[2], times[4]));
    assert!(times[2] < Duration::from_millis(200) && times[4] < AT_ONCE, "{times:?}");
    client.ledger.check();
    daemon.finish().await;
}
