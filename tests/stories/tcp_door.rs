//! The TCP door: by which names it may be called, by which pages, with which credentials.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use agentbot_tests::{Call, ChatClient, Daemon, EchoAgent, Ended, Home, Reply, Setup, http};
use futures_util::future::join_all;
use serde_json::json;

const SHORT: Duration = Duration::from_secs(5);
const WRONG: &str = "0000000000000000000000000000000000000000000000000000000000000000";

async fn scene() -> (Daemon, SocketAddr, EchoAgent, String) {
    let (setup, door) = Setup::scripted()
        .set("http.allowed_hosts", r#"["agents.example.org"]"#)
        .set("http.allowed_origins", r#"["https://app.example.org"]"#)
        .tcp();
    let daemon = Daemon::start(setup).await;
    daemon.provision("helper").await;
    let echo = EchoAgent::at(&daemon, "helper", 2, Duration::ZERO).await;
    let token = daemon.token("helper").await;
    (daemon, door, echo, token)
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

async fn call(door: SocketAddr, call: Call) -> Reply {
    http::send_tcp(door, call).await.expect("an answer")
}

/// The status of a request with these lines as its head.
async fn status(door: SocketAddr, method_and_path: &str, headers: &[String]) -> Option<u16> {
    let mut head = format!("{method_and_path} HTTP/1.1\r\n");
    for line in headers {
        let _ = write!(head, "{line}\r\n");
    }
    head.push_str("\r\n");
    // An upgrade and a stream stay open: the first line is enough.
    let answer = http::raw_tcp(door, head.as_bytes(), Duration::from_millis(400)).await.expect("the door listens");
    http::raw_status(&answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_calls_by_another_name_or_from_another_page_is_refused_before_anything_else() {
    let (daemon, door, _echo, token) = scene().await;
    let port = door.port();
    let own = format!("127.0.0.1:{port}");
    let hosts: Vec<(Vec<String>, bool)> = [
        (vec![own.clone()], true),
        (vec![format!("localhost:{port}")], true),
        (vec!["agents.example.org".to_owned()], true),
        (vec![], false),
        (vec![own.clone(), own.clone()], false),
        (vec!["evil.example".to_owned()], false),
        (vec![format!("localhost.evil.example:{port}")], false),
        (vec![format!("localhost.:{port}")], false),
        (vec!["localhost:1".to_owned()], false),
        (vec![format!("user@localhost:{port}")], false),
        (vec![format!("0.0.0.0:{port}")], false),
    ]
    .into();
    let pages: Vec<(Vec<String>, bool)> = [
        (vec![], true),
        (vec!["https://app.example.org".to_owned()], true),
        (vec!["null".to_owned()], false),
        (vec!["file://".to_owned()], false),
        (vec!["https://evil.example".to_owned()], false),
        (vec!["https://app.example.org.evil.example".to_owned()], false),
        (vec![format!("http://localhost.evil.example:{port}")], false),
        (vec!["http://localhost:3000".to_owned()], false),
        (vec!["https://app.example.org".to_owned(), "https://app.example.org".to_owned()], false),
    ]
    .into();
    let upgrade = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol: agentbot.chat.v1",
    ];
    let plain = ["Connection: close"];
    let stream = ["Connection: close", "Accept: text/event-stream", "Content-Length: 2"];
    let doors: [(&str, &[&str], u16); 4] = [
        ("GET /api/chat", &plain, 200),
        ("GET /api/chat/ws", &upgrade, 101),
        ("POST /api/chat", &stream, 400),
        ("GET /nowhere", &plain, 404),
    ];
    let mut pairs = Vec::new();
    for (names, known) in &hosts {
        for (origins, welcome) in &pages {
            for (line, extra, good) in doors {
                let mut headers: Vec<String> = extra.iter().map(|line| (*line).to_owned()).collect();
                headers.extend(names.iter().map(|name| format!("Host: {name}")));
                headers.extend(origins.iter().map(|origin| format!("Origin: {origin}")));
                let refused = !(*known && *welcome);
                // A refusal comes whatever credential there is; to be let in takes the right one.
                headers.push(format!(
                    "Authorization: {}",
                    bearer(if refused && pairs.len() % 2 == 0 { WRONG } else { &token })
                ));
                pairs.push((line, headers, if refused { 403 } else { good }));
            }
        }
    }
    assert!(pairs.len() > 4 * 60, "{}", pairs.len());
    // The body of the stream's request never comes: that is judged after the head, or not at all.
    let judged = pairs.chunks(40).map(async |chunk: &[(&str, Vec<String>, u16)]| {
        let asked = chunk.iter().map(async |(line, headers, wanted)| {
            let body = if headers.iter().any(|line| line == "Content-Length: 2") { "[]" } else { "" };
            let mut head = format!("{line} HTTP/1.1\r\n");
            headers.iter().for_each(|line| {
                let _ = write!(head, "{line}\r\n");
            });
            let bytes = format!("{head}\r\n{body}");
            let answer =
                http::raw_tcp(door, bytes.as_bytes(), Duration::from_millis(1_500)).await.expect("the door listens");
            let got = http::raw_status(&answer);
            (got != Some(*wanted)).then(|| format!("{line} {headers:?}: {got:?}, not {wanted}"))
        });
        join_all(asked).await
    });
    let mut wrong = Vec::new();
    for chunk in judged {
        wrong.extend(chunk.await.into_iter().flatten());
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), pairs.len(), wrong.join("\n"));
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_says_grants_nothing() {
    let (daemon, door, _echo, token) = scene().await;
    for header in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "evil.example"),
        ("x-real-ip", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1;host=localhost"),
        ("remote-user", "root"),
        ("x-remote-user", "root"),
        ("x-original-url", "/api/agents"),
        ("x-http-method-override", "DELETE"),
    ] {
        let get = |path: &str| Call::get(path).header(header.0, header.1);
        call(door, get("/api/chat")).await.expect_error(401, "unauthenticated");
        call(door, get("/api/agents").header("authorization", bearer(&token))).await.expect_error(404, "not_found");
        let chat = get("/api/chat").header("authorization", bearer(&token));
        call(door, chat).await.expect(200);
    }
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_chat_is_served_and_each_refusal_has_the_shape_of_its_api() {
    let (daemon, door, _echo, token) = scene().await;
    let with = |call: Call| call.header("authorization", bearer(&token));
    for path in [
        "/api/agents",
        "/api/status",
        "/api/health",
        "/api/instance/helper",
        "/api/instance/helper/token",
        "/api/operations",
        "/api/conversations",
        "/agent/ws",
        "/",
        "/api/chat/",
        "/API/chat",
    ] {
        call(door, with(Call::get(path))).await.expect_error(404, "not_found");
    }
    call(door, with(Call::post("/api/instance/helper/token/rotate"))).await.expect_error(404, "not_found");
    call(door, with(Call::delete("/api/chat"))).await.expect_error(405, "method_not_allowed");
    for (reply, status, kind) in [
        (call(door, with(Call::get("/v1/embeddings"))).await, 404, "invalid_request_error"),
        (call(door, with(Call::get("/v1/chat/completions"))).await, 405, "invalid_request_error"),
        (call(door, Call::get("/v1/models")).await, 401, "authentication_error"),
    ] {
        assert_eq!(reply.status, status, "{reply}");
        assert_eq!(reply.value()["error"]["type"], kind, "{reply}");
    }
    let models = call(door, with(Call::get("/v1/models"))).await.expect(200).value();
    assert_eq!((&models["data"][0]["id"], models["data"].as_array().map(Vec::len)), (&json!("helper"), Some(1)));
    let page = Call::new("OPTIONS", "/v1/chat/completions")
        .header("origin", "https://app.example.org")
        .header("access-control-request-method", "POST");
    let told = call(door, page).await.expect(204);
    assert_eq!(told.header("access-control-allow-origin"), Some("https://app.example.org"));
    assert!(told.header("access-control-allow-headers").is_some_and(|names| names.contains("authorization")));
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_wrong_credentials_a_minute_are_looked_at_and_the_right_one_always() {
    let (daemon, door, _echo, token) = scene().await;
    let guess = |number: usize| Call::get("/api/chat").header("authorization", bearer(&format!("{number:064x}")));
    let statuses: Vec<u16> =
        join_all((0..60).map(|number| call(door, guess(number)))).await.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 10, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 50, "{statuses:?}");

    let refused = call(door, guess(99)).await;
    let body = refused.expect_error(429, "rate_limited");
    let wait: u64 = refused.header("retry-after").and_then(|text| text.parse().ok()).expect("Retry-After in seconds");
    assert!((1..=60).contains(&wait) && body["retryAfterSeconds"] == wait, "{refused}");
    let openai = call(door, Call::get("/v1/models").header("authorization", bearer(WRONG))).await;
    assert_eq!((openai.status, &openai.value()["error"]["type"]), (429, &json!("rate_limit_error")));
    // Whoever has the token is not locked out by whoever has not, here or at the admin socket.
    call(door, Call::get("/api/chat").header("authorization", bearer(&token))).await.expect(200);
    daemon.get("/api/chat").await.expect(200);
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_carry_a_credential_has_the_same_verdict() {
    let (daemon, door, _echo, token) = scene().await;
    let host = format!("Host: {door}");
    let upgrade = |offer: &str, more: Option<String>| -> Vec<String> {
        let lines = [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ];
        let fixed = lines.iter().map(|line| (*line).to_owned());
        let offer = format!("Sec-WebSocket-Protocol: agentbot.chat.v1{offer}");
        fixed.chain([host.clone(), offer]).chain(more).collect()
    };
    let ws = "GET /api/chat/ws";
    let header = |token: &str| Some(format!("Authorization: {}", bearer(token)));
    for (what, line, headers, wanted) in [
        ("a header", ws, upgrade("", header(&token)), 101),
        ("a subprotocol", ws, upgrade(&format!(", token.{token}"), None), 101),
        ("both alike", ws, upgrade(&format!(", token.{token}"), header(&token)), 101),
        ("two that differ", ws, upgrade(&format!(", token.{WRONG}"), header(&token)), 400),
        ("a wrong header", ws, upgrade("", header(WRONG)), 401),
        ("a wrong subprotocol", ws, upgrade(&format!(", token.{WRONG}"), None), 401),
        ("none", ws, upgrade("", None), 401),
        ("the URL", &*format!("GET /api/chat/ws?token={token}"), upgrade("", header(&token)), 401),
        (
            "the URL of another gateway",
            &*format!("GET /api/chat/ws?gatewayUrl=ws://evil.example&access_token={token}"),
            upgrade("", None),
            401,
        ),
    ] {
        assert_eq!(status(door, line, &headers).await, Some(wanted), "{what}");
    }
    assert!(!daemon.log_since_start().contains(&token), "no token in the log");
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_messages_a_minute_are_the_limit_of_a_credential() {
    let (daemon, door, _echo, token) = scene().await;
    // Refused by the core for their text, and counted all the same.
    let message =
        |token: &str| Call::post("/api/chat").json(&json!({ "message": "" })).header("authorization", bearer(token));
    let statuses: Vec<u16> =
        join_all((0..60).map(|_| call(door, message(&token)))).await.iter().map(|reply| reply.status).collect();
    assert!(statuses.iter().all(|status| *status == 400), "{statuses:?}");
    call(door, message(&token)).await.expect_error(429, "rate_limited");
    let other_way = Call::post("/v1/chat/completions").json(&json!({})).header("authorization", bearer(&token));
    assert_eq!(call(door, other_way).await.status, 429, "both ways have one count");
    call(door, Call::get("/api/chat").header("authorization", bearer(&token))).await.expect(200);
    daemon.provision("other").await;
    call(door, message(&daemon.token("other").await)).await.expect_error(400, "invalid");
    let admin = Call::post("/api/chat").json(&json!({ "message": "", "agentId": "helper" }));
    daemon.call(admin).await.expect_error(400, "invalid");
    daemon.purge("other").await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded_and_slow_heads_are_not_waited_for() {
    let (setup, door) = Setup::scripted().set("http.connections", "8").set("limits.header_timeout", "\"500ms\"").tcp();
    let daemon = Daemon::start(setup).await;
    let begun = Instant::now();
    let half = b"GET /api/chat HTTP/1.1\r\nHost: ";
    let held = join_all((0..8).map(|_| http::raw_tcp(door, half, SHORT)));
    let (held, served) = tokio::join!(held, async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        call(door, Call::get("/api/chat").within(SHORT)).await
    });
    served.expect_error(401, "unauthenticated");
    assert!(held.into_iter().all(|answer| answer.is_ok()));
    assert!(begun.elapsed() < SHORT, "{:?}", begun.elapsed());
    daemon.get("/api/health").await.expect(200);
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_has_so_many_connections_and_no_more() {
    let (setup, door) = Setup::scripted().set("http.token_connections", "2").tcp();
    let daemon = Daemon::start(setup).await;
    daemon.provision("helper").await;
    daemon.provision("other").await;
    let (token, other) = (daemon.token("helper").await, daemon.token("other").await);
    let open = async |token: &str| ChatClient::knock_tcp(door, token).await;
    let (first, second) = (open(&token).await.expect("a socket"), open(&token).await.expect("a socket"));
    assert!(matches!(open(&token).await, Err(Ended::Status(429))));
    let get = |token: &str| Call::get("/api/chat").header("authorization", bearer(token));
    call(door, get(&token)).await.expect_error(429, "rate_limited");
    call(door, get(&other)).await.expect(200);
    drop(first);
    let begun = Instant::now();
    while let Err(refused) = open(&token).await.map(ChatClient::cut) {
        assert!(matches!(refused, Ended::Status(429)) && begun.elapsed() < SHORT, "{refused:?}");
    }
    drop(second);
    daemon.purge("helper").await;
    daemon.purge("other").await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_that_hold_connections_open_lock_nobody_out() {
    let (setup, door) = Setup::scripted().set("http.connections", "8").tcp();
    let daemon = Daemon::start(setup).await;
    daemon.provision("helper").await;
    let token = daemon.token("helper").await;
    let held = ChatClient::knock_tcp(door, &token).await.expect("a socket");
    let mut strangers = Vec::new();
    for _ in 0..20 {
        strangers.push(tokio::net::TcpStream::connect(door).await.expect("the door listens"));
    }
    let begun = Instant::now();
    call(door, Call::get("/api/chat").header("authorization", bearer(&token)).within(SHORT)).await.expect(200);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let drops = daemon.get("/api/status").await.expect(200).value()["drops"]["client_crowded"].as_u64();
    assert!(drops.is_some_and(|drops| drops >= 16), "{drops:?}");
    drop(held);
    daemon.purge("helper").await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_that_is_open_to_everybody_does_not_start() {
    for address in ["0.0.0.0:7171", "[::]:7171"] {
        let setup = Setup::new().set("http.listen", &format!("{address:?}"));
        let (ended, _home) = Daemon::refused(Home::new(), setup).await;
        assert_eq!(ended.status.code(), Some(78), "{}", ended.stderr);
        assert!(ended.stderr.contains("http.listen") && ended.stderr.contains("TLS"), "{}", ended.stderr);
    }
}
