//! A daemon that also has a model: one socket, links and calls of the model apart.

use std::path::Path;
use std::time::Duration;

use agentbot_wire::{AgentPolicy, Frame, MAX_FRAME, Welcome};
use nix::sys::socket::{MsgFlags, recv};
use serde_json::{Value, json};
use std::os::fd::AsRawFd;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::daemon::{Agent, Link, PATIENCE, Slot};

/// A call of the model: what was asked, and the connection to answer on.
pub struct Call {
    pub head: String,
    pub body: Value,
    /// The length of the body in bytes.
    pub length: usize,
    stream: UnixStream,
}

impl Call {
    async fn read(mut stream: UnixStream) -> Option<Self> {
        let mut bytes = Vec::new();
        let end = loop {
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let lower = head.to_lowercase();
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        let mut body = bytes.split_off(end);
        while body.len() < length {
            stream.read_buf(&mut body).await.ok()?;
        }
        Some(Self { head, body: serde_json::from_slice(&body).unwrap(), length, stream })
    }

    /// The contents of the messages that were asked with, by role.
    pub fn messages(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let messages = self.body["messages"].as_array().unwrap();
        messages.iter().map(|message| (text(&message["role"]), text(&message["content"]))).collect()
    }

    async fn write(&mut self, text: &str) -> bool {
        self.stream.write_all(text.as_bytes()).await.is_ok()
    }

    /// A whole response that is no stream.
    pub async fn answer(mut self, status: &str, body: &str) {
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n", body.len());
        self.write(&format!("{head}\r\n{body}")).await;
    }

    /// Begins a stream.
    pub async fn begin(&mut self) {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        self.write(head).await;
    }

    /// Bytes of the stream as they are; `false` when nobody takes them.
    pub async fn raw(&mut self, text: &str) -> bool {
        self.write(&format!("{:x}\r\n{text}\r\n", text.len())).await
    }

    pub async fn event(&mut self, value: &Value) -> bool {
        self.raw(&format!("data: {value}\n\n")).await
    }

    pub async fn text(&mut self, text: &str) -> bool {
        self.event(&json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]})).await
    }

    pub async fn finish(mut self, reason: &str) {
        self.event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})).await;
        self.raw("data: [DONE]\n\n").await;
        self.end().await;
    }

    /// Ends the response.
    pub async fn end(mut self) {
        self.write("0\r\n\r\n").await;
    }

    /// Streams `text` in pieces of three bytes and ends.
    pub async fn say(mut self, text: &str) {
        self.begin().await;
        for piece in text.as_bytes().chunks(3) {
            self.text(std::str::from_utf8(piece).unwrap()).await;
        }
        self.finish("stop").await;
    }

    /// Asks for tools: name and arguments of each.
    pub async fn use_tools(mut self, calls: &[(&str, Value)]) {
        self.begin().await;
        for (index, (name, arguments)) in calls.iter().enumerate() {
            let text = match arguments {
                Value::String(text) => text.clone(),
                arguments => arguments.to_string(),
            };
            let (one, two) = text.split_at(text.floor_char_boundary(text.len() / 2));
            let first = json!({"index": index, "id": format!("c{index}"), "type": "function",
                "function": {"name": name, "arguments": one}});
            let second = json!({"index": index, "function": {"arguments": two}});
            for piece in [first, second] {
                self.event(&json!({"choices": [{"index": 0, "delta": {"tool_calls": [piece]}}]})).await;
            }
        }
        self.finish("tool_calls").await;
    }

    /// Whether the agent gave the call up.
    pub async fn is_dropped(&mut self) -> bool {
        timeout(PATIENCE, self.stream.read(&mut [0])).await.is_ok_and(|read| matches!(read, Ok(0) | Err(_)))
    }

    /// Ends the connection in the middle.
    pub fn cut(self) {
        drop(self);
    }
}

