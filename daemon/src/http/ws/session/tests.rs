//! Conversations over a socket made of two queues, with a core that does what the test says.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use agentbot_wire::{ChatSubscribe, ChatSubscribed, Code, Connected, ConversationId, InstanceId, PROTOCOL_VERSION};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::super::end::{CLOSE_FLOOD, CLOSE_GOING, CLOSE_IDLE, CLOSE_REVOKED, CLOSE_SLOW};
use super::super::pen::SEND_TIMEOUT;
use super::super::queue::MAX_REQUESTS;
use super::*;
use crate::config::Http;
use crate::http::auth::Held;
use crate::http::quota::{Quota, Quotas};
use crate::http::ws::Counts;
use crate::identity::{Actor, Leases};

mod connect;
mod ends;
mod requests;
mod resume;

const HASH: [u8; 32] = [7; 32];

/// A core whose answers wait for permits, and whose events come from the test.
struct Fake {
    events: Mutex<Option<mpsc::Receiver<Result<Told, Lagged>>>>,
    permits: Semaphore,
    asked: AtomicUsize,
}

struct FakeEar {
    events: mpsc::Receiver<Result<Told, Lagged>>,
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

    async fn next(&mut self) -> Result<Told, Lagged> {
        match self.events.recv().await {
            // As the real one: what is handed out counts as heard here.
            Some(event) => event.inspect(|told| self.cursors.extend(told.place.clone())),
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
    told: Queue,
}

/// A bounded queue as a sink: a full one is a client that does not read.
struct Queue(Pin<Box<dyn Sink<Outbound, Error = ()> + Send>>);

impl Queue {
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
    events: mpsc::Sender<Result<Told, Lagged>>,
    say: Option<mpsc::Sender<Inbound>>,
    told: mpsc::Receiver<Outbound>,
    leases: Leases,
    stop: CancellationToken,
    counts: Arc<Counts>,
    session: JoinSet<()>,
}

fn scene_with(room: usize) -> Scene {
    scene_of(room, &Quotas::new(&Http::default()))
}

/// With a share of what its credential may take.
fn scene_of(room: usize, quotas: &Arc<Quotas>) -> Scene {
    let (events, feed) = mpsc::channel(1_024);
    let core =
        Arc::new(Fake { events: Mutex::new(Some(feed)), permits: Semaphore::new(0), asked: AtomicUsize::new(0) });
    let (say, heard) = mpsc::channel(1_024);
    let (tell, told) = mpsc::channel(room);
    let (leases, stop, counts) = (Leases::default(), CancellationToken::new(), Arc::new(Counts::default()));
    let terms = Terms {
        actor: Actor::Gateway { instance: InstanceId::mint(), token: HASH },
        held: Held::by(leases.take(HASH)),
        quota: Quota::of(quotas, HASH),
        agent: None,
        ping: Duration::from_secs(30),
        stop: stop.clone(),
        counts: Arc::clone(&counts),
    };
    let socket = Socket { heard, told: Queue::new(tell) };
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

fn event(number: u64) -> Told {
    Told { frame: Frame::event("chat.delta", json!({"index": number})).to_text().into(), place: None }
}

fn message(conversation: &ConversationId, seq: u64) -> Told {
    let payload = json!({"conversation": conversation, "seq": seq});
    let frame = Frame::event("chat.message", payload).to_text().into();
    Told { frame, place: Some((conversation.clone(), seq)) }
}
