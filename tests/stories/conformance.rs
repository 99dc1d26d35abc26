//! T30: what RFC 6455 asks of a server, by the byte, at every WebSocket of ours. The cases restate the groups 1 to 7, 9
//! and 10 of the Autobahn test suite; its echo is here a request that is refused by name.

mod cases;
mod closing;
mod fragments;
mod framing;
mod utf8;

use std::time::Duration;

use agentbot_tests::{Daemon, Got, RawFrame, RawSocket, Seat, Setup, agent_stream, figure};
use agentbot_wire::{AGENT_PROTOCOL, CHAT_PROTOCOL, Phase};
use cases::{Case, Step, Want};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};

const LIMIT: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(60);
/// A server that is closed to has this long to end the stream.
const CUT: Duration = Duration::from_secs(5);

/// Every case of every group.
fn all() -> Vec<Case> {
    let groups = [
        framing::lengths(),
        framing::pings(),
        framing::reserved_bits(),
        framing::opcodes(),
        fragments::fragmentation(),
        utf8::sequences(),
        utf8::at_borders(),
        closing::closes(),
        closing::codes(),
        fragments::limits(),
    ];
    groups.into_iter().flatten().collect()
}

/// The next thing that counts: pings of the daemon are its own affair.
async fn next<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut RawSocket<S>) -> Got {
    loop {
        match socket.next(LIMIT).await {
            Got::Ping(_) => {}
            got => return got,
        }
    }
}

/// Plays a case on an upgraded connection that has said its first frame; gives what was wrong.
async fn play<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut RawSocket<S>, case: &Case) -> Result<(), String> {
    for step in &case.send {
        // A server that has closed need not take the rest.
        let _ = match step {
            Step::Frame(frame) => socket.send(frame).await,
            Step::Slowly(frame) => socket.send_slowly(frame).await,
            Step::Chopped(frame, size) => {
                let mut whole = true;
                for chunk in frame.bytes().chunks(*size) {
                    whole = whole && socket.send_bytes(chunk).await;
                    tokio::task::yield_now().await;
                }
                whole
            }
        };
    }
    let mut closed = false;
    for (at, want) in case.want.iter().enumerate() {
        // A connection that ends need not answer what came just before.
        let next_close = match case.want.get(at + 1) {
            Some(Want::Close(codes)) => *codes,
            _ => &[],
        };
        if closed {
            break;
        }
        let got = next(socket).await;
        let fits = match (want, &got) {
            (Want::Answer(id), Got::Text(text)) => {
                let frame: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
                frame["type"] == "res" && frame["id"] == id.as_str() && frame["error"]["code"] == "unsupported"
            }
            (Want::Pong(payload), Got::Pong(pong)) => payload == pong,
            (Want::Close(codes), Got::Close(Some(code))) => codes.contains(code),
            (Want::EmptyClose, Got::Close(None | Some(1000))) => true,
            _ => false,
        };
        let fits = fits || matches!(got, Got::Close(Some(code)) if next_close.contains(&code));
        closed = matches!(got, Got::Close(_));
        if !fits {
            return Err(format!("{want:?} was wanted, not {got:.200?}"));
        }
    }
    if !closed {
        socket.send(&RawFrame::new(agentbot_tests::opcode::PING, "alive?")).await;
        let got = next(socket).await;
        if got != Got::Pong(b"alive?".to_vec()) {
            return Err(format!("the connection should go on, not {got:?}"));
        }
        socket.send(&RawFrame::close(1000, "")).await;
        let got = next(socket).await;
        if got != Got::Close(Some(1000)) {
            return Err(format!("a close is answered with its own code, not {got:?}"));
        }
    }
    if socket.is_cut(CUT).await { Ok(()) } else { Err("the stream goes on after the close".to_owned()) }
}

