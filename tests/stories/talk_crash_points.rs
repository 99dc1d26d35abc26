//! `kill -9` of the daemon at each border of the store's part in a turn: what was sent is there once and is answered once.

use std::time::Duration;

use agentbot_tests::{ChatClient, Daemon, ECHO, EchoAgent, Setup};
use agentbot_wire::{ChatSend, Message, Phase, Sender, TurnStatus, method};

const SOON: Duration = Duration::from_secs(60);
const POINTS: [&str; 7] = [
    "chat.send.before",
    "chat.send.after",
    "chat.offer.before",
    "chat.offer.after",
    "chat.take.after",
    "chat.end.before",
    "chat.end.after",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_death_at_any_point_of_a_turn_loses_and_doubles_nothing() {
    let mut daemon = Daemon::start(Setup::scripted()).await;
    daemon.provision("helper").await;
    let echo = EchoAgent::at(&daemon, "helper", 3, Duration::ZERO).await;
    daemon.wait_phase("helper", Phase::Running, SOON).await;
    let socket = daemon.home().socket();
    for point in POINTS {
        daemon.kill9().await;
        daemon.restart_with(|setup| setup.fail_at(point)).await;
        daemon.wait_agent("helper", "link", SOON, |view| view.health.link).await;
        let send = ChatSend {
            agent: Some("helper".to_owned()),
            topic: Some(point.to_owned()),
            text: format!("at {point}"),
            idempotency_key: Some(point.to_owned()),
            ..ChatSend::default()
        };

        let mut client = ChatClient::open(&socket).await.expect("the daemon takes a client");
        client.follow("helper").await;
        // Whether it is acknowledged before the end is up to the point.
        let first = client.begin(method::CHAT_SEND, &send).await.expect("an open connection");
        let acknowledged = client.answer(&first).await;
        daemon.died_at(point).await;
        daemon.restart_with(Setup::without_faults).await;
        let mut client = ChatClient::resume(client.cut(), &socket).await.expect("the daemon takes a client");
        let subscribed = client.follow_on("helper").await.expect("a subscription");
        if let Ok(reply) = &acknowledged {
            assert!(!point.starts_with("chat.send"), "{reply:?} before {point}");
        }
        let sent = client.send_as(&send).await;
        if subscribed.turns.iter().any(|view| view.turn == sent.turn) || point == "chat.send.before" {
            assert_eq!(client.done(&sent.turn).await.status, TurnStatus::Done, "{point}");
        }

        let stored: Vec<Message> = client.history(&sent.conversation).await;
        let said: Vec<(Sender, String)> = stored.into_iter().map(|message| (message.sender, message.content)).collect();
        let wanted = [(Sender::User, format!("at {point}")), (Sender::Agent, format!("{ECHO}at {point}"))];
        assert_eq!(said, wanted, "{point}");
        client.ledger.check();
    }
    drop(echo);
    daemon.finish().await;
}
