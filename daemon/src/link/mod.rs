//! Connections of agents: their sockets, hello, beats, drain and close. It carries requests and events both ways and knows
//! neither turns nor lifecycle.

mod door;
mod ears;
mod pace;
mod session;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agentbot_wire::{AgentName, ApiError, Frame, Hello, InstanceId, PROTOCOL_VERSION, SlotId, Welcome};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use door::{Accepted, DoorSpec, Doors};
pub use ears::{Ears, Speaker};
pub use session::{
    CLOSE_NO_HELLO, CLOSE_REFUSED, CLOSE_REPLACED, CLOSE_SHAPE, CLOSE_SLOW, Inbound, MAX_REQUESTS, Outbound, run,
    unknown,
};

use crate::ration::Quiet;
use crate::task::Marks;

/// Frames that wait for a slow agent; past it the agent is closed.
pub const QUEUE: usize = 64;

/// What is known of an agent's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// The runtime's name.
    pub runtime: String,
    /// The runtime's version.
    pub version: String,
    /// Time since hello.
    pub connected_for: Duration,
    /// Time since the last sign of life.
    pub silent_for: Duration,
    /// Time since the last gap between signs of life that was too long.
    pub healthy_for: Duration,
    /// Beats so far.
    pub beats: u64,
    /// When the last beat came, by the wall clock.
    pub last_beat: Option<jiff::Timestamp>,
    /// Time since a ping that is not answered.
    pub ping_open_for: Option<Duration>,
}

/// What the daemon tells an agent at hello.
#[derive(Clone, Debug)]
pub struct Introduction {
    /// Whose agent it is.
    pub instance: Option<InstanceId>,
    /// Its name.
    pub name: Option<AgentName>,
    /// Its model.
    pub model: Option<String>,
    /// Its configuration.
    pub config: Value,
    /// Time between beats.
    pub beat: Duration,
}

struct Connection {
    number: u64,
    hello: Hello,
    since: Instant,
    last_sign: Instant,
    healthy_since: Instant,
    gap: Duration,
    beats: u64,
    last_beat: Option<jiff::Timestamp>,
    pinged: Option<Instant>,
    outgoing: mpsc::Sender<Outbound>,
    /// Requests of ours that it has not answered, by their number.
    asked: HashMap<u64, oneshot::Sender<Reply>>,
    requests: u64,
    /// Its session ends when this is dropped, whatever it waits for.
    _session: DropGuard,
}

/// What an agent answers to a request of ours.
pub type Reply = Result<Value, ApiError>;

/// Why an agent does not answer a request of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoReply {
    /// The connection is over.
    Gone,
    /// Not in the time given.
    Late,
}

/// What a session hears of its connection: what is to be sent, and that it is over.
struct Joined {
    number: u64,
    queue: mpsc::Receiver<Outbound>,
    over: CancellationToken,
}

#[derive(Default)]
struct Table {
    connections: HashMap<SlotId, Connection>,
    next: u64,
    refused: u64,
    slow: u64,
}

