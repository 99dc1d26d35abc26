//! Conversations over a socket made of two queues, with a core that does what the test says.

use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use agentbot_wire::{ChatSubscribe, ChatSubscribed, ConversationId, InstanceId};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::super::end::{CLOSE_FLOOD, CLOSE_GOING, CLOSE_IDLE, CLOSE_REVOKED, CLOSE_SLOW};
use super::*;
use crate::identity::Leases;

const HASH: [u8; 32] = [7; 32];

/// A core whose answers wait for permits, and whose events come from the test.
struct Fake {
    events: Mutex<Option<mpsc::Receiver<Result<Bytes, Lagged>>>>,
    permits: Semaphore,
    asked: AtomicUsize,
}

struct FakeEar {
    events: mpsc::Receiver<Result<Bytes, Lagged>>,
    cursors: BTreeMap<ConversationId, u64>,
}

impl Core for Fake {
    type Ear = FakeEar;

    fn ear(&self) -> FakeEar {
        FakeEar { events: self.events.lock().unwrap().take().unwrap(), cursors: BTreeMap::new() }
    }

    async fn ask(&self, request: Request, _platform: Platform) -> Result<Value> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.permits.acquire().await.unwrap().forget();
        match request {
            Request::Send(send) => Ok(json!(send.text)),
            other => Err(Error::not_found("thing", format!("{other:?}")).hint("none")),
        }
    }
}

impl Ear for FakeEar {
    async fn subscribe(&mut self, params: &ChatSubscribe) -> Result<ChatSubscribed> {
        let id: ConversationId = params.conversation.clone().unwrap();
        self.cursors.insert(id, params.after_seq.unwrap_or(0));
        Ok(ChatSubscribed { cursors: self.cursors.clone(), turns: Vec::new() })
    }

    async fn next(&mut self) -> Result<Bytes, Lagged> {
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    fn cursors(&self) -> BTreeMap<ConversationId, u64> {
        self.cursors.clone()
    }
}

/// The session's side of the socket.
struct Socket {
    heard: mpsc::Receiver<Inbound>,
    told: Told,
}

/// A bounded queue as a sink: a full one is a client that does not read.
struct Told(Pin<Box<dyn Sink<Outbound, Error = ()> + Send>>);

impl Told {
    fn new(tell: mpsc::Sender<Outbound>) -> Self {
        Self(Box::pin(futures_util::sink::unfold(tell, |tell, out: Outbound| async move {
            tell.send(out).await.map_err(|_| ())?;
            Ok::<_, ()>(tell)
        })))
    }
}

impl Stream for Socket {
    type Item = Inbound;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Inbound>> {
        self.heard.poll_recv(context)
    }
}

impl Sink<Outbound> for Socket {
    type Error = ();

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), ()>> {
        self.told.0.as_mut().poll_ready(context)
    }

    fn start_send(mut self: Pin<&mut Self>, item: Outbound) -> Result<(), ()> {
        self.told.0.as_mut().start_send(item)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), ()>> {
        self.told.0.as_mut().poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), ()>> {
        self.told.0.as_mut().poll_close(context)
    }
}

/// A client and the session that serves it.
struct Scene {
    core: Arc<Fake>,
    events: mpsc::Sender<Result<Bytes, Lagged>>,
    say: Option<mpsc::Sender<Inbound>>,
    told: mpsc::Receiver<Outbound>,
    leases: Leases,
    stop: CancellationToken,
    counts: Arc<Counts>,
    session: JoinSet<()>,
}

fn scene_with(room: usize) -> Scene {
    let (events, feed) = mpsc::channel(1_024);
    let core =
        Arc::new(Fake { events: Mutex::new(Some(feed)), permits: Semaphore::new(0), asked: AtomicUsize::new(0) });
    let (say, heard) = mpsc::channel(1_024);
    let (tell, told) = mpsc::channel(room);
    let (leases, stop, counts) = (Leases::default(), CancellationToken::new(), Arc::new(Counts::default()));
    let terms = Terms {
        actor: Actor::Gateway { instance: InstanceId::mint(), token: HASH },
        held: Held(Some(leases.take(HASH))),
        agent: None,
        ping: Duration::from_secs(30),
        stop: stop.clone(),
        counts: Arc::clone(&counts),
    };
    let socket = Socket { heard, told: Told::new(tell) };
    let mut session = JoinSet::new();
    let served = Arc::clone(&core);
    session.spawn(async move { run(&*served, &terms, socket).await });
    Scene { core, events, say: Some(say), told, leases, stop, counts, session }
}

