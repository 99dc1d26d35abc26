//! Rows 10 and 11: what the daemon adds to a bare WebSocket echo, and what an idle connection costs.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use agentbot_tests::{Daemon, Home, Seat, Setup};
use agentbot_wire::{CHAT_PROTOCOL, ChatSend, ChatSent, Frame, Phase, TurnId, method};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::figures::{PAIRS, Pairs, Table, Target, median};
use crate::partners::{BURST, PACED, Partner, client, clock_us, text};

const AGENTS: usize = 25;
/// Conversations of one agent that run at once.
const EACH: usize = 4;
const IDLE: usize = 1_000;
const ROUNDS: usize = 100;
/// Pieces that come without a pause: fewer than the daemon holds for a client that does not read at once.
const PIECES: usize = 200;
const BURSTS: usize = 20;
/// Bytes of a piece's frame.
const PIECE_FRAME: usize = 230;
const PACED_PIECES: usize = 300;
const SPAN: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(60);
const KB: f64 = 1.024;

/// What these rows look at of a frame.
#[derive(Deserialize)]
struct Seen {
    #[serde(default)]
    event: Option<String>,
    #[serde(default)]
    payload: Value,
    #[serde(default)]
    error: Option<Value>,
}

/// A chat client with nothing in its way.
struct Talker {
    socket: WebSocketStream<UnixStream>,
    agent: String,
    topic: String,
    next: u64,
    /// Events that came before the answer that was waited for.
    early: VecDeque<Seen>,
}

impl Talker {
    async fn open(socket: &Path, agent: &str, topic: &str) -> Self {
        let socket = client(socket, "/api/chat/ws", CHAT_PROTOCOL, &[]).await;
        let mut talker =
            Self { socket, agent: agent.to_owned(), topic: topic.to_owned(), next: 0, early: VecDeque::new() };
        talker.ask(method::CONNECT, json!({ "version": 1, "client": "bench" })).await;
        talker.ask(method::CHAT_SUBSCRIBE, json!({ "agent": agent })).await;
        talker
    }

    async fn begin(&mut self, method: &str, params: Value) {
        self.next += 1;
        let frame = Frame::request(&self.next.to_string(), method, params).to_text();
        self.socket.send(Message::text(frame)).await.expect("the connection stands");
    }

    async fn frame(&mut self) -> Seen {
        loop {
            if let Some(text) = text(self.socket.next().await) {
                return serde_json::from_str(&text).expect("a frame");
            }
        }
    }

    async fn answer(&mut self) -> Value {
        loop {
            let frame = self.frame().await;
            assert!(frame.error.is_none(), "{:?}", frame.error);
            if frame.event.is_none() {
                return frame.payload;
            }
            self.early.push_back(frame);
        }
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.begin(method, params).await;
        self.answer().await
    }

    /// One message and its stored answer: microseconds to the ack and to the end.
    async fn round(&mut self, said: &str) -> (f64, f64) {
        let begun = Instant::now();
        let turn = self.send(said).await;
        let acknowledged = us(begun.elapsed());
        self.until_done(&turn, |_| {}).await;
        (acknowledged, us(begun.elapsed()))
    }

    async fn send(&mut self, said: &str) -> TurnId {
        let (agent, topic) = (Some(self.agent.clone()), Some(self.topic.clone()));
        let send = ChatSend { agent, topic, text: said.to_owned(), ..ChatSend::default() };
        let sent = self.ask(method::CHAT_SEND, serde_json::to_value(send).expect("plain data")).await;
        serde_json::from_value::<ChatSent>(sent).expect("the shape of chat.send").turn
    }

    async fn until_done(&mut self, turn: &TurnId, mut piece: impl FnMut(&Value)) {
        loop {
            let frame = match self.early.pop_front() {
                Some(frame) => frame,
                None => self.frame().await,
            };
            match frame.event.as_deref() {
                Some("chat.delta") => piece(&frame.payload),
                Some("chat.done") if frame.payload["turn"] == turn.as_str() => {
                    assert_eq!(frame.payload["status"], "done", "{}", frame.payload);
                    return;
                }
                _ => {}
            }
        }
    }
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The yardstick: a bare echo over the same kind of socket.
struct Echo {
    socket: WebSocketStream<UnixStream>,
}

impl Echo {
    async fn open(socket: &Path) -> Self {
        Self { socket: client(socket, "/", agentbot_wire::AGENT_PROTOCOL, &[]).await }
    }

    async fn round(&mut self, said: &str) -> f64 {
        let begun = Instant::now();
        self.socket.send(Message::text(said)).await.expect("the echo stands");
        text(self.socket.next().await).expect("a text");
        us(begun.elapsed())
    }

