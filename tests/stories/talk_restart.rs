//! The daemon is restarted, by request and by force, while people talk.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use agentbot_tests::{ChatClient, Daemon, Ended, Ledger, Setup, figure};
use agentbot_wire::{ChatSend, ChatSent, Message, Phase, Sender, method};
use futures_util::future::join_all;

const AGENTS: [&str; 2] = ["one", "two"];
const TALKERS: usize = 3;
/// Between two questions of one talker: two talk to the same agent, whose model takes ten calls a second.
const BREATH: Duration = Duration::from_millis(250);
const UP: Duration = Duration::from_millis(1500);
const SOON: Duration = Duration::from_secs(60);
const A_WHILE: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(20);

/// Sends one message until it is acknowledged, over as many connections as it takes.
async fn insist(client: &mut Option<ChatClient>, socket: &Path, agent: &str, send: &ChatSend) -> ChatSent {
    let begun = Instant::now();
    let mut ledger = Ledger::default();
    loop {
        let attempt: Result<ChatSent, Ended> = async {
            if client.is_none() {
                let mut fresh = ChatClient::open(socket).await?;
                fresh.ledger = std::mem::take(&mut ledger);
                fresh.ledger.reconnected();
                client.insert(fresh).follow_on(agent).await?;
            }
            let open = client.as_mut().expect("a client");
            match open.ask(method::CHAT_SEND, send).await? {
                Ok(sent) => Ok(sent),
                // The daemon ends, and another one will take it.
                Err(refused) => Err(Ended::Broken(refused.to_string())),
            }
        }
        .await;
        match attempt {
            Ok(sent) => return sent,
            Err(ended) => {
                assert!(begun.elapsed() < SOON, "{ended:?}");
                if let Some(broken) = client.take() {
                    ledger = broken.cut();
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Questions of one talker that wait for an answer.
const OPEN: usize = 8;

/// Talks until told to stop; gives what was acknowledged and what was seen.
async fn talker(socket: PathBuf, number: usize, stop: &AtomicBool) -> (Vec<(ChatSent, String)>, Ledger) {
    let agent = AGENTS[number % AGENTS.len()];
    let (mut client, mut acknowledged) = (None, Vec::new());
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let text = format!("talker {number} message {count}");
        let send = ChatSend {
            agent: Some(agent.to_owned()),
            topic: Some(format!("talker {number}")),
            text: text.clone(),
            idempotency_key: Some(format!("{number}-{count}")),
            ..ChatSend::default()
        };
        let sent = insist(&mut client, &socket, agent, &send).await;
        let conversation = sent.conversation.clone();
        acknowledged.push((sent, text));
        count += 1;
        // More than so many questions at once nobody asks.
        while !stop.load(Ordering::Relaxed)
            && let Some(open) = client.as_mut()
            && count > open.ledger.ended(&conversation) + OPEN
        {
            if matches!(open.next(A_WHILE).await, Err(ended) if ended != Ended::Silent) {
                break;
            }
        }
        tokio::time::sleep(BREATH).await;
    }
    (acknowledged, client.map(ChatClient::cut).unwrap_or_default())
}

async fn restarts_under_load(restarts: u32) {
    let mut daemon = Daemon::start(Setup::new()).await;
    for name in AGENTS {
        daemon.provision(name).await;
    }
    let mut started = Vec::new();
    for name in AGENTS {
        daemon.wait_phase(name, Phase::Running, SOON).await;
        started.push(daemon.started_at(name).await);
    }
    let (socket, stop) = (daemon.home().socket(), AtomicBool::new(false));

    let disturb = async {
        let mut slowest = Duration::ZERO;
        for round in 0..restarts {
            tokio::time::sleep(UP).await;
            if round % 2 == 0 {
                daemon.kill9().await;
            } else {
                assert!(daemon.sigterm().await.status.success());
            }
            let begun = Instant::now();
            daemon.restart().await;
            for name in AGENTS {
                daemon.wait_agent(name, "link", SOON, |view| view.health.link).await;
            }
            slowest = slowest.max(begun.elapsed());
        }
        tokio::time::sleep(UP).await;
        stop.store(true, Ordering::Relaxed);
        slowest
    };
    let talkers = join_all((0..TALKERS).map(|number| talker(socket.clone(), number, &stop)));
    let (slowest, talked) = tokio::join!(disturb, talkers);

    let (mut messages, mut answers, mut seen) = (0, 0, 0);
    for (number, (acknowledged, ledger)) in talked.into_iter().enumerate() {
        let agent = AGENTS[number % AGENTS.len()];
        let conversation = acknowledged.last().expect("something was sent").0.conversation.clone();
        let mut client = ChatClient::resume(ledger, &socket).await.expect("the daemon takes a client");
        client.follow_on(agent).await.expect("a subscription");
        // Every turn ends, and with it every message has its answer or the reason why it has none.
        let stored = wait_for_answers(&mut client, &conversation, acknowledged.len()).await;
        assert!(stored.iter().enumerate().all(|(at, message)| message.seq == at as u64 + 1), "numbered without gaps");
        let said: Vec<(&str, u64)> = stored
            .iter()
            .filter(|message| message.sender == Sender::User)
            .map(|message| (message.content.as_str(), message.seq))
            .collect();
        let wanted: Vec<(&str, u64)> = acknowledged.iter().map(|(sent, text)| (text.as_str(), sent.seq)).collect();
        assert_eq!(said, wanted, "each acknowledged message once, in its place");
        let mut turns = BTreeSet::new();
        for message in stored.iter().filter(|message| message.sender != Sender::User) {
            let turn = message.turn.clone().expect("an answer names its turn");
            assert!(turns.insert((turn, message.sender.to_string())), "answered twice: {message:?}");
            answers += u32::from(message.sender == Sender::Agent);
            if message.sender == Sender::System {
                figure(format!("{agent} gave no answer to {:?}: {}", message.turn, message.content));
            }
        }
        client.ledger.check();
        let unanswered = stored.iter().filter(|message| message.sender == Sender::System).count();
        assert_eq!(unanswered, 0, "an agent that goes on answers everything");
        messages += acknowledged.len();
        seen += client.ledger.all_messages().len();
    }
    for (name, before) in AGENTS.iter().zip(started) {
        assert_eq!(daemon.started_at(name).await, before, "{name} was left alone");
    }
    figure(format!(
        "{restarts} restarts: {messages} messages sent, {answers} answered by agents, {seen} shown; \
         exec to all links back at most {slowest:?}"
    ));
    daemon.finish().await;
}

async fn wait_for_answers(
    client: &mut ChatClient,
    conversation: &agentbot_wire::ConversationId,
    asked: usize,
) -> Vec<Message> {
    let begun = Instant::now();
    loop {
        let stored = client.history(conversation).await;
        let ended: BTreeSet<_> = stored
            .iter()
            .filter(|message| message.sender != Sender::User)
            .filter_map(|message| message.turn.clone())
            .collect();
        if ended.len() >= asked && client.ledger.messages(conversation).len() >= stored.len() {
            return stored;
        }
        assert!(begun.elapsed() < SOON, "{} of {asked} turns have ended", ended.len());
        let _ = client.next(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_restarts_under_load_lose_and_double_nothing() {
    restarts_under_load(5).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: two minutes"]
async fn twenty_restarts_under_load_lose_and_double_nothing() {
    restarts_under_load(20).await;
}