/// The daemon's listener: sorts what comes in.
pub struct Door {
    links: mpsc::Receiver<UnixStream>,
    calls: mpsc::Receiver<Call>,
    _tasks: JoinSet<()>,
}

impl Door {
    pub fn open(listener: UnixListener) -> Self {
        let ((link, links), (call, calls)) = (mpsc::channel(16), mpsc::channel(16));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut first = [0; 4];
                let peeked = loop {
                    let peek = || Ok(recv(stream.as_raw_fd(), &mut first, MsgFlags::MSG_PEEK)?);
                    match stream.try_io(Interest::READABLE, peek) {
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                            if stream.readable().await.is_err() {
                                break None;
                            }
                        }
                        peeked => break peeked.ok(),
                    }
                };
                if matches!(peeked, None | Some(0)) {
                    // Whoever connected died before it said anything.
                    continue;
                }
                if peeked == Some(4) && &first == b"POST" {
                    if let Some(read) = Call::read(stream).await {
                        let _ = call.send(read).await;
                    }
                } else {
                    let _ = link.send(stream).await;
                }
            }
        });
        Self { links, calls, _tasks: tasks }
    }

    pub async fn call(&mut self) -> Call {
        timeout(PATIENCE, self.calls.recv()).await.expect("the model is not asked").unwrap()
    }

    pub fn nobody_calls(&mut self) -> bool {
        self.calls.try_recv().is_err()
    }

    pub async fn link(&mut self) -> Link {
        let stream = timeout(PATIENCE, self.links.recv()).await.expect("nobody connects").unwrap();
        Link::upgrade(stream).await
    }
}

/// An agent with a daemon, a model and a workspace.
pub struct Stage {
    pub slot: Slot,
    pub workspace: TempDir,
    pub config: Value,
    pub beat_ms: u64,
    pub door: Door,
    pub agent: Agent,
    pub link: Link,
}

pub fn turn(number: u32) -> String {
    format!("trn_{number:026}")
}

pub fn message(seq: u64, sender: &str, content: &str, turn: &str) -> Value {
    json!({"id": format!("msg_{seq:026}"), "agentId": format!("ins_{:026}", 1), "conversation": format!("cnv_{:026}", 1),
        "sender": sender, "content": content, "timestamp": "2026-01-02T03:04:05Z", "platform": "ws", "seq": seq,
        "turn": turn})
}

impl Stage {
    pub async fn set(config: Value) -> Self {
        Self::beating(config, 60_000).await
    }

    /// One whose agent beats so often.
    pub async fn beating(config: Value, beat_ms: u64) -> Self {
        let (slot, workspace) = (Slot::new(), tempfile::tempdir().unwrap());
        let mut door = Door::open(slot.listen());
        let agent = Agent::watch(command(&slot, workspace.path()).spawn().unwrap());
        let link = welcomed(&mut door, &config, beat_ms).await;
        Self { slot, workspace, config, beat_ms, door, agent, link }
    }

    /// Takes the agent's next connection as the link.
    pub async fn relink(&mut self) {
        self.link = welcomed(&mut self.door, &self.config, self.beat_ms).await;
    }

    /// Kills the agent and starts another process in the same workspace.
    pub async fn kill_and_start(&mut self) {
        self.agent.signal(nix::sys::signal::Signal::SIGKILL);
        self.agent.exit().await;
        self.agent = Agent::watch(command(&self.slot, self.workspace.path()).spawn().unwrap());
        self.relink().await;
    }

    pub async fn run(&mut self, number: u32, text: &str) -> Frame {
        self.run_in(number, message(1, "user", text, &turn(number))).await
    }

    /// Asks for a turn; the answer.
    pub async fn run_in(&mut self, number: u32, message: Value) -> Frame {
        let id = format!("r{number}");
        let params = json!({"turn": turn(number), "message": message, "attempt": 1});
        self.link.send(&Frame::request(&id, "turn.run", params)).await;
        loop {
            match self.next().await {
                frame @ Frame::Res { .. } => return frame,
                Frame::Req { .. } | Frame::Event { .. } => {}
            }
        }
    }

