//! One client's connection, from `connect` to close.
//!
//! Requests are carried out one after another, in the order in which they came: a client's messages are stored in the
//! order in which it sent them. Events go out beside them.

use std::collections::BTreeMap;
use std::time::Duration;

use agentbot_wire::{Bye, Code, Frame, MAX_FRAME, Platform, event};
use axum::extract::ws::Utf8Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};

use super::core::{Core, Ear, Told};
use super::end::End;
use super::pen::{Heard, Place, write};
use super::queue::Queue;
use super::request::{self, Request};
use super::terms::Terms;
use super::wire::{Inbound, Outbound, answer, relayed, text};
use crate::chat::Lagged;
use crate::error::{Error, Result};
use crate::http::pace::{Bucket, Pace};
use crate::http::socket::{CLOSE_PROTOCOL, CLOSE_SHAPE};

/// Time for `connect`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the last frames, and for the client to hang up after them; it is closed with or without.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Frames that are read and thrown away after the close, so that it is not lost with a reset.
const LINGER: usize = 10_000;
/// Frames of one socket. An operator has no such bounds.
pub const FRAMES: Pace = Pace { burst: 200, each: Duration::from_millis(20) };
/// Pings in a row without any sign of life that close a connection.
const PINGS: u32 = 3;
/// Frames that are written together.
const BATCH: usize = 64;
/// Bytes that are written together, a last frame apart.
const BATCH_BYTES: usize = 128 * 1024;

/// Serves one connection until either side ends it.
pub async fn run<C, S, E>(core: &C, terms: &Terms, mut socket: S)
where
    C: Core,
    S: Stream<Item = Inbound> + Sink<Outbound, Error = E> + Unpin + Send,
{
    let mut line = Line {
        core,
        terms,
        platform: Platform::Ws,
        ear: Some(core.ear()),
        waiting: Queue::default(),
        working: None,
        heard: Heard::default(),
        bucket: Bucket::new(FRAMES),
    };
    let end = match greet(&mut line, &mut socket).await {
        Ok(()) => line.converse(&mut socket).await,
        Err(end) => end,
    };
    if let Some(count) = end.count(&terms.counts) {
        count.add();
    }
    tracing::debug!(actor = %terms.actor, ?end, "a chat socket ended");
    if let Some(close) = end.close() {
        let bye = match end.says_bye() {
            Some(reason) => line.last_words(&mut socket, end, reason).await,
            None => None,
        };
        let _ = timeout(CLOSE_TIMEOUT, leave(&mut socket, bye, close)).await;
    }
    // A client that said that it goes while something was written to it has that answered here.
    let _ = timeout(CLOSE_TIMEOUT, socket.take(LINGER).for_each(|_| std::future::ready(()))).await;
}

