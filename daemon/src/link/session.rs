//! One agent's connection, from hello to close.

use std::time::Duration;

use agentbot_wire::{ApiError, Code, Frame, Hello, SlotId, event, method};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use subtle::ConstantTimeEq;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Introduction, Links, QUEUE, welcome};
use crate::secret::Secret;

/// Time for the first frame.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest text of a field in hello.
const MAX_WORD: usize = 64;
/// The most capabilities.
const MAX_CAPABILITIES: usize = 32;

/// Close code: the first frame was no valid hello.
pub const CLOSE_REFUSED: u16 = 4001;
/// Close code: no hello in time.
pub const CLOSE_NO_HELLO: u16 = 4008;
/// Close code: a newer connection of the same agent took over, or the daemon ended this one.
pub const CLOSE_REPLACED: u16 = 4009;
/// Close code: a frame that is not of the protocol's shape.
pub const CLOSE_SHAPE: u16 = 1007;
/// Close code: the agent reads too slowly.
pub const CLOSE_SLOW: u16 = 4013;

/// What comes from the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// A text frame.
    Text(String),
    /// The answer to a ping, or another sign of life without content.
    Pong,
    /// Anything the protocol has no use for, and why it is closed.
    Unfit(&'static str),
}

/// What goes to the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outbound {
    /// A text frame.
    Text(String),
    /// A ping.
    Ping,
    /// The end, with code and reason.
    Close(u16, &'static str),
}

/// Serves one connection until either side ends it. The stream ends with the connection.
pub async fn run<S, E>(links: &Links, slot: &SlotId, nonce: &Secret<String>, introduction: &Introduction, mut socket: S)
where
    S: Stream<Item = Inbound> + Sink<Outbound, Error = E> + Unpin + Send,
{
    let first = match timeout(HELLO_TIMEOUT, socket.next()).await {
        Ok(Some(first)) => first,
        Ok(None) => return,
        Err(_) => return close(&mut socket, CLOSE_NO_HELLO, "no hello in time").await,
    };
    let (id, hello) = match read_hello(&first, nonce) {
        Ok(read) => read,
        Err(refusal) => {
            links.count_refusal();
            tracing::warn!(slot.id = %slot, reason = %refusal.error.message, "agent refused");
            if let Some(id) = refusal.id {
                let _ = socket.send(Outbound::Text(Frame::refusal(&id, refusal.error).to_text())).await;
            }
            return close(&mut socket, CLOSE_REFUSED, "hello refused").await;
        }
    };
    let payload = serde_json::to_value(welcome(introduction)).unwrap_or_default();
    if socket.send(Outbound::Text(Frame::answer(&id, payload).to_text())).await.is_err() {
        return;
    }
    let (outgoing, queue) = mpsc::channel(QUEUE);
    let number = links.join(slot, hello, introduction.beat, outgoing);
    tracing::info!(slot.id = %slot, "agent connected");
    talk(links, slot, number, queue, &mut socket).await;
    links.leave(slot, number);
    tracing::info!(slot.id = %slot, "agent gone");
}

async fn talk<S, E>(links: &Links, slot: &SlotId, number: u64, mut queue: mpsc::Receiver<Outbound>, socket: &mut S)
where
    S: Stream<Item = Inbound> + Sink<Outbound, Error = E> + Unpin + Send,
{
    loop {
        tokio::select! {
            outgoing = queue.recv() => {
                let Some(outgoing) = outgoing else {
                    return close(socket, CLOSE_REPLACED, "replaced").await;
                };
                if socket.send(outgoing).await.is_err() {
                    return;
                }
            }
            incoming = socket.next() => match incoming {
                None => return,
                Some(Inbound::Pong) => links.sign(slot, number, false),
                Some(Inbound::Unfit(why)) => return close(socket, CLOSE_SHAPE, why).await,
                Some(Inbound::Text(text)) => match Frame::parse(&text) {
                    Err(_) => return close(socket, CLOSE_SHAPE, "not a frame").await,
                    Ok(Frame::Event { event, .. }) => links.sign(slot, number, event == event::BEAT),
                    // Nothing is asked of agents yet that they could answer.
                    Ok(Frame::Res { .. }) => links.sign(slot, number, false),
                    Ok(Frame::Req { id, method, .. }) => {
                        links.sign(slot, number, false);
                        let answer = Frame::refusal(&id, unknown(&method)).to_text();
                        if socket.send(Outbound::Text(answer)).await.is_err() {
                            return;
                        }
                    }
                },
            }
        }
    }
}

