//! One link from hello to its end.

use std::time::Duration;

use agentbot_wire::{ApiError, Code, Frame, Welcome, method};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::Error as WsError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::{Ended, LinkConfig, protocol, told};
use crate::log::Log;
use crate::turn::Desk;

/// The daemon has this long to answer hello.
const HELLO_LIMIT: Duration = Duration::from_secs(10);

/// A frame is written within this time, or the daemon is stuck and the link is given up.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// The event that says that the agent's configuration was changed.
const CONFIG_CHANGED: &str = "config.changed";

/// A closing word is worth this much time.
const CLOSE_LIMIT: Duration = Duration::from_millis(100);

/// Says hello and serves the link until it ends. `greeted` turns true with the daemon's welcome.
pub async fn run<S>(
    stream: WebSocketStream<S>,
    nonce: String,
    config: &LinkConfig,
    desk: &Desk,
    stopped: &mut watch::Receiver<bool>,
    log: &Log,
    greeted: &mut bool,
) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut link = Link { stream, desk, log, garbage: false, frames: Vec::new() };
    let served = tokio::select! {
        ended = link.serve(nonce, config, greeted) => ended,
        () = told(stopped) => Ended::Stopped,
    };
    let code = match &served {
        Ended::Stopped => CloseCode::Away,
        Ended::Lost(_) | Ended::Refused(_) => CloseCode::Policy,
    };
    link.close(code).await;
    served
}

struct Link<'a, S> {
    stream: WebSocketStream<S>,
    desk: &'a Desk,
    log: &'a Log,
    garbage: bool,
    /// What goes out with the next write.
    frames: Vec<Frame>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<'_, S> {
    async fn serve(&mut self, nonce: String, config: &LinkConfig, greeted: &mut bool) -> Ended {
        let welcome = match timeout(HELLO_LIMIT, self.greet(nonce, &config.boot)).await {
            Ok(Ok(welcome)) => welcome,
            Ok(Err(ended)) => return ended,
            Err(_) => return Ended::Lost(format!("no answer to hello within {} s", HELLO_LIMIT.as_secs())),
        };
        *greeted = true;
        match &welcome.instance {
            Some(instance) => self.log.info(&format!("connected as {instance}")),
            None => self.log.info("connected, waiting for an instance"),
        }
        self.desk.joined(&welcome);
        let period = protocol::beat_period(&welcome.policy);
        let mut beats = interval_at(Instant::now() + period, period);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first beat is at once and before all else: with it the agent counts as running.
        self.beat(config);
        loop {
            self.desk.take(&mut self.frames);
            if let Err(ended) = self.write().await {
                return ended;
            }
            self.desk.flushed();
            tokio::select! {
                // A flood of frames never holds a beat up, and what turns say, which is little at a time, goes before
                // what is asked.
                biased;
                _ = beats.tick() => {
                    self.desk.forsake();
                    self.beat(config);
                }
                () = self.desk.due() => {}
                frame = hear(&mut self.stream, self.log, &mut self.garbage) => match frame {
                    Ok(frame) => self.heard(frame),
                    Err(ended) => return ended,
                },
            }
        }
    }

    fn beat(&mut self, config: &LinkConfig) {
        self.frames.push(protocol::beat(config.started.elapsed(), self.desk.turns()));
    }

    async fn greet(&mut self, nonce: String, boot: &str) -> Result<Welcome, Ended> {
        self.frames.push(protocol::hello(nonce, boot));
        self.write().await?;
        loop {
            let frame = hear(&mut self.stream, self.log, &mut self.garbage).await?;
            if let Some(welcome) = protocol::welcome(&frame) {
                return welcome;
            }
            self.heard(frame);
            self.write().await?;
        }
    }

    /// Takes a frame. Its answer goes out with the next write.
    fn heard(&mut self, frame: Frame) {
        match frame {
            Frame::Req { id, method, params } => {
                let done = match method.as_str() {
                    method::TURN_RUN => self.desk.run(params),
                    method::TURN_CANCEL => self.desk.cancel(params),
                    method::DRAIN => {
                        self.log.info("asked to drain");
                        return self.desk.drain(id);
                    }
                    other => {
                        self.log.info(&format!("asked for {other}, which is not known"));
                        return self.frames.push(protocol::unknown(&id, other));
                    }
                };
                self.frames.push(match done {
                    Ok(payload) => Frame::answer(&id, payload),
                    Err(error) => Frame::refusal(&id, error),
                });
            }
            Frame::Res { id, ok: true, payload, .. } => self.desk.answered(&id, Ok(payload.unwrap_or_default())),
            Frame::Res { id, error, .. } => self.desk.answered(&id, Err(error.unwrap_or_else(no_reason))),
            Frame::Event { event, payload, .. } if event == CONFIG_CHANGED => self.desk.changed(&payload),
            Frame::Event { .. } => {}
        }
    }

    /// Sends what is to go out, in one write.
    async fn write(&mut self) -> Result<(), Ended> {
        if self.frames.is_empty() {
            return Ok(());
        }
        let written = async {
            for frame in self.frames.drain(..) {
                self.stream.feed(Message::text(frame.to_text())).await?;
            }
            self.stream.flush().await
        };
        match timeout(SEND_LIMIT, written).await {
            Ok(sent) => sent.map_err(|error| lost(&error)),
            Err(_) => Err(Ended::Lost(format!("the daemon read nothing for {} s", SEND_LIMIT.as_secs()))),
        }
    }

    async fn close(&mut self, code: CloseCode) {
        let word = CloseFrame { code, reason: "".into() };
        // The link ends either way.
        let _ = timeout(CLOSE_LIMIT, self.stream.close(Some(word))).await;
    }
}