fn report(door: &str, outcomes: Vec<(Case, Result<(), String>)>) {
    let count = outcomes.len();
    let wrong: Vec<String> = outcomes
        .into_iter()
        .filter_map(|(case, outcome)| outcome.err().map(|why| format!("{}: {why}", case.name)))
        .collect();
    assert!(wrong.is_empty(), "{} of {count} cases at {door} failed:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 180, "{count} cases");
    figure(format!("{count} cases passed at {door}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chat_socket_keeps_rfc_6455_at_both_doors() {
    let (setup, door) = Setup::scripted().tcp();
    let daemon = Daemon::start(setup).await;
    daemon.provision("helper").await;
    let token = daemon.token("helper").await;
    let hello = RawFrame::text(r#"{"type":"req","id":"0","method":"connect","params":{"version":1}}"#);
    let mut outcomes = Vec::new();
    for case in all() {
        let opened = RawSocket::unix(&daemon.home().socket(), "/api/chat/ws", CHAT_PROTOCOL).await;
        let mut socket = opened.expect("an upgrade");
        socket.send(&hello).await;
        assert!(matches!(next(&mut socket).await, Got::Text(answer) if answer.contains("\"ok\":true")));
        let outcome = play(&mut socket, &case).await;
        outcomes.push((case, outcome));
    }
    report("the admin socket", outcomes);

    let mut outcomes = Vec::new();
    let offer = format!("{CHAT_PROTOCOL}, token.{token}");
    for case in all() {
        let opened = RawSocket::tcp(door, "/api/chat/ws", &[("sec-websocket-protocol", &offer)]).await;
        let mut socket = opened.expect("an upgrade");
        socket.send(&hello).await;
        assert!(matches!(next(&mut socket).await, Got::Text(answer) if answer.contains("\"ok\":true")));
        let outcome = play(&mut socket, &case).await;
        outcomes.push((case, outcome));
    }
    report("the TCP door", outcomes);
    daemon.purge("helper").await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_socket_keeps_rfc_6455() {
    let daemon = Daemon::start(Setup::scripted()).await;
    daemon.provision("helper").await;
    let seat = Seat::of(&daemon, "helper").await;
    let params = json!({ "nonce": seat.nonce, "runtime": "raw", "version": "0", "boot": "raw" });
    let hello = json!({ "type": "req", "id": "0", "method": "agent.hello", "params": params }).to_string();
    let bearer = format!("Bearer {}", seat.nonce);
    let headers = [("sec-websocket-protocol", AGENT_PROTOCOL), ("authorization", bearer.as_str())];
    let mut outcomes = Vec::new();
    for case in all() {
        let (stream, _helper) = agent_stream(&seat).await;
        let mut socket = RawSocket::upgrade(stream, "/agent/ws", &headers).await.expect("an upgrade");
        socket.send(&RawFrame::text(hello.clone())).await;
        assert!(matches!(next(&mut socket).await, Got::Text(answer) if answer.contains("\"ok\":true")));
        let outcome = play(&mut socket, &case).await;
        outcomes.push((case, outcome));
    }
    report("the agent's socket", outcomes);
    let _agent = daemon.rejoin("helper", "raw").await;
    daemon.wait_phase("helper", Phase::Running, SOON).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_offers_no_compression_and_echoes_no_token() {
    let (setup, door) = Setup::scripted().tcp();
    let daemon = Daemon::start(setup).await;
    daemon.provision("helper").await;
    let token = daemon.token("helper").await;
    let offer = format!("token.{token}, {CHAT_PROTOCOL}");
    let headers = [
        ("sec-websocket-protocol", offer.as_str()),
        ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
    ];
    let opened = RawSocket::tcp(door, "/api/chat/ws", &headers).await.expect("an upgrade").head.to_lowercase();
    assert!(!opened.contains("sec-websocket-extensions"), "{opened}");
    assert!(!opened.contains(&token), "{opened}");
    assert!(opened.contains(&format!("sec-websocket-protocol: {CHAT_PROTOCOL}\r\n")), "{opened}");
    // RFC 6455, section 4.2.2: the answer to the sample nonce of the RFC.
    assert!(opened.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{opened}");

    let bare = "GET /api/chat/ws HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    for (what, more) in [
        ("no upgrade", ""),
        (
            "an old version",
            "Upgrade: websocket\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        ),
        ("no key", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"),
    ] {
        let request = format!(
            "{}\r\n",
            format!("{bare}{more}").replace("close", if more.is_empty() { "close" } else { "Upgrade" })
        );
        let answer = daemon.raw(request.as_bytes()).await;
        let status = agentbot_tests::http::raw_status(&answer);
        assert!(matches!(status, Some(400 | 426)), "{what}: {}", String::from_utf8_lossy(&answer));
    }
    daemon.purge("helper").await;
    daemon.finish().await;
}