async fn leave<S, E>(socket: &mut S, bye: Option<Utf8Bytes>, (code, reason): (u16, &'static str)) -> Result<(), E>
where
    S: Sink<Outbound, Error = E> + Unpin,
{
    if let Some(bye) = bye {
        socket.feed(Outbound::Text(bye)).await?;
    }
    socket.send(Outbound::Close(code, reason)).await
}

/// Takes `connect` and answers it.
async fn greet<C, S, E>(line: &mut Line<'_, C>, socket: &mut S) -> Result<(), End>
where
    C: Core,
    S: Stream<Item = Inbound> + Sink<Outbound, Error = E> + Unpin + Send,
{
    let terms = line.terms;
    let first = async {
        loop {
            match socket.next().await {
                None => return Err(End::Gone),
                Some(Inbound::Unfit(code, why)) => return Err(End::Unfit(code, why)),
                // A ping before its turn: it costs the client of its burst, like every frame.
                Some(Inbound::Life) if line.keeps_pace() => {}
                Some(Inbound::Life) => return Err(End::Flood),
                Some(Inbound::Text(text)) => return Ok(text),
            }
        }
    };
    let first = tokio::select! {
        biased;
        () = terms.held.revoked() => return Err(End::Revoked),
        () = terms.stop.cancelled() => return Err(End::Going),
        first = timeout(CONNECT_TIMEOUT, first) => first.map_err(|_| End::Unconnected)??,
    };
    let frame = Frame::parse(&first).map_err(|_| End::Unfit(CLOSE_SHAPE, "not a frame"))?;
    match request::read_connect(frame) {
        Ok((id, connect)) => {
            line.platform = request::platform(&terms.actor, &connect);
            let answer = Frame::answer(&id, serde_json::to_value(terms.connected(connect.version)).unwrap_or_default());
            line.say(socket, text(&answer)).await?;
            Ok(())
        }
        Err(refused) => {
            if let Some(id) = refused.id {
                line.say(socket, text(&Frame::refusal(&id, refused.error.to_api()))).await?;
            }
            Err(End::Unfit(CLOSE_PROTOCOL, "the first frame is no valid connect"))
        }
    }
}

/// A request that was carried out: its answer, and the ear if it went along.
type Worked<E> = (Outbound, Option<E>);

struct Line<'a, C: Core> {
    core: &'a C,
    terms: &'a Terms,
    platform: Platform,
    /// Away while a subscription is made.
    ear: Option<C::Ear>,
    waiting: Queue,
    working: Option<BoxFuture<'a, Worked<C::Ear>>>,
    heard: Heard,
    bucket: Bucket,
}

/// What a session woke up for.
enum Woken<E> {
    Answer(Worked<E>),
    Event(Result<Told, Lagged>),
    Incoming(Option<Inbound>),
    Tick,
}

impl<'a, C: Core> Line<'a, C> {
    async fn converse<S, E>(&mut self, socket: &mut S) -> End
    where
        S: Stream<Item = Inbound> + Sink<Outbound, Error = E> + Unpin + Send,
    {
        let period = self.terms.ping;
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unanswered = 0;
        loop {
            self.work_on();
            let woken = match self.wake(socket, &mut ticks).await {
                Ok(woken) => woken,
                Err(end) => return end,
            };
            let written = match woken {
                Woken::Answer((answer, ear)) => {
                    self.working = None;
                    self.take_back(ear);
                    self.say(socket, answer).await
                }
                Woken::Event(Err(Lagged)) => Err(End::Slow),
                Woken::Event(Ok(told)) => self.relay(socket, told).await,
                Woken::Tick if unanswered == PINGS => Err(End::Idle),
                Woken::Tick => {
                    unanswered += 1;
                    self.say(socket, Outbound::Ping).await
                }
                Woken::Incoming(None) => Err(End::Gone),
                Woken::Incoming(Some(Inbound::Unfit(code, why))) => Err(End::Unfit(code, why)),
                Woken::Incoming(Some(_)) if !self.keeps_pace() => Err(End::Flood),
                Woken::Incoming(Some(inbound)) => {
                    unanswered = 0;
                    match inbound {
                        Inbound::Text(text) if !self.terms.quota.frame() => self.put_off(socket, &text).await,
                        Inbound::Text(text) => self.hear(socket, &text).await,
                        Inbound::Life | Inbound::Unfit(..) => Ok(()),
                    }
                }
            };
            if let Err(end) = written {
                return end;
            }
        }
    }

    /// Waits for the next thing to do. The ends come first: once the credential is replaced no frame is taken any more.
    /// What else there is takes turns, so that neither a loud agent nor a loud client is all that is heard.
    async fn wake<S>(&mut self, socket: &mut S, ticks: &mut Interval) -> Result<Woken<C::Ear>, End>
    where
        S: Stream<Item = Inbound> + Unpin + Send,
    {
        let Self { terms, ear, working, .. } = self;
        let event = async {
            match ear {
                Some(ear) => ear.next().await,
                None => std::future::pending().await,
            }
        };
        let answer = async {
            match working {
                Some(working) => working.await,
                None => std::future::pending().await,
            }
        };
        let next = async {
            tokio::select! {
                answer = answer => Woken::Answer(answer),
                event = event => Woken::Event(event),
                incoming = socket.next() => Woken::Incoming(incoming),
                _ = ticks.tick() => Woken::Tick,
            }
        };
        tokio::select! {
            biased;
            () = terms.held.revoked() => Err(End::Revoked),
            () = terms.stop.cancelled() => Err(End::Going),
            woken = next => Ok(woken),
        }
    }

    /// Begins the request whose turn it is.
    fn work_on(&mut self) {
        if self.working.is_none()
            && let Some((id, request)) = self.waiting.pop()
        {
            let (core, platform, ear) = (self.core, self.platform, &mut self.ear);
            let work: BoxFuture<'a, Worked<C::Ear>> = match (request, ear.take()) {
                (Request::Subscribe(params), Some(mut ear)) => async move {
                    let subscribed = ear.subscribe(&params).await;
                    let subscribed = subscribed.and_then(|said| serde_json::to_value(said).map_err(Error::internal));
                    (answer(&id, subscribed), Some(ear))
                }
                .boxed(),
                (request, back) => {
                    *ear = back;
                    async move { (answer(&id, core.ask(request, platform).await), None) }.boxed()
                }
            };
            self.working = Some(work);
        }
    }

    /// Takes one text frame.
    async fn hear<S, E>(&mut self, socket: &mut S, text_frame: &str) -> Result<(), End>
    where
        S: Sink<Outbound, Error = E> + Unpin + Send,
    {
        let frame = Frame::parse(text_frame).map_err(|_| End::Unfit(CLOSE_SHAPE, "not a frame"))?;
        let Frame::Req { id, method, params } = frame else {
            return Err(End::Unfit(CLOSE_SHAPE, "clients send requests only"));
        };
        if let Err(error) = self.waiting.has_room(text_frame.len()) {
            self.terms.counts.busy.add();
            return self.say(socket, answer(&id, Err(error))).await;
        }
        let request = request::read(&method, params, self.terms.agent.as_deref()).and_then(|request| {
            self.count(&request)?;
            Ok(request)
        });
        match request {
            Ok(request) => {
                self.waiting.push(id, request, text_frame.len());
                Ok(())
            }
            Err(error) => self.say(socket, answer(&id, Err(error))).await,
        }
    }

    /// Whether one more frame of this socket may come.
    fn keeps_pace(&mut self) -> bool {
        self.terms.quota.is_unbounded() || self.bucket.take()
    }

    /// Refuses a frame because the sockets of its credential have sent too many together: that may be no fault of this
    /// one, so it stays open.
    async fn put_off<S, E>(&mut self, socket: &mut S, text_frame: &str) -> Result<(), End>
    where
        S: Sink<Outbound, Error = E> + Unpin + Send,
    {
        self.terms.counts.hasty.add();
        match Frame::parse(text_frame) {
            Ok(Frame::Req { id, .. }) => {
                let error = Error::new(Code::RateLimited, "the sockets of this token send too many frames together")
                    .hint("wait a second, then send it again");
                self.say(socket, answer(&id, Err(error))).await
            }
            Ok(_) => Ok(()),
            Err(_) => Err(End::Unfit(CLOSE_SHAPE, "not a frame")),
        }
    }

    /// Counts what makes an agent work.
    fn count(&self, request: &Request) -> Result<()> {
        if !matches!(request, Request::Send(_) | Request::Retry(_)) {
            return Ok(());
        }
        self.terms.quota.message().inspect_err(|_| self.terms.counts.hasty.add())
    }

    /// Takes the ear back from a subscription that was made.
    fn take_back(&mut self, ear: Option<C::Ear>) {
        if let Some(ear) = ear {
            // Nothing was taken from it that is not written: what is news here is where new conversations begin.
            self.heard.begin(ear.cursors());
            self.ear = Some(ear);
        }
    }

    /// Sends one frame that is no event.
    async fn say<S, E>(&mut self, socket: &mut S, frame: Outbound) -> Result<(), End>
    where
        S: Sink<Outbound, Error = E> + Unpin + Send,
    {
        write(self.terms, &mut self.heard, socket, vec![(frame, None)]).await
    }

    /// Sends an event, and with it what is there already.
    async fn relay<S, E>(&mut self, socket: &mut S, first: Told) -> Result<(), End>
    where
        S: Sink<Outbound, Error = E> + Unpin + Send,
    {
        let mut bytes = 0;
        let mut batch: Vec<(Outbound, Option<Place>)> = Vec::new();
        let mut lagged = false;
        let mut next = Some(Ok(first));
        while let Some(told) = next {
            match told {
                Ok(Told { frame, place }) => {
                    bytes += frame.len();
                    batch.extend(relayed(frame).map(|frame| (frame, place)));
                }
                Err(Lagged) => lagged = true,
            }
            let full = lagged || batch.len() >= BATCH || bytes >= BATCH_BYTES;
            next = self.ear.as_mut().filter(|_| !full).and_then(|ear| ear.next().now_or_never());
        }
        write(self.terms, &mut self.heard, socket, batch).await?;
        if lagged { Err(End::Slow) } else { Ok(()) }
    }

    /// What is still said before the close: the answer to the request under way, if the daemon ends, and how far the
    /// client has heard.
    async fn last_words<S, E>(&mut self, socket: &mut S, end: End, reason: &str) -> Option<Utf8Bytes>
    where
        S: Sink<Outbound, Error = E> + Unpin + Send,
    {
        if end == End::Going
            && let Some(working) = self.working.take()
            && let Ok((answer, ear)) = timeout(CLOSE_TIMEOUT, working).await
        {
            self.take_back(ear);
            let _ = timeout(CLOSE_TIMEOUT, socket.feed(answer)).await;
        }
        let bye = |cursors: BTreeMap<_, _>| {
            let bye = Bye { reason: reason.to_owned(), cursors };
            Frame::event(event::BYE, serde_json::to_value(bye).unwrap_or_default()).to_text()
        };
        let said = bye(self.heard.places().clone());
        // Whoever has more conversations than fit a frame knows their places from the messages.
        Some(if said.len() > MAX_FRAME { bye(BTreeMap::new()) } else { said }.into())
    }
}

#[cfg(test)]
mod tests;
