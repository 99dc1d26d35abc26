//! Floods from both sides: memory stays bounded, and others are served.

use std::time::{Duration, Instant};

use agentbot_tests::{
    ChatClient, Daemon, EchoAgent, Ended, Got, RawFrame, RawSocket, ScriptedAgent, Setup, Shown, figure,
};
use agentbot_wire::{CHAT_PROTOCOL, Frame, Phase, TurnId, TurnStatus, event};
use futures_util::future::join_all;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);
const FLOOD: usize = 10_000;
const DEAF: usize = 100;
/// What a flood may cost the daemon for good, in KiB.
const ROOM: u64 = 64 * 1024;
/// What others may wait while somebody floods.
const SERVED: Duration = Duration::from_secs(2);

/// One round after another with a well-behaved agent until `flood` is over; gives the rounds and the longest.
async fn meanwhile(daemon: &Daemon, flood: impl Future<Output = ()>) -> (u32, Duration) {
    let mut client = daemon.chat().await;
    client.follow("good").await;
    let (mut rounds, mut longest) = (0, Duration::ZERO);
    let mut flood = std::pin::pin!(flood);
    loop {
        let begun = Instant::now();
        let over = {
            let mut round = std::pin::pin!(async {
                let sent = client.send("good", "main", "still there?").await;
                assert_eq!(client.done(&sent.turn).await.status, TurnStatus::Done);
            });
            tokio::select! {
                () = &mut flood => {
                    round.await;
                    true
                }
                () = &mut round => false,
            }
        };
        rounds += 1;
        longest = longest.max(begun.elapsed());
        if over {
            client.ledger.check();
            return (rounds, longest);
        }
    }
}

struct Scene {
    daemon: Daemon,
    agent: ScriptedAgent,
    _good: EchoAgent,
}

async fn scene() -> Scene {
    let daemon = Daemon::start(Setup::scripted().set("log.level", "\"info\"")).await;
    daemon.provision("good").await;
    let good = EchoAgent::at(&daemon, "good", 1, Duration::ZERO).await;
    daemon.wait_phase("good", Phase::Running, SOON).await;
    let (_, agent) = daemon.scripted("flooder").await;
    Scene { daemon, agent, _good: good }
}