    /// Asks for a turn that is taken, and gives it an empty history.
    pub async fn begin(&mut self, number: u32, text: &str) {
        let taken = self.run(number, text).await;
        assert_eq!(taken, Frame::answer(&format!("r{number}"), json!({})));
        self.history(json!([])).await;
    }

    /// Answers the request for the conversation's history.
    pub async fn history(&mut self, messages: Value) -> Value {
        self.serve("chat.history", json!({"messages": messages, "more": false})).await
    }

    /// Answers the agent's next request, which must be for `method`; its params.
    pub async fn serve(&mut self, method: &str, payload: Value) -> Value {
        loop {
            match self.next().await {
                Frame::Req { id, method: asked, params } => {
                    assert_eq!(asked, method);
                    self.link.send(&Frame::answer(&id, payload)).await;
                    return params;
                }
                Frame::Event { event, .. } if event == "turn.tool" => {}
                other => panic!("no request but {other:?}"),
            }
        }
    }

    /// The next frame that is no beat.
    pub async fn next(&mut self) -> Frame {
        loop {
            match self.link.frame().await {
                Frame::Event { event, .. } if event == "agent.beat" => {}
                frame => return frame,
            }
        }
    }

    /// The next event, its name and payload.
    pub async fn event(&mut self) -> (String, Value) {
        match self.next().await {
            Frame::Event { event, payload, .. } => (event, payload),
            other => panic!("no event but {other:?}"),
        }
    }

    /// Listens to a turn until its end: what its pieces said, and the last event.
    pub async fn listen(&mut self) -> (String, String, Value) {
        let mut heard = String::new();
        loop {
            let (event, payload) = self.event().await;
            match event.as_str() {
                "turn.delta" if payload["snapshot"] == true => heard = payload["text"].as_str().unwrap().to_owned(),
                "turn.delta" => heard.push_str(payload["text"].as_str().unwrap()),
                "turn.tool" => {}
                _ => return (heard, event, payload),
            }
        }
    }

    /// Listens to a turn that fails; its fault.
    pub async fn fault(&mut self) -> Value {
        let (_, event, payload) = self.listen().await;
        assert_eq!(event, "turn.failed", "{payload}");
        payload["error"].clone()
    }

    /// Listens to a turn that is answered; the answer.
    pub async fn done(&mut self) -> String {
        let (heard, event, payload) = self.listen().await;
        assert_eq!(event, "turn.done", "{payload}");
        let text = payload["text"].as_str().unwrap();
        assert_eq!(heard, text, "the pieces are the answer");
        text.to_owned()
    }

    /// The uptime that the next beat tells; what else comes is passed over.
    pub async fn beat(&mut self) -> u64 {
        loop {
            if let Frame::Event { event, payload, .. } = self.link.frame().await
                && event == "agent.beat"
            {
                return payload["uptime_ms"].as_u64().unwrap();
            }
        }
    }

    /// Nothing but beats comes for a while.
    pub async fn is_silent(&mut self) -> bool {
        timeout(Duration::from_millis(150), self.next()).await.is_err()
    }
}

pub fn command(slot: &Slot, workspace: &Path) -> Command {
    let mut command = slot.command();
    command.env("AGENTBOT_WORKSPACE", workspace);
    command
}

async fn welcomed(door: &mut Door, config: &Value, beat_ms: u64) -> Link {
    let mut link = door.link().await;
    let (id, _) = link.hello().await;
    let policy = AgentPolicy { max_frame: MAX_FRAME, beat_ms };
    let (name, model) = (Some("scout".parse().unwrap()), Some("builtin/basic".to_owned()));
    let welcome = Welcome { protocol: 1, instance: None, name, model, config: config.clone(), policy };
    link.send(&Frame::answer(&id, serde_json::to_value(welcome).unwrap())).await;
    link.beat().await;
    link
}
