//! Row 15: the agent by itself.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agentbot_tests::{Home, agent_binary};
use agentbot_wire::{AGENT_PROTOCOL, Frame, method};
use futures_util::StreamExt;
use tokio::net::UnixListener;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use crate::figures::{PAIRS, Table, Target, median, ms};

const DEADLINE: Duration = Duration::from_secs(10);
const MB: f64 = 1e6;

/// Starts the agent and waits for its hello.
async fn once(listener: &UnixListener, socket: &Path) -> f64 {
    let begun = Instant::now();
    let mut child = Command::new(agent_binary())
        .env_clear()
        .env("AGENTBOT_SOCKET", socket)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the agent can be started");
    let hello = async {
        let (stream, _) = listener.accept().await.expect("a connection");
        // The shape of this callback is the library's.
        #[allow(clippy::result_large_err)]
        let protocol = |_: &Request, mut response: Response| {
            response.headers_mut().insert("sec-websocket-protocol", AGENT_PROTOCOL.parse().expect("a fixed value"));
            Ok(response)
        };
        let mut link = accept_hdr_async(stream, protocol).await.expect("an upgrade");
        let first = link.next().await.expect("a frame").expect("a whole frame");
        let frame = Frame::parse(first.to_text().expect("text")).expect("a frame");
        assert!(matches!(&frame, Frame::Req { method: name, .. } if name == method::HELLO), "{frame:?}");
        ms(begun.elapsed())
    };
    let time = tokio::time::timeout(DEADLINE, hello).await;
    let _ = child.kill();
    let _ = child.wait();
    time.expect("the agent says hello")
}

pub async fn start_to_hello(table: &mut Table) {
    let home = Home::new();
    let socket = home.path().join("agentbot.sock");
    let listener = UnixListener::bind(&socket).expect("a socket for the agent");
    std::fs::write(home.path().join("nonce"), "0".repeat(64)).expect("a nonce");
    let mut times = Vec::new();
    for _ in 0..PAIRS {
        times.push(once(&listener, &socket).await);
    }
    let size = std::fs::metadata(agent_binary()).expect("the agent was built").len();
    let megabytes = size as f64 / MB;
    table.figure(15, "agent image (one file)", megabytes, "MB", Target::AtMost(4.0));
    table.figure(15, "agent, exec to hello", median(times), "ms", Target::AtMost(20.0));
}