/// The next frame. Pings are answered by the library; what is no frame is dropped, with a word about the first.
async fn hear<S>(stream: &mut WebSocketStream<S>, log: &Log, garbage: &mut bool) -> Result<Frame, Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let why = match stream.next().await {
            None => return Err(Ended::Lost("the daemon closed the link".to_owned())),
            Some(Err(error)) => return Err(lost(&error)),
            Some(Ok(Message::Text(text))) => match Frame::parse(&text) {
                Ok(frame) => return Ok(frame),
                Err(error) => error.to_string(),
            },
            Some(Ok(Message::Binary(_))) => "binary data".to_owned(),
            Some(Ok(Message::Close(frame))) => return Err(Ended::Lost(closed(frame))),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
        };
        if !std::mem::replace(garbage, true) {
            log.warn(&format!("the daemon sent what is no frame, dropped: {why}"));
        }
    }
}

fn no_reason() -> ApiError {
    ApiError { code: Code::Internal, message: "the daemon gave no reason".to_owned(), hint: None }
}

fn closed(frame: Option<CloseFrame>) -> String {
    match frame {
        Some(CloseFrame { code, reason }) if !reason.is_empty() => {
            format!("the daemon closed the link: {reason} ({code})")
        }
        Some(CloseFrame { code, .. }) => format!("the daemon closed the link ({code})"),
        None => "the daemon closed the link".to_owned(),
    }
}