/// The agents that are connected now, one connection per slot.
#[derive(Clone)]
pub struct Links {
    table: Arc<Mutex<Table>>,
    quiet: Arc<Quiet<(SlotId, &'static str)>>,
    wakes: Marks<SlotId>,
}

impl Links {
    /// No agent yet. Slots that need to be looked at are marked in `wakes`.
    #[must_use]
    pub fn new(wakes: Marks<SlotId>) -> Self {
        Self { table: Arc::default(), quiet: Arc::default(), wakes }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // The table is whole after every statement, so a panic elsewhere cannot have broken it.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of a slot's connection; `None` without one.
    #[must_use]
    pub fn state(&self, slot: &SlotId) -> Option<LinkState> {
        let table = self.table();
        let connection = table.connections.get(slot)?;
        let now = Instant::now();
        Some(LinkState {
            runtime: connection.hello.runtime.clone(),
            version: connection.hello.version.clone(),
            connected_for: now.duration_since(connection.since),
            silent_for: now.duration_since(connection.last_sign),
            healthy_for: now.duration_since(connection.healthy_since),
            beats: connection.beats,
            last_beat: connection.last_beat,
            ping_open_for: connection.pinged.map(|at| now.duration_since(at)),
        })
    }

    /// Sends a ping, unless one is open. The answer is a sign of life.
    pub fn ping(&self, slot: &SlotId) {
        let mut table = self.table();
        if let Some(connection) = table.connections.get_mut(slot)
            && connection.pinged.is_none()
        {
            connection.pinged = Some(Instant::now());
            // A full queue means that the agent does not read: the open ping says so.
            let _ = connection.outgoing.try_send(Outbound::Ping);
        }
    }

    /// Sends a frame; says whether it was taken. An agent whose queue is full is closed.
    pub fn send(&self, slot: &SlotId, frame: &Frame) -> bool {
        let table = self.table();
        let Some(connection) = table.connections.get(slot) else { return false };
        let sent = connection.outgoing.try_send(Outbound::Text(frame.to_text()));
        self.sent(table, slot, sent.as_ref().err())
    }

    fn sent(
        &self,
        mut table: MutexGuard<'_, Table>,
        slot: &SlotId,
        refused: Option<&mpsc::error::TrySendError<Outbound>>,
    ) -> bool {
        match refused {
            None => true,
            Some(mpsc::error::TrySendError::Closed(_)) => false,
            Some(mpsc::error::TrySendError::Full(_)) => {
                table.slow += 1;
                table.connections.remove(slot);
                drop(table);
                self.wakes.mark(slot.clone());
                false
            }
        }
    }

    /// Asks an agent for something and waits for what it answers, at most so long. It goes to `connection` alone: a newer
    /// connection of the same agent is not asked in its place.
    ///
    /// # Errors
    /// Why there is no answer; an answer that says no is none of them.
    pub async fn ask(
        &self,
        slot: &SlotId,
        connection: u64,
        method: &str,
        params: Value,
        limit: Duration,
    ) -> Result<Reply, NoReply> {
        let answer = self.put(slot, connection, method, params).ok_or(NoReply::Gone)?;
        match tokio::time::timeout(limit, answer).await {
            Ok(reply) => reply.map_err(|_| NoReply::Gone),
            Err(_) => Err(NoReply::Late),
        }
    }

    /// Tells an agent something by one of its connections, and does not wait for the answer.
    pub fn tell(&self, slot: &SlotId, connection: u64, method: &str, params: Value) {
        // Nobody waits: an agent that is gone needs not be told.
        let _ = self.put(slot, connection, method, params);
    }

    fn put(&self, slot: &SlotId, number: u64, method: &str, params: Value) -> Option<oneshot::Receiver<Reply>> {
        let mut table = self.table();
        let connection = table.connections.get_mut(slot).filter(|connection| connection.number == number)?;
        connection.requests += 1;
        let request = connection.requests;
        let (reply, answer) = oneshot::channel();
        // Those that nobody waits for any more make room.
        connection.asked.retain(|_, asked| !asked.is_closed());
        connection.asked.insert(request, reply);
        let frame = Frame::request(&request_id(request), method, params);
        let sent = connection.outgoing.try_send(Outbound::Text(frame.to_text()));
        self.sent(table, slot, sent.as_ref().err()).then_some(answer)
    }

    /// Hands an agent's answer to whoever asked. An answer that nobody waits for is dropped.
    fn answered(&self, slot: &SlotId, number: u64, id: &str, reply: Reply) {
        let Some(request) = id.strip_prefix(REQUEST).and_then(|request| request.parse().ok()) else { return };
        let mut table = self.table();
        let connection = table.connections.get_mut(slot).filter(|connection| connection.number == number);
        let asked = connection.and_then(|connection| connection.asked.remove(&request));
        drop(table);
        if let Some(asked) = asked {
            // Whoever asked may have given up.
            let _ = asked.send(reply);
        }
    }

    /// Ends a slot's connection, if there is one.
    pub fn close(&self, slot: &SlotId) {
        self.table().connections.remove(slot);
    }

    /// Connections refused for their nonce or shape, and closed for not reading, since the start.
    #[must_use]
    pub fn dropped(&self) -> (u64, u64) {
        let table = self.table();
        (table.refused, table.slow)
    }

    /// Whether a line of a kind that this slot's agent can provoke may be written now: then how many like it were left
    /// out since the last one, else `None`. An agent that provokes them by the thousand gets one per second.
    #[must_use]
    pub fn may_log(&self, slot: &SlotId, kind: &'static str) -> Option<u64> {
        self.quiet.pass((slot.clone(), kind))
    }

    fn join(&self, slot: &SlotId, hello: Hello, beat: Duration) -> Joined {
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let over = CancellationToken::new();
        let mut table = self.table();
        table.next += 1;
        let number = table.next;
        let now = Instant::now();
        let connection = Connection {
            number,
            hello,
            since: now,
            last_sign: now,
            healthy_since: now,
            // Three missed beats break a healthy time.
            gap: beat.saturating_mul(3),
            beats: 0,
            last_beat: None,
            pinged: None,
            outgoing,
            asked: HashMap::new(),
            requests: 0,
            _session: over.clone().drop_guard(),
        };
        // The former connection is dropped here, and with it its session ends: the newest one counts.
        table.connections.insert(slot.clone(), connection);
        Joined { number, queue, over }
    }

    fn leave(&self, slot: &SlotId, number: u64) {
        let mut table = self.table();
        if table.connections.get(slot).is_some_and(|connection| connection.number == number) {
            table.connections.remove(slot);
            drop(table);
            self.wakes.mark(slot.clone());
        }
    }

    fn sign(&self, slot: &SlotId, number: u64, beat: bool) {
        let mut table = self.table();
        let Some(connection) = table.connections.get_mut(slot).filter(|connection| connection.number == number) else {
            return;
        };
        let now = Instant::now();
        let late = now.duration_since(connection.last_sign) > connection.gap;
        // A ping that is open says that somebody worried.
        let news = late || connection.pinged.is_some() || (beat && connection.beats == 0);
        if late {
            connection.healthy_since = now;
        }
        connection.last_sign = now;
        connection.pinged = None;
        if beat {
            connection.beats += 1;
            connection.last_beat = Some(jiff::Timestamp::now());
        }
        drop(table);
        if news {
            self.wakes.mark(slot.clone());
        }
    }

    fn count_refusal(&self) {
        self.table().refused += 1;
    }

    fn count_slow(&self) {
        self.table().slow += 1;
    }
}

/// What the ids of our requests begin with.
const REQUEST: &str = "r";

fn request_id(number: u64) -> String {
    format!("{REQUEST}{number}")
}

/// The answer to hello.
#[must_use]
pub fn welcome(introduction: &Introduction, hello: &Hello) -> Welcome {
    Welcome {
        protocol: hello.protocol.min(PROTOCOL_VERSION),
        instance: introduction.instance.clone(),
        name: introduction.name.clone(),
        model: introduction.model.clone(),
        config: introduction.config.clone(),
        policy: agentbot_wire::AgentPolicy {
            max_frame: agentbot_wire::MAX_FRAME,
            beat_ms: u64::try_from(introduction.beat.as_millis()).unwrap_or(u64::MAX),
        },
    }
}