fn scene() -> Scene {
    scene_with(64)
}

impl Scene {
    async fn say(&self, inbound: Inbound) {
        self.say.as_ref().unwrap().send(inbound).await.unwrap();
    }

    async fn request(&self, id: &str, method: &str, params: Value) {
        self.say(Inbound::Text(Frame::request(id, method, params).to_text().into())).await;
    }

    async fn next(&mut self) -> Outbound {
        self.told.recv().await.expect("the session says something")
    }

    async fn frame(&mut self) -> Frame {
        match self.next().await {
            Outbound::Text(text) => Frame::parse(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    async fn connected(mut self) -> Self {
        self.request("c", "connect", json!({"version": 1})).await;
        assert!(matches!(self.frame().await, Frame::Res { ok: true, .. }));
        self
    }

    /// The close that comes next; after it the session ends, whether the client hangs up or not.
    async fn closed(mut self) -> (u16, Duration) {
        let begun = Instant::now();
        let code = loop {
            match self.next().await {
                Outbound::Close(code, _) => break code,
                Outbound::Ping => {}
                Outbound::Text(text) => panic!("{text:?}"),
            }
        };
        let after = begun.elapsed();
        self.session.join_next().await.unwrap().unwrap();
        (code, after)
    }
}

fn event(number: u64) -> Bytes {
    Frame::event("chat.delta", json!({"index": number})).to_text().into()
}

#[tokio::test(start_paused = true)]
async fn connect_is_answered_with_who_one_is_and_the_rules() {
    let mut scene = scene();
    scene.request("c", "connect", json!({"version": 99, "client": "test/1"})).await;
    let Frame::Res { id, ok: true, payload: Some(payload), .. } = scene.frame().await else { panic!() };
    let said: Connected = serde_json::from_value(payload).unwrap();
    assert_eq!((id.as_str(), said.version, said.policy.max_frame), ("c", PROTOCOL_VERSION, MAX_FRAME));
    assert_eq!(said.actor, format!("gateway:{}", said.agent.unwrap()));
    assert_eq!(said.policy.beat_ms, 30_000);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_connect_in_time_is_closed() {
    let silent = scene();
    silent.say(Inbound::Life).await;
    let (code, after) = silent.closed().await;
    assert_eq!((code, after.as_secs()), (CLOSE_IDLE, 10));
}

#[tokio::test(start_paused = true)]
async fn a_first_frame_that_is_no_connect_is_answered_and_closed() {
    let mut wrong = scene();
    wrong.request("1", "chat.send", json!({"text": "hi"})).await;
    assert!(matches!(wrong.frame().await, Frame::Res { ok: false, .. }));
    assert_eq!(wrong.closed().await.0, CLOSE_PROTOCOL);

    let noise = scene();
    noise.say(Inbound::Text("noise".to_owned().into())).await;
    assert_eq!(noise.closed().await.0, CLOSE_SHAPE);
}

#[tokio::test(start_paused = true)]
async fn what_the_protocol_has_no_use_for_closes_with_its_code() {
    for (inbound, code) in [
        (Inbound::Unfit(1009, "too long"), 1009),
        (Inbound::Text("[]".to_owned().into()), CLOSE_SHAPE),
        (Inbound::Text(Frame::event("x", Value::Null).to_text().into()), CLOSE_SHAPE),
        (Inbound::Text(Frame::answer("1", Value::Null).to_text().into()), CLOSE_SHAPE),
    ] {
        let scene = scene().connected().await;
        scene.say(inbound).await;
        let counts = Arc::clone(&scene.counts);
        assert_eq!(scene.closed().await.0, code);
        assert_eq!(counts.unfit.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_are_carried_out_one_after_another_and_events_go_past_them() {
    let mut scene = scene().connected().await;
    for id in ["1", "2", "3"] {
        scene.request(id, "chat.send", json!({"text": id})).await;
    }
    scene.events.send(Ok(event(1))).await.unwrap();
    assert!(matches!(scene.frame().await, Frame::Event { .. }), "a slow request holds no event up");
    assert_eq!(scene.core.asked.load(Ordering::Relaxed), 1, "the others wait for their turn");
    scene.core.permits.add_permits(3);
    for wanted in ["1", "2", "3"] {
        let Frame::Res { id, ok: true, payload, .. } = scene.frame().await else { panic!() };
        assert_eq!((id.as_str(), payload), (wanted, Some(json!(wanted))));
    }
}

#[tokio::test(start_paused = true)]
async fn so_many_requests_wait_and_one_more_is_told_that_it_is_busy() {
    let mut scene = scene().connected().await;
    // One is at work, the others wait.
    for number in 0..=MAX_REQUESTS {
        scene.request(&number.to_string(), "chat.send", json!({"text": "x"})).await;
    }
    tokio::task::yield_now().await;
    scene.request("extra", "chat.send", json!({"text": "x"})).await;
    let Frame::Res { id, ok: false, error: Some(error), .. } = scene.frame().await else { panic!() };
    assert_eq!((id.as_str(), error.code), ("extra", Code::Busy));
    scene.core.permits.add_permits(MAX_REQUESTS + 1);
    for _ in 0..=MAX_REQUESTS {
        assert!(matches!(scene.frame().await, Frame::Res { ok: true, .. }));
    }
    assert_eq!(scene.counts.busy.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_request_is_answered_and_the_connection_stays() {
    let mut scene = scene().connected().await;
    scene.core.permits.add_permits(9);
    for (method, params, code) in [
        ("chat.fly", json!({}), Code::Unsupported),
        ("chat.send", json!({"text": 7}), Code::Invalid),
        ("connect", json!({}), Code::Invalid),
        ("chat.abort", json!({"turn": agentbot_wire::TurnId::mint()}), Code::NotFound),
    ] {
        scene.request("1", method, params).await;
        let Frame::Res { ok: false, error: Some(error), .. } = scene.frame().await else { panic!() };
        assert_eq!(error.code, code, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_a_subscription_comes_before_its_events() {
    let mut scene = scene().connected().await;
    let conversation = ConversationId::mint();
    scene.request("s", "chat.subscribe", json!({"conversation": conversation, "after_seq": 3})).await;
    let Frame::Res { ok: true, payload: Some(payload), .. } = scene.frame().await else { panic!() };
    assert_eq!(payload["cursors"][conversation.as_str()], 3);
    scene.events.send(Ok(event(1))).await.unwrap();
    assert!(matches!(scene.frame().await, Frame::Event { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_replaced_credential_closes_at_once_and_no_frame_is_taken_after_it() {
    let scene = scene().connected().await;
    scene.core.permits.add_permits(9);
    // What came before the revocation and what comes after it wait side by side.
    scene.leases.revoke(&HASH);
    for _ in 0..5 {
        scene.request("1", "chat.send", json!({"text": "x"})).await;
    }
    let (core, counts) = (Arc::clone(&scene.core), Arc::clone(&scene.counts));
    let (code, after) = scene.closed().await;
    assert_eq!((code, after), (CLOSE_REVOKED, Duration::ZERO));
    assert_eq!(core.asked.load(Ordering::Relaxed), 0);
    assert_eq!(counts.revoked.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_is_replaced_before_connect_closes_too() {
    let scene = scene();
    tokio::task::yield_now().await;
    scene.leases.revoke(&HASH);
    assert_eq!(scene.closed().await.0, CLOSE_REVOKED);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_closed_also_by_a_replaced_credential() {
    // There is room for the answer to connect, and for nothing more.
    let mut scene = scene_with(1).connected().await;
    for number in 0..9 {
        scene.events.send(Ok(event(number))).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    scene.leases.revoke(&HASH);
    scene.session.join_next().await.unwrap().unwrap();
    assert!(begun.elapsed() <= 2 * CLOSE_TIMEOUT, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_too_slow() {
    let mut scene = scene_with(1).connected().await;
    for number in 0..9 {
        scene.events.send(Ok(event(number))).await.unwrap();
    }
    let begun = Instant::now();
    scene.session.join_next().await.unwrap().unwrap();
    assert!(begun.elapsed() >= SEND_TIMEOUT && begun.elapsed() <= SEND_TIMEOUT + 2 * CLOSE_TIMEOUT);
    assert_eq!(scene.counts.slow.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_lags_is_told_its_cursors() {
    let mut scene = scene().connected().await;
    let conversation = ConversationId::mint();
    scene.request("s", "chat.subscribe", json!({"conversation": conversation, "after_seq": 4})).await;
    scene.frame().await;
    scene.events.send(Ok(event(1))).await.unwrap();
    scene.events.send(Err(Lagged)).await.unwrap();
    assert!(matches!(scene.frame().await, Frame::Event { event, .. } if event == "chat.delta"));
    let Frame::Event { event, payload, .. } = scene.frame().await else { panic!() };
    assert_eq!((event.as_str(), payload["cursors"][conversation.as_str()].as_u64()), ("bye", Some(4)));
    assert_eq!(scene.closed().await.0, CLOSE_SLOW);
}

#[tokio::test(start_paused = true)]
async fn the_daemons_end_is_said_after_the_answer_that_is_under_way() {
    let mut scene = scene().connected().await;
    scene.request("1", "chat.send", json!({"text": "x"})).await;
    while scene.core.asked.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    scene.stop.cancel();
    tokio::task::yield_now().await;
    scene.core.permits.add_permits(1);
    assert!(matches!(scene.frame().await, Frame::Res { ok: true, .. }), "what was stored is acknowledged");
    assert!(matches!(scene.frame().await, Frame::Event { event, .. } if event == "bye"));
    assert_eq!(scene.closed().await.0, CLOSE_GOING);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_no_ping_is_closed_after_the_third() {
    let mute = scene().connected().await;
    let (code, after) = mute.closed().await;
    assert_eq!((code, after.as_secs()), (CLOSE_IDLE, 4 * 30));

    let mut alive = scene().connected().await;
    for _ in 0..20 {
        assert_eq!(alive.next().await, Outbound::Ping);
        alive.say(Inbound::Life).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_closed_and_counted() {
    let mut scene = scene().connected().await;
    scene.core.permits.add_permits(10_000);
    for _ in 0..super::super::flood::BURST {
        scene.request("1", "chat.send", json!({"text": "x"})).await;
        assert!(matches!(scene.frame().await, Frame::Res { .. }), "within the burst each is answered");
    }
    scene.say(Inbound::Life).await;
    let counts = Arc::clone(&scene.counts);
    assert_eq!(scene.closed().await.0, CLOSE_FLOOD);
    assert_eq!(counts.flood.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_ends_its_session() {
    let mut scene = scene().connected().await;
    scene.say = None;
    scene.session.join_next().await.unwrap().unwrap();
    assert_eq!(scene.counts.drops().iter().map(|(_, count)| count).sum::<u64>(), 0);
}

#[test]
fn an_answer_that_fits_no_frame_is_an_error() {
    let said = |length: usize| match answer("1", Ok(json!("x".repeat(length)))) {
        Outbound::Text(text) => Frame::parse(&text).unwrap(),
        other => panic!("{other:?}"),
    };
    let room = MAX_FRAME - answer_length(0);
    assert!(matches!(said(room), Frame::Res { ok: true, .. }));
    let Frame::Res { ok: false, error: Some(error), .. } = said(room + 1) else { panic!() };
    assert_eq!(error.code, Code::TooLarge);
}

fn answer_length(length: usize) -> usize {
    Frame::answer("1", json!("x".repeat(length))).to_text().len()
}