fn lost(error: &WsError) -> Ended {
    Ended::Lost(format!("lost the daemon: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    use agentbot_wire::{AgentPolicy, MAX_FRAME};
    use serde_json::json;
    use tokio::io::{DuplexStream, duplex};
    use tokio::time::sleep;
    use tokio_tungstenite::tungstenite::protocol::Role;

    /// A daemon at the other end of a pipe in memory.
    struct Daemon(WebSocketStream<DuplexStream>);

    impl Daemon {
        async fn frame(&mut self) -> Frame {
            loop {
                if let Message::Text(text) = self.0.next().await.unwrap().unwrap() {
                    return Frame::parse(&text).unwrap();
                }
            }
        }

        async fn welcome(&mut self, beat_ms: u64) {
            let Frame::Req { id, .. } = self.frame().await else { panic!("no hello") };
            let policy = AgentPolicy { max_frame: MAX_FRAME, beat_ms };
            let welcome = Welcome { protocol: 1, instance: None, name: None, model: None, config: json!({}), policy };
            self.send(&Frame::answer(&id, serde_json::to_value(welcome).unwrap())).await;
        }

        async fn send(&mut self, frame: &Frame) {
            self.0.send(Message::text(frame.to_text())).await.unwrap();
        }
    }

    async fn pair() -> (WebSocketStream<DuplexStream>, Daemon) {
        let (near, far) = duplex(1024);
        (
            WebSocketStream::from_raw_socket(near, Role::Client, None).await,
            Daemon(WebSocketStream::from_raw_socket(far, Role::Server, None).await),
        )
    }

    /// Runs one link against `story` until either ends; says how the link ended, if it did.
    async fn link<F: Future<Output = ()>>(story: impl FnOnce(Daemon, watch::Sender<bool>) -> F) -> Option<Ended> {
        let (stream, daemon) = pair().await;
        let (stop, mut stopped) = watch::channel(false);
        let config = LinkConfig { socket: PathBuf::new(), started: Instant::now(), boot: "b".to_owned() };
        let (desk, _jobs) = Desk::new();
        let (log, mut greeted) = (Log::silent(), false);
        tokio::select! {
            biased;
            ended = run(stream, "n".to_owned(), &config, &desk, &mut stopped, &log, &mut greeted) => Some(ended),
            () = story(daemon, stop) => None,
        }
    }

    /// Keeps the daemon's end open for ever.
    async fn hang(_daemon: Daemon) {
        std::future::pending().await
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_beat_comes_at_once_and_then_one_per_period() {
        let ended = link(async |mut daemon, _stop| {
            daemon.welcome(5000).await;
            let begun = Instant::now();
            for expected in [0, 5, 10] {
                assert!(matches!(daemon.frame().await, Frame::Event { event, .. } if event == "agent.beat"));
                assert_eq!(begun.elapsed().as_secs(), expected);
            }
        });
        assert_eq!(ended.await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unanswered_hello_is_given_up_after_ten_seconds_and_not_before() {
        let begun = Instant::now();
        let ended = link(async |daemon, _stop| hang(daemon).await).await;
        assert!(matches!(ended, Some(Ended::Lost(why)) if why.contains("hello")));
        // The closing word may take its time too.
        let waited = begun.elapsed();
        assert!(waited >= HELLO_LIMIT && waited <= HELLO_LIMIT + CLOSE_LIMIT, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_just_in_time_is_taken() {
        let ended = link(async |mut daemon, _stop| {
            sleep(HELLO_LIMIT - Duration::from_millis(1)).await;
            daemon.welcome(5000).await;
            daemon.frame().await;
        });
        assert_eq!(ended.await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_reads_nothing_is_given_up() {
        let ended = link(async |mut daemon, _stop| {
            daemon.welcome(10).await;
            hang(daemon).await;
        });
        assert!(matches!(ended.await, Some(Ended::Lost(why)) if why.contains("read nothing")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_requests_does_not_hold_beats_up() {
        let ended = link(async |mut daemon, _stop| {
            daemon.welcome(1000).await;
            daemon.frame().await;
            let mut beats = 0;
            for number in 0..300 {
                daemon.send(&Frame::request(&number.to_string(), "turn.run", json!({}))).await;
                if matches!(daemon.frame().await, Frame::Event { .. }) {
                    beats += 1;
                }
                sleep(Duration::from_millis(10)).await;
            }
            assert!(beats >= 2, "{beats}");
        });
        assert_eq!(ended.await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn garbage_is_dropped_and_the_link_goes_on() {
        let ended = link(async |mut daemon, _stop| {
            daemon.welcome(5000).await;
            daemon.frame().await;
            for garbage in [Message::text("}{"), Message::text("{}"), Message::binary(vec![0xff; 100])] {
                daemon.0.send(garbage).await.unwrap();
            }
            daemon.send(&Frame::request("1", "agent.drain", json!({}))).await;
            assert_eq!(daemon.frame().await, Frame::answer("1", json!({})));
        });
        assert_eq!(ended.await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_says_goodbye() {
        let ended = link(async |mut daemon, stop| {
            daemon.welcome(5000).await;
            daemon.frame().await;
            stop.send(true).unwrap();
            let Message::Close(Some(word)) = daemon.0.next().await.unwrap().unwrap() else { panic!("no goodbye") };
            assert_eq!(word.code, CloseCode::Away);
            hang(daemon).await;
        });
        assert_eq!(ended.await, Some(Ended::Stopped));
    }
}