    /// Messages that are sent without waiting: the time until the last is back.
    async fn burst(&mut self) -> Duration {
        let (said, begun) = ("x".repeat(PIECE_FRAME), Instant::now());
        for _ in 0..PIECES {
            self.socket.feed(Message::text(said.as_str())).await.expect("the echo stands");
        }
        self.socket.flush().await.expect("the echo stands");
        let mut back = 0;
        while back < PIECES {
            back += usize::from(text(self.socket.next().await).is_some());
        }
        begun.elapsed()
    }
}

/// Many agents that answer at once, beside their sleeping containers.
async fn agents(daemon: &Daemon) -> Vec<Partner> {
    let mut partners = Vec::new();
    for number in 0..AGENTS {
        let name = format!("echo-{number}");
        daemon.provision(&name).await;
        partners.push(Partner::agent(&Seat::of(daemon, &name).await));
    }
    for number in 0..AGENTS {
        daemon.wait_phase(&format!("echo-{number}"), Phase::Running, SOON).await;
    }
    partners
}

async fn one_pair(socket: &Path, bare: &Path, table: &mut Table) {
    let mut talker = Talker::open(socket, "echo-0", "bench").await;
    let mut echo = Echo::open(bare).await;
    let said = "a question of a usual length, as a person might ask it";
    talker.round(said).await;
    let (mut acks, mut ends) = (Pairs::default(), Pairs::default());
    let (mut added_ack, mut added_end) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let (mut ack, mut end, mut bare) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (acknowledged, ended) = talker.round(said).await;
            ack.push(acknowledged);
            end.push(ended);
            bare.push(echo.round(said).await);
        }
        let (ack, end, bare) = (median(ack), median(end), median(bare));
        acks.add(ack, bare);
        ends.add(end, bare);
        added_ack.push((ack - bare) / 1e3);
        added_end.push((end - bare) / 1e3);
    }
    table.ratio(10, "message to its ack, on the disk", "us", acks, "bare echo", None);
    table.ratio(10, "message to its answer, both on the disk", "us", ends, "bare echo", None);
    table.figure(10, "added to a bare echo, p50, ack", median(added_ack), "ms", Target::AtMost(1.0));
    table.figure(10, "added to a bare echo, p50, stored answer", median(added_end), "ms", Target::AtMost(1.0));

    let (mut relays, mut added) = (Pairs::default(), Vec::new());
    let mut rates = Pairs::default();
    for _ in 0..PAIRS {
        let turn = talker.send(&format!("{PACED}{PACED_PIECES}")).await;
        let (mut latencies, mut bare) = (Vec::new(), Vec::new());
        let late = |payload: &Value| {
            let sent = payload["text"].as_str().and_then(|at| at.parse::<u64>().ok()).expect("a time");
            latencies.push(clock_us().saturating_sub(sent) as f64);
        };
        talker.until_done(&turn, late).await;
        for _ in 0..PACED_PIECES {
            bare.push(echo.round(said).await);
        }
        let (relay, bare) = (median(latencies), median(bare));
        relays.add(relay, bare);
        added.push((relay - bare) / 1e3);

        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..BURSTS {
            let (begun, mut last, mut count) = (Instant::now(), Duration::ZERO, 0);
            let turn = talker.send(&format!("{BURST}{PIECES}")).await;
            let came = |_: &Value| {
                last = begun.elapsed();
                count += 1;
            };
            talker.until_done(&turn, came).await;
            assert_eq!(count, PIECES, "each piece once");
            ours.push(PIECES as f64 / last.as_secs_f64());
            theirs.push(PIECES as f64 / echo.burst().await.as_secs_f64());
        }
        rates.add(median(ours), median(theirs));
    }
    table.ratio(10, "piece from agent to user", "us", relays, "bare echo", None);
    table.figure(10, "added to a bare echo, p50, pieces", median(added), "ms", Target::AtMost(1.0));
    table.ratio(10, "a question and 200 pieces without a pause", "pieces/s", rates, "bare echo", None);
}

/// Rounds per second and their median time of many pairs at once.
async fn many(socket: &Path) -> (f64, f64) {
    let end = Instant::now() + SPAN;
    let mut talkers = JoinSet::new();
    for number in 0..AGENTS * EACH {
        let (socket, agent) = (socket.to_owned(), format!("echo-{}", number % AGENTS));
        talkers.spawn(async move {
            let mut talker = Talker::open(&socket, &agent, &format!("pair {number}")).await;
            let mut times = Vec::new();
            while Instant::now() < end {
                times.push(talker.round("a question").await.1);
            }
            times
        });
    }
    let times: Vec<f64> = talkers.join_all().await.into_iter().flatten().collect();
    (times.len() as f64 / SPAN.as_secs_f64(), median(times) / 1e3)
}

/// Opens connections that only listen to an agent that nobody talks to; measures what each costs.
async fn idle(daemon: &Daemon, socket: &Path, table: &mut Table) -> Vec<Talker> {
    let before = daemon.resident();
    let mut open = Vec::new();
    for _ in 0..IDLE {
        open.push(Talker::open(socket, "quiet", "idle").await);
    }
    let each = daemon.resident().saturating_sub(before) as f64 * KB / IDLE as f64;
    table.figure(11, &format!("memory per idle WebSocket, {IDLE} open"), each, "KB", Target::AtMost(20.0));
    open
}

/// Rows 10 and 11.
pub async fn rows(table: &mut Table) {
    let setup = Setup::scripted().set("log.level", "\"warn\"").set("limits.connections", "2000");
    let daemon = Daemon::start(setup).await;
    let home = Home::new();
    let (echo, bare) = Partner::echo(&home).await;
    let partners = agents(&daemon).await;
    let socket = daemon.home().socket();
    one_pair(&socket, &bare, table).await;
    let pairs = AGENTS * EACH;
    let (rate, latency) = many(&socket).await;
    table.note(10, &format!("{pairs} pairs at once"), format!("{rate:.0} rounds/s, median {latency:.1} ms"));

    daemon.provision("quiet").await;
    let silent = Partner::agent(&Seat::of(&daemon, "quiet").await);
    daemon.wait_phase("quiet", Phase::Running, SOON).await;
    let idle = idle(&daemon, &socket, table).await;
    let (rate, latency) = many(&socket).await;
    table.note(10, &format!("{pairs} pairs beside {IDLE} idle"), format!("{rate:.0} rounds/s, median {latency:.1} ms"));
    let resident = daemon.resident() as f64 / 1024.0;
    table.note(11, &format!("RSS with {IDLE} idle and {pairs} chatting"), format!("{resident:.1} MiB"));
    drop((idle, silent, partners, echo));
    daemon.finish().await;
}