fn delta(turn: &TurnId, text: &str, snapshot: bool) -> String {
    Frame::event(event::TURN_DELTA, json!({ "turn": turn, "text": text, "snapshot": snapshot })).to_text()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_floods_is_bounded_and_others_are_served() {
    let Scene { daemon, mut agent, _good } = scene().await;
    let socket = daemon.home().socket();
    let mut client = daemon.chat().await;
    client.follow("flooder").await;
    let before = daemon.resident();
    let stray: TurnId = "trn_01kak2m5v5e7qrf9v3n6m8t0zx".parse().expect("a turn");

    let mut came_back = 0;
    let flood = async {
        let sent = client.send("flooder", "main", "go").await;
        let run = agent.take().await;
        let speak = async {
            for number in 0..FLOOD {
                agent.say(delta(&run.turn, "x", false)).await;
                agent.say(delta(&stray, "of no turn", false)).await;
                agent.say(Frame::event("no.such.event", json!({ "number": number })).to_text()).await;
            }
            agent.done(&run.turn, &"x".repeat(FLOOD)).await;
        };
        // Whoever cannot keep up with it is let go, and comes back.
        let hear = async {
            while client.ledger.messages(&sent.conversation).len() < 2 {
                match client.next(SOON).await {
                    Ok(_) => {}
                    Err(Ended::Closed(4013, _)) => {
                        came_back += 1;
                        let seen = std::mem::take(&mut client.ledger);
                        client = ChatClient::resume(seen, &socket).await.expect("the daemon takes a client");
                        client.follow_on("flooder").await.expect("a subscription");
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
        };
        tokio::join!(hear, speak);
        assert_eq!(client.ledger.messages(&sent.conversation)[1].content.len(), FLOOD);
        client.ledger.check();
    };
    let (rounds, longest) = meanwhile(&daemon, flood).await;
    figure(format!(
        "{FLOOD} pieces and twice as many strays: the reader came back {came_back} times, {rounds} rounds of others, the longest {longest:?}"
    ));
    assert!(longest < SERVED, "{longest:?}");

    let flood = async {
        // Requests without waiting for an answer; each has one, were it that there are too many.
        let (mut asked, mut answered) = (0, 0);
        while asked < FLOOD {
            for _ in 0..100 {
                asked += 1;
                let params = if asked % 2 == 0 {
                    json!({ "conversation": "cnv_01kak2m5v5e7qrf9v3n6m8t0zx" })
                } else {
                    json!({ "key": format!("k{asked}"), "value": asked })
                };
                let method = if asked % 2 == 0 { "chat.history" } else { "memory.put" };
                agent.say(Frame::request(&format!("f{asked}"), method, params).to_text()).await;
            }
            answered += agent.answers(100).await;
        }
        assert_eq!(asked, answered);
    };
    let (rounds, longest) = meanwhile(&daemon, flood).await;
    figure(format!("{FLOOD} requests of an agent: {rounds} rounds of others, the longest {longest:?}"));
    assert!(longest < SERVED, "{longest:?}");

    let after = daemon.resident();
    figure(format!("resident before {before} KiB, after {after} KiB"));
    assert!(after < before + ROOM, "{before} KiB before, {after} KiB after");
    assert!(agent.is_linked(), "a flood of legal frames is no reason to cut the link");
    let log = daemon.log_since_start();
    assert!(log.len() < 256 * 1024, "a log of {} bytes", log.len());
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_clients_that_read_nothing_are_let_go_and_come_back_for_the_rest() {
    let Scene { daemon, mut agent, _good } = scene().await;
    let socket = daemon.home().socket();
    let subscribe =
        |id: &str, method: &str, params: Value| RawFrame::text(Frame::request(id, method, params).to_text());
    let mut deaf = Vec::new();
    for _ in 0..DEAF {
        let mut raw = RawSocket::unix(&socket, "/api/chat/ws", CHAT_PROTOCOL).await.expect("an upgrade");
        raw.send(&subscribe("1", "connect", json!({ "version": 1 }))).await;
        raw.send(&subscribe("2", "chat.subscribe", json!({ "agent": "flooder" }))).await;
        deaf.push(raw);
    }
    let mut reader = daemon.chat().await;
    reader.follow("flooder").await;
    let before = daemon.resident();
    let mut highest = before;

    let flood = async {
        let sent = reader.send("flooder", "main", "go").await;
        let run = agent.take().await;
        // A snapshot replaces what came before it: the only way to say more than a message holds.
        let text = "y".repeat(16 * 1024);
        let begun = Instant::now();
        let mut seen = 0;
        for number in 0..5_000_u32 {
            agent.say(delta(&run.turn, &text, true)).await;
            if number % 50 == 49 {
                highest = highest.max(daemon.resident());
                // The one that reads keeps up.
                while seen < number {
                    if let Shown::Delta(delta) = reader.next(SOON).await.expect("a piece") {
                        seen = u32::try_from(delta.index).expect("a small number");
                    }
                }
            }
        }
        agent.done(&run.turn, "enough").await;
        reader.done(&sent.turn).await;
        figure(format!("5000 pieces of 16 KiB to one reader and {DEAF} that do not read in {:?}", begun.elapsed()));
    };
    let (rounds, longest) = meanwhile(&daemon, flood).await;
    reader.ledger.check();
    figure(format!("{rounds} rounds of others, the longest {longest:?}; resident {before} KiB, at most {highest} KiB"));
    assert!(longest < SERVED, "{longest:?}");
    assert!(highest < before + ROOM, "{before} KiB before, {highest} KiB at most");

    let ends = join_all(deaf.iter_mut().map(|raw| raw.end(SOON))).await;
    let closed = ends.iter().filter(|end| matches!(end, Got::Close(Some(4013)))).count();
    let gone = ends.iter().filter(|end| matches!(end, Got::Cut)).count();
    figure(format!("{closed} closed with 4013, {gone} cut off"));
    assert_eq!(closed + gone, DEAF, "{ends:?}");

    // Whoever was let go has its cursors and misses nothing.
    let mut back = daemon.chat().await;
    back.follow_on("flooder").await.expect("a subscription");
    let texts = reader.ledger.all_messages();
    while back.ledger.all_messages().len() < texts.len() {
        back.next(SOON).await.expect("what was missed");
    }
    assert_eq!(back.ledger.all_messages(), texts);
    back.ledger.check();
    drop(deaf);
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_floods_is_stopped_and_others_are_served() {
    let Scene { daemon, agent, _good } = scene().await;
    let before = daemon.resident();
    let kinds: [(&str, String); 3] = [
        ("unknown methods", Frame::request("1", "no.such", Value::Null).to_text()),
        ("connects", Frame::request("1", "connect", json!({ "version": 1 })).to_text()),
        ("events", Frame::event("no.such", Value::Null).to_text()),
    ];
    let flood_of = async |what: &'static str, text: String| {
        let opened = RawSocket::unix(&daemon.home().socket(), "/api/chat/ws", CHAT_PROTOCOL).await;
        let mut raw = opened.expect("an upgrade");
        raw.send(&RawFrame::text(Frame::request("0", "connect", json!({ "version": 1 })).to_text())).await;
        let many: Vec<u8> = std::iter::repeat_n(RawFrame::text(text).bytes(), 1_000).flatten().collect();
        let mut sent = 0;
        // Nothing is read: answers wait in the socket until there is no more room.
        let send = async {
            while raw.send_bytes(&many).await {
                sent += 1_000;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), send).await;
        (what, sent, raw.end(Duration::from_secs(1)).await)
    };
    let mut ends = Vec::new();
    let flood = async { ends = join_all(kinds.map(|(what, text)| flood_of(what, text))).await };
    let (rounds, longest) = meanwhile(&daemon, flood).await;
    let after = daemon.resident();
    figure(format!("{ends:?}: {rounds} rounds of others, the longest {longest:?}; resident {before} to {after} KiB"));
    assert!(longest < SERVED, "{longest:?}");
    assert!(after < before + ROOM, "{before} KiB before, {after} KiB after");
    for end in &ends[..2] {
        // Operators have no rate limit: what holds them up is that nothing more is read until their answers are.
        assert!(matches!(end.2, Got::Nothing | Got::Close(Some(4013)) | Got::Cut), "{end:?}");
        assert!(end.1 < 100_000, "{end:?}");
    }
    assert!(matches!(ends[2].2, Got::Close(Some(1007)) | Got::Cut), "a client has no events: {:?}", ends[2]);
    let drops = daemon.status().await.drops;
    assert!(drops["client_unfit"] >= 1, "{drops:?}");
    drop(agent);
    daemon.finish().await;
}