async fn close<S, E>(socket: &mut S, code: u16, reason: &'static str)
where
    S: Sink<Outbound, Error = E> + Unpin,
{
    let _ = timeout(Duration::from_secs(1), socket.send(Outbound::Close(code, reason))).await;
}

fn unknown(method: &str) -> ApiError {
    let method: String = method.chars().take(MAX_WORD).collect();
    ApiError {
        code: Code::Unsupported,
        message: format!("no method `{method}`"),
        hint: Some("the agent protocol is described in docs/API.md".to_owned()),
    }
}

struct Refusal {
    id: Option<String>,
    error: ApiError,
}

fn read_hello(first: &Inbound, nonce: &Secret<String>) -> Result<(String, Hello), Refusal> {
    let refuse = |id: Option<&str>, code, message: &str| Refusal {
        id: id.map(str::to_owned),
        error: ApiError { code, message: message.to_owned(), hint: None },
    };
    let Inbound::Text(text) = first else {
        return Err(refuse(None, Code::Invalid, "the first frame is not a text frame"));
    };
    let Ok(Frame::Req { id, method, params }) = Frame::parse(text) else {
        return Err(refuse(None, Code::Invalid, "the first frame is not a request"));
    };
    if method != method::HELLO {
        return Err(refuse(Some(&id), Code::Invalid, "the first request is not agent.hello"));
    }
    let hello: Hello =
        serde_json::from_value(params).map_err(|error| refuse(Some(&id), Code::Invalid, &error.to_string()))?;
    if hello.protocol != 1 {
        return Err(refuse(Some(&id), Code::Unsupported, "protocol: this daemon speaks version 1"));
    }
    let fits = |text: &str| text.len() <= MAX_WORD && !text.chars().any(char::is_control);
    let words = [&hello.runtime, &hello.version];
    if !words.into_iter().chain(&hello.capabilities).all(|word| fits(word))
        || hello.capabilities.len() > MAX_CAPABILITIES
    {
        return Err(refuse(Some(&id), Code::TooLarge, "runtime, version or capabilities over their limits"));
    }
    if !bool::from(hello.nonce.as_bytes().ct_eq(nonce.expose().as_bytes())) {
        return Err(refuse(Some(&id), Code::Unauthenticated, "wrong nonce"));
    }
    Ok((id, hello))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Marks;
    use futures_util::future;
    use tokio::sync::mpsc::{Receiver, Sender};

    /// A socket made of two queues: what the test sends is what the agent said.
    fn wire()
    -> (Sender<Inbound>, Receiver<Outbound>, impl Stream<Item = Inbound> + Sink<Outbound, Error = ()> + Unpin + Send)
    {
        let (say, mut heard) = mpsc::channel::<Inbound>(16);
        let (tell, told) = mpsc::channel::<Outbound>(16);
        let stream = futures_util::stream::poll_fn(move |context| heard.poll_recv(context));
        let sink = futures_util::sink::unfold(tell, |tell, out: Outbound| async move {
            tell.send(out).await.map_err(|_| ())?;
            Ok::<_, ()>(tell)
        });
        (say, told, Pair { stream: Box::pin(stream), sink: Box::pin(sink) })
    }

    struct Pair<A, B> {
        stream: std::pin::Pin<Box<A>>,
        sink: std::pin::Pin<Box<B>>,
    }

    impl<A: Stream, B> Stream for Pair<A, B> {
        type Item = A::Item;
        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<A::Item>> {
            self.stream.as_mut().poll_next(context)
        }
    }

    impl<A, B: Sink<Outbound>> Sink<Outbound> for Pair<A, B> {
        type Error = B::Error;
        fn poll_ready(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), B::Error>> {
            self.sink.as_mut().poll_ready(context)
        }
        fn start_send(mut self: std::pin::Pin<&mut Self>, item: Outbound) -> Result<(), B::Error> {
            self.sink.as_mut().start_send(item)
        }
        fn poll_flush(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), B::Error>> {
            self.sink.as_mut().poll_flush(context)
        }
        fn poll_close(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), B::Error>> {
            self.sink.as_mut().poll_close(context)
        }
    }

    fn introduction() -> Introduction {
        Introduction { instance: None, config: serde_json::json!({}), beat: Duration::from_secs(5) }
    }

    fn hello(nonce: &str) -> Inbound {
        let params = serde_json::json!({"protocol": 1, "nonce": nonce, "runtime": "t", "version": "1"});
        Inbound::Text(Frame::request("1", method::HELLO, params).to_text())
    }

    fn beat() -> Inbound {
        Inbound::Text(Frame::event(event::BEAT, serde_json::json!({"uptime_ms": 1})).to_text())
    }

    async fn outcome(first: Inbound) -> Vec<Outbound> {
        let (links, slot) = (Links::new(Marks::new()), SlotId::mint());
        let (say, mut told, socket) = wire();
        say.send(first).await.unwrap();
        drop(say);
        run(&links, &slot, &Secret::new("right".to_owned()), &introduction(), socket).await;
        let mut out = Vec::new();
        while let Ok(frame) = told.try_recv() {
            out.push(frame);
        }
        assert!(links.state(&slot).is_none());
        out
    }

    #[tokio::test]
    async fn a_right_hello_is_welcomed() {
        let out = outcome(hello("right")).await;
        assert!(
            matches!(&out[..], [Outbound::Text(text)] if text.contains(r#""ok":true"#) && text.contains("beat_ms"))
        );
    }

    #[tokio::test]
    async fn whatever_is_not_a_right_hello_is_closed() {
        let word = |length: usize| {
            let params = serde_json::json!({"nonce": "right", "runtime": "r".repeat(length), "version": "1"});
            Inbound::Text(Frame::request("1", method::HELLO, params).to_text())
        };
        for first in [
            hello("wrong"),
            hello(""),
            Inbound::Text("{".to_owned()),
            beat(),
            Inbound::Pong,
            Inbound::Unfit("binary"),
            word(MAX_WORD + 1),
            Inbound::Text(Frame::request("1", "memory.get", serde_json::Value::Null).to_text()),
        ] {
            let out = outcome(first.clone()).await;
            assert!(matches!(out.last(), Some(Outbound::Close(CLOSE_REFUSED, _))), "{first:?}: {out:?}");
        }
        assert!(!matches!(outcome(word(MAX_WORD)).await.last(), Some(Outbound::Close(..))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_says_nothing_is_closed_in_time() {
        let (links, slot) = (Links::new(Marks::new()), SlotId::mint());
        let (_say, mut told, socket) = wire();
        let begun = tokio::time::Instant::now();
        run(&links, &slot, &Secret::new("right".to_owned()), &introduction(), socket).await;
        assert_eq!(begun.elapsed(), HELLO_TIMEOUT);
        assert!(matches!(told.try_recv(), Ok(Outbound::Close(CLOSE_NO_HELLO, _))));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_beat_wakes_and_silence_is_measured() {
        let marks = Marks::new();
        let (links, slot) = (Links::new(marks.clone()), SlotId::mint());
        let (say, _told, socket) = wire();
        let nonce = Secret::new("right".to_owned());
        let told = introduction();
        let session = run(&links, &slot, &nonce, &told, socket);
        let story = async {
            say.send(hello("right")).await.unwrap();
            say.send(beat()).await.unwrap();
            tokio::time::sleep(Duration::from_secs(7)).await;
            let state = links.state(&slot).unwrap();
            assert_eq!((state.beats, state.silent_for), (1, Duration::from_secs(7)));
            assert_eq!(marks.take(), vec![slot.clone()]);
            links.ping(&slot);
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(links.state(&slot).unwrap().ping_open_for, Some(Duration::from_secs(1)));
            say.send(Inbound::Pong).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!(links.state(&slot).unwrap().ping_open_for, None);
            drop(say);
        };
        future::join(session, story).await;
        assert_eq!(marks.take(), vec![slot.clone()], "the end of file wakes too");
        assert!(links.state(&slot).is_none());
    }

    #[tokio::test]
    async fn the_newest_connection_of_a_slot_counts() {
        let (links, slot) = (Links::new(Marks::new()), SlotId::mint());
        let nonce = Secret::new("right".to_owned());
        let told = introduction();
        let (say_old, mut told_old, old) = wire();
        let (say_new, _told_new, new) = wire();
        let story = async {
            say_old.send(hello("right")).await.unwrap();
            told_old.recv().await.unwrap();
            tokio::task::yield_now().await;
            say_new.send(hello("right")).await.unwrap();
            assert!(matches!(told_old.recv().await, Some(Outbound::Close(CLOSE_REPLACED, _))));
            assert!(links.state(&slot).is_some());
            drop(say_new);
        };
        future::join3(run(&links, &slot, &nonce, &told, old), run(&links, &slot, &nonce, &told, new), story).await;
    }
}
