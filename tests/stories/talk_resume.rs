//! A client that is cut off misses nothing and sees nothing twice.

use std::path::Path;
use std::time::Duration;

use agentbot_tests::{ChatClient, Daemon, EchoAgent, Ended, Ledger, Setup, Shown, figure};
use agentbot_wire::{Bye, ConversationId, Message};
use futures_util::future::join_all;

const CUTS: u32 = 200;
const TOPICS: usize = 3;
/// The longest life of a connection before it is cut.
const LONGEST: u64 = 40;
const SOON: Duration = Duration::from_secs(30);

/// Moments that look like chance and are the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Follows an agent, cut off at so many moments, and gives what was seen.
async fn restless(socket: &Path, cuts: u32, seed: u64) -> Ledger {
    let (mut chance, mut ledger) = (Chance(seed), Ledger::default());
    for _ in 0..cuts {
        let mut client = ChatClient::resume(ledger, socket).await.expect("the daemon takes a client");
        let life = Duration::from_millis(chance.below(LONGEST));
        // The cut may fall into the middle of anything, also of the answer to the subscription.
        let watched = async {
            client.follow_on("helper").await?;
            loop {
                client.next(SOON).await?;
            }
        };
        let cut: Result<Result<(), Ended>, _> = tokio::time::timeout(life, watched).await;
        assert!(cut.is_err(), "the daemon ended the connection: {cut:?}");
        ledger = client.cut();
    }
    ledger
}

/// Comes back once more and takes what is left, up to this many messages.
async fn rest(ledger: Ledger, socket: &Path, conversations: &[ConversationId], each: usize) -> Ledger {
    let mut client = ChatClient::resume(ledger, socket).await.expect("the daemon takes a client");
    client.follow_on("helper").await.expect("a subscription");
    while conversations.iter().any(|conversation| client.ledger.messages(conversation).len() < each) {
        client.next(SOON).await.expect("what is left");
    }
    client.cut()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_cut_at_two_hundred_moments_misses_nothing_and_sees_nothing_twice() {
    let daemon = Daemon::start(Setup::scripted()).await;
    daemon.provision("helper").await;
    let _echo = EchoAgent::at(&daemon, "helper", 10, Duration::from_millis(2)).await;
    let socket = daemon.home().socket();
    let watch = async {
        let halves = [restless(&socket, CUTS / 2, 1), restless(&socket, CUTS / 2, 2)];
        join_all(halves).await
    };

    // The others talk until the restless ones have been cut often enough.
    let talk = async |topic: usize| {
        let mut client = daemon.chat().await;
        client.follow("helper").await;
        let (mut said, mut conversation) = (0, None);
        loop {
            let text = format!("message {said} of a conversation that is watched by somebody restless");
            let sent = client.send("helper", &format!("topic {topic}"), &text).await;
            client.done(&sent.turn).await;
            said += 1;
            conversation.replace(sent.conversation);
            tokio::task::yield_now().await;
            if STOP.load(std::sync::atomic::Ordering::Relaxed) {
                client.ledger.check();
                return (conversation.expect("a conversation"), said, client);
            }
        }
    };
    static STOP: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    let watch = async {
        let ledgers = watch.await;
        STOP.store(true, std::sync::atomic::Ordering::Relaxed);
        ledgers
    };
    let (talked, ledgers) = tokio::join!(join_all((0..TOPICS).map(talk)), watch);

    let mut deltas = 0;
    for ledger in ledgers {
        let mut ledger = ledger;
        for (conversation, said, _) in &talked {
            ledger = rest(ledger, &socket, std::slice::from_ref(conversation), said * 2).await;
        }
        ledger.check();
        deltas += ledger.deltas();
        for (conversation, said, _) in &talked {
            let stored: Vec<Message> = daemon.chat().await.history(conversation).await;
            assert_eq!(stored.len(), said * 2);
            assert_eq!(ledger.messages(conversation), stored);
        }
    }
    let said: usize = talked.iter().map(|(_, said, _)| said).sum();
    figure(format!("{said} messages answered while {CUTS} connections were cut; {deltas} pieces seen by those"));
    assert!(deltas > 0, "it was streamed while they looked");
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_late_sees_the_answer_so_far_and_the_rest() {
    let daemon = Daemon::start(Setup::scripted()).await;
    let (_, mut agent) = daemon.scripted("helper").await;
    let mut first = daemon.chat().await;
    first.follow("helper").await;
    let sent = first.send("helper", "main", "tell me a story").await;
    let run = agent.take().await;
    for piece in ["Once ", "upon ", "a "] {
        agent.delta(&run.turn, piece).await;
    }
    for _ in 0..3 {
        first.until("a piece", |shown| matches!(shown, Shown::Delta(_)).then_some(())).await;
    }

    let mut late = daemon.chat().await;
    let subscribed = late.follow_one(&sent.conversation, Some(0)).await;
    agent.delta(&run.turn, "time").await;
    agent.done(&run.turn, "Once upon a time").await;

    assert_eq!(subscribed.turns.iter().map(|view| &view.turn).collect::<Vec<_>>(), [&sent.turn]);
    for client in [&mut first, &mut late] {
        client.done(&sent.turn).await;
        client.ledger.check();
        assert_eq!(client.ledger.text(&sent.turn), "Once upon a time");
        assert_eq!(client.ledger.messages(&sent.conversation).len(), 2);
    }
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_ends_says_bye_with_cursors_and_a_client_goes_on_from_there() {
    let mut daemon = Daemon::start(Setup::scripted()).await;
    daemon.provision("helper").await;
    let _echo = EchoAgent::at(&daemon, "helper", 2, Duration::ZERO).await;
    let mut client = daemon.chat().await;
    client.follow("helper").await;
    let sent = client.send("helper", "main", "before").await;
    client.done(&sent.turn).await;

    let (exited, (bye, ended)) = tokio::join!(daemon.sigterm(), client.end(SOON));

    assert!(exited.status.success(), "{exited:?}");
    let Some(Bye { cursors, reason }) = bye else { panic!("no bye before {ended:?}") };
    assert!(!reason.is_empty());
    assert_eq!(cursors, client.ledger.cursors());
    assert!(matches!(ended, Ended::Closed(1001, _)), "{ended:?}");
    daemon.restart().await;
    let mut client = ChatClient::resume(client.cut(), &daemon.home().socket()).await.expect("it serves again");
    client.follow_on("helper").await.expect("a subscription");
    let sent = client.send("helper", "main", "after").await;
    client.done(&sent.turn).await;
    client.ledger.check();
    assert_eq!(client.ledger.messages(&sent.conversation).len(), 4);
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_ahead_of_the_conversation_is_refused() {
    let daemon = Daemon::start(Setup::scripted()).await;
    daemon.provision("helper").await;
    let _echo = EchoAgent::at(&daemon, "helper", 1, Duration::ZERO).await;
    let mut client = daemon.chat().await;
    client.follow("helper").await;
    let sent = client.send("helper", "main", "one").await;
    client.done(&sent.turn).await;

    for (after, fits) in [(2, true), (3, false), (u64::MAX, false)] {
        let params = serde_json::json!({ "conversation": sent.conversation, "after_seq": after });
        let reply = daemon.chat().await.ask::<serde_json::Value>("chat.subscribe", &params).await;
        assert_eq!(reply.expect("an open connection").is_ok(), fits, "after_seq {after}");
    }
    daemon.finish().await;
}
