//! Conversations over a socket made of two queues.

use super::*;
use crate::task::Marks;
use futures_util::future;
use tokio::sync::mpsc::{Receiver, Sender};

/// A socket made of two queues: what the test sends is what the agent said, and the agent takes `room` frames
/// unread.
fn wire_with(
    room: usize,
) -> (Sender<Inbound>, Receiver<Outbound>, impl Stream<Item = Inbound> + Sink<Outbound, Error = ()> + Unpin + Send) {
    let (say, mut heard) = mpsc::channel::<Inbound>(16);
    let (tell, told) = mpsc::channel::<Outbound>(room);
    let stream = futures_util::stream::poll_fn(move |context| heard.poll_recv(context));
    let sink = futures_util::sink::unfold(tell, |tell, out: Outbound| async move {
        tell.send(out).await.map_err(|_| ())?;
        Ok::<_, ()>(tell)
    });
    (say, told, Pair { stream: Box::pin(stream), sink: Box::pin(sink) })
}

fn wire()
-> (Sender<Inbound>, Receiver<Outbound>, impl Stream<Item = Inbound> + Sink<Outbound, Error = ()> + Unpin + Send) {
    wire_with(16)
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
    let config = serde_json::json!({});
    Introduction { instance: None, name: None, model: None, config, beat: Duration::from_secs(5) }
}

/// Nobody listens: these agents have no instance.
struct Deaf;

#[async_trait::async_trait]
impl Ears for Deaf {
    fn joined(&self, _: &Speaker) {}
    fn left(&self, _: &Speaker) {}
    fn event(&self, _: &Speaker, _: &str, _: Value) {}
    async fn request(&self, _: &Speaker, method: &str, _: Value) -> crate::error::Result<Value> {
        Err(unknown(method).into())
    }
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
    run(&links, &Deaf, &slot, &Secret::new("right".to_owned()), &introduction(), socket).await;
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
    assert!(matches!(&out[..], [Outbound::Text(text)] if text.contains(r#""ok":true"#) && text.contains("beat_ms")));
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
        Inbound::Unfit(1003, "binary"),
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
    run(&links, &Deaf, &slot, &Secret::new("right".to_owned()), &introduction(), socket).await;
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
    let session = run(&links, &Deaf, &slot, &nonce, &told, socket);
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
    future::join3(run(&links, &Deaf, &slot, &nonce, &told, old), run(&links, &Deaf, &slot, &nonce, &told, new), story)
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_does_not_read_is_closed_in_time() {
    let (links, slot) = (Links::new(Marks::new()), SlotId::mint());
    let (say, _told, socket) = wire_with(1);
    say.send(hello("right")).await.unwrap();
    let ask = Inbound::Text(Frame::request("2", "memory.get", serde_json::Value::Null).to_text());
    say.send(ask).await.unwrap();
    let begun = tokio::time::Instant::now();
    run(&links, &Deaf, &slot, &Secret::new("right".to_owned()), &introduction(), socket).await;
    assert_eq!(begun.elapsed(), SEND_TIMEOUT + CLOSE_TIMEOUT);
    assert_eq!(links.dropped(), (0, 1));
    assert!(links.state(&slot).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_replaced_or_closed_ends_though_its_agent_does_not_read() {
    let nonce = Secret::new("right".to_owned());
    let told = introduction();
    for replaced in [true, false] {
        let (links, slot) = (Links::new(Marks::new()), SlotId::mint());
        let (say, _told, old) = wire_with(1);
        say.send(hello("right")).await.unwrap();
        let story = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            links.ping(&slot);
            tokio::time::sleep(Duration::from_millis(1)).await;
            if replaced {
                let _newer = links.join(&slot, hello_of("newer"), told.beat);
            } else {
                links.close(&slot);
            }
            tokio::time::Instant::now()
        };
        let session = async {
            run(&links, &Deaf, &slot, &nonce, &told, old).await;
            tokio::time::Instant::now()
        };
        let (ended, ordered) = future::join(session, story).await;
        assert!(ended - ordered <= CLOSE_TIMEOUT, "replaced {replaced}: {:?}", ended - ordered);
        assert_eq!(links.state(&slot).is_some(), replaced, "the newer one stays");
    }
}

fn hello_of(runtime: &str) -> Hello {
    Hello {
        protocol: 1,
        nonce: "right".to_owned(),
        runtime: runtime.to_owned(),
        version: "1".to_owned(),
        capabilities: Vec::new(),
        boot: None,
    }
}

#[test]
fn what_a_bad_hello_says_is_cut_for_the_agent_and_kept_from_the_log() {
    let text = "x".repeat(200_000);
    let params = serde_json::json!({"protocol": text, "nonce": "right", "runtime": "t", "version": "1"});
    let first = Inbound::Text(Frame::request("1", method::HELLO, params).to_text());
    let Err(refusal) = read_hello(&first, &Secret::new("right".to_owned())) else { panic!("let in") };
    assert_eq!(refusal.reason, "the params of hello are not of its shape");
    assert_eq!(refusal.error.message.chars().count(), MAX_ECHO);
}
