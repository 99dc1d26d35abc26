//! Requests that must be refused: a clear error each, nothing lost, nothing half made.

use std::time::{Duration, Instant};

use agentbot_tests::{Call, Daemon, Reply, Setup, http};
use agentbot_wire::Phase;
use serde_json::{Value, json};

const MIB: usize = 1024 * 1024;
const GIB: u64 = 1024 * 1024 * 1024;

fn provision_text(text: impl Into<bytes::Bytes>) -> Call {
    Call::post("/api/agents/provision").body("application/json", text)
}

/// A body of exactly this many bytes whose only fault is the agent's name.
fn body_of(bytes: usize) -> String {
    let (start, end) = (r#"{"name":"NOT A NAME","config":{"fill":""#, r#""}}"#);
    // White space counts as body and not as configuration.
    let empty = format!("{start}{end}");
    empty + &" ".repeat(bytes - start.len() - end.len())
}

/// An error that names the field.
fn names(reply: &Reply, field: &str) {
    let error = reply.expect_error(400, "invalid");
    let message = error["message"].as_str().unwrap_or_default();
    assert!(message.contains(field), "`{field}` is wanted in {message}");
}

async fn nothing_was_made(daemon: &Daemon) {
    assert_eq!(daemon.agents().await.len(), 0);
    assert!(daemon.operations().await.is_empty());
    daemon.nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_none_are_refused() {
    let daemon = Daemon::start(Setup::new()).await;
    let long = "a".repeat(41);
    let wrong = [
        "",
        " ",
        "A",
        "-a",
        "a-",
        "a_b",
        "a.b",
        "a/b",
        "a b",
        "ünï",
        "a\u{0}b",
        "a\nb",
        "../a",
        "provision",
        "v1",
        &long,
    ];

    for name in wrong {
        names(&daemon.try_provision(&json!({ "name": name })).await, "name");
    }
    for name in [json!(null), json!(7), json!(["a"]), json!({ "a": 1 })] {
        names(&daemon.try_provision(&json!({ "name": name })).await, "name");
    }
    names(&daemon.try_provision(&json!({})).await, "name");

    nothing_was_made(&daemon).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_and_the_shortest_name_pass_and_a_name_is_taken_once() {
    let daemon = Daemon::start(Setup::new()).await;

    daemon.running(&"a".repeat(40)).await;
    daemon.running("a").await;
    let again = daemon.try_provision(&json!({ "name": "a" })).await;

    again.expect_error(409, "conflict");
    assert_eq!(daemon.agents().await.len(), 2);
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_limits_models_and_images_that_are_none_are_refused() {
    let daemon = Daemon::start(Setup::new()).await;
    let with = |field: &str, value: Value| json!({ "name": "helper", field: value });

    names(&daemon.try_provision(&with("plan", json!("huge"))).await, "plan");
    names(&daemon.try_provision(&with("tier", json!("huge"))).await, "huge");
    names(&daemon.try_provision(&with("model", json!("nobody/none"))).await, "model");
    for value in [json!(0), json!(1), json!(-1), json!("much"), json!(1.5)] {
        names(&daemon.try_provision(&with("memory", value)).await, "memory");
    }
    for value in [json!(0), json!(-0.5), json!(0.001), json!("two")] {
        names(&daemon.try_provision(&with("cpus", value)).await, "cpus");
    }
    for value in [json!(0), json!(-1), json!(4_294_967_296_u64), json!("all")] {
        names(&daemon.try_provision(&with("pids", value)).await, "pids");
    }
    names(&daemon.try_provision(&with("config", json!("text"))).await, "config");
    for value in [json!(""), json!("UPPER"), json!("a b"), json!("x:y:z"), json!("../etc"), json!(7)] {
        names(&daemon.try_provision(&with("image", value)).await, "image");
    }

    nothing_was_made(&daemon).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_beyond_the_host_are_refused_with_the_figures() {
    let daemon = Daemon::start(Setup::new()).await;

    for body in [json!({ "name": "helper", "memory": 4096 * GIB }), json!({ "name": "helper", "cpus": 4096 })] {
        let reply = daemon.try_provision(&body).await;
        assert!((400..500).contains(&reply.status), "{reply}");
        let message = reply.value()["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.bytes().any(|byte| byte.is_ascii_digit()), "the figures are wanted in {message}");
    }

    nothing_was_made(&daemon).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_there_fails_the_operation_and_can_be_purged() {
    let daemon = Daemon::start(Setup::new()).await;

    let reply = daemon.try_provision(&json!({ "name": "helper", "image": "agentbot-test/absent:1" })).await;

    // Refused at once or failed later: both name the image.
    if reply.status == 201 {
        let failed = daemon.wait_phase("helper", Phase::Failed, Duration::from_secs(60)).await;
        assert!(failed.reason.is_some_and(|reason| reason.contains("agentbot-test/absent:1")));
        daemon.purge("helper").await;
    } else {
        assert!(
            reply.value()["message"].as_str().is_some_and(|text| text.contains("agentbot-test/absent:1")),
            "{reply}"
        );
    }
    daemon.nothing_left().await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_has_its_largest_size() {
    let daemon = Daemon::start(Setup::new()).await;
    let config = |bytes: usize| {
        let empty = json!({ "x": "" }).to_string().len();
        json!({ "x": "y".repeat(bytes - empty) })
    };
    const LARGEST: usize = 64 * 1024;

    let over = daemon.try_provision(&json!({ "name": "over", "config": config(LARGEST + 1) })).await;
    let fits = daemon.try_provision(&json!({ "name": "fits", "config": config(LARGEST) })).await;

    assert!(matches!(over.status, 400 | 413), "{over}");
    fits.expect(201);
    assert_eq!(daemon.agents().await.len(), 1);
    daemon.wait_phase("fits", Phase::Running, Duration::from_secs(60)).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_has_its_largest_size() {
    let daemon = Daemon::start(Setup::new()).await;

    for (bytes, status, code) in [
        (MIB - 1, 400, "invalid"),
        (MIB, 400, "invalid"),
        (MIB + 1, 413, "too_large"),
        (2 * MIB, 413, "too_large"),
        (8 * MIB, 413, "too_large"),
    ] {
        let reply = daemon.call(provision_text(body_of(bytes))).await;
        assert_eq!(reply.status, status, "{bytes} bytes: {reply}");
        reply.expect_error(status, code);
    }
    // Past what is drained the daemon may hang up on the writer, but must go on serving.
    let _ = http::send(&daemon.home().socket(), provision_text(body_of(16 * MIB))).await;

    nothing_was_made(&daemon).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_no_json_are_refused() {
    let daemon = Daemon::start(Setup::new()).await;
    let utf16: Vec<u8> = r#"{"name":"helper"}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let deep = format!(r#"{{"name":"helper","config":{}1{}}}"#, r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    let bodies: Vec<Vec<u8>> = vec![
        b"{".to_vec(),
        b"{\"name\":".to_vec(),
        b"{\"name\":\"helper\"} trailing".to_vec(),
        b"{\"name\":\"helper\",}".to_vec(),
        b"{'name':'helper'}".to_vec(),
        b"name=helper".to_vec(),
        b"\"helper\"".to_vec(),
        b"[\"helper\"]".to_vec(),
        b"null".to_vec(),
        b"{\"name\":\"\xff\xfe\"}".to_vec(),
        b"\xef\xbb\xbf{\"name\":\"Not A Name\"}".to_vec(),
        utf16,
        vec![0; 1_000],
        vec![b'['; 500_000],
        deep.into_bytes(),
    ];

    for body in bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let reply = daemon.call(provision_text(body)).await;
        assert_eq!(reply.status, 400, "{shown}: {reply}");
        reply.expect_error(400, "invalid");
    }

    nothing_was_made(&daemon).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn encodings_that_nobody_reads_are_refused() {
    let daemon = Daemon::start(Setup::new()).await;

    let packed = daemon.call(provision_text(r#"{"name":"helper"}"#).header("content-encoding", "gzip")).await;

    assert!((400..500).contains(&packed.status), "{packed}");
    assert_eq!(packed.value()["success"], false, "{packed}");
    nothing_was_made(&daemon).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_body_counts_as_an_empty_object() {
    let daemon = Daemon::start(Setup::new()).await;

    names(&daemon.post("/api/agents/provision").await, "name");

    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_agents_operations_and_paths_are_not_found() {
    let daemon = Daemon::start(Setup::new()).await;
    let well_formed = agentbot_wire::InstanceId::mint();
    let operation = agentbot_wire::OperationId::mint();

    for id in [
        "nobody".to_owned(),
        well_formed.to_string(),
        "%C3%BC".to_owned(),
        "..%2F..%2Fetc".to_owned(),
        "a".repeat(2_000),
    ] {
        for (method, path) in [
            ("GET", format!("/api/instance/{id}")),
            ("GET", format!("/api/agents/{id}")),
            ("GET", format!("/api/instance/{id}/token")),
            ("POST", format!("/api/instance/{id}/start")),
            ("POST", format!("/api/instance/{id}/stop")),
            ("POST", format!("/api/instance/{id}/restart")),
            ("POST", format!("/api/instance/{id}/repair")),
            ("POST", format!("/api/instance/{id}/undelete")),
            ("DELETE", format!("/api/instance/{id}")),
            ("DELETE", format!("/api/instance/{id}?purge=true")),
        ] {
            daemon.call(Call::new(method, path)).await.expect_error(404, "not_found");
        }
    }
    for path in [
        format!("/api/operations/{operation}"),
        format!("/api/operations/{operation}/wait?timeout=1"),
        "/api/operations/nonsense".to_owned(),
        "/".to_owned(),
        "/api".to_owned(),
        "/api/nothing".to_owned(),
        "/api/instance".to_owned(),
        "/api/agents/".to_owned(),
        "/etc/passwd".to_owned(),
    ] {
        daemon.get(&path).await.expect_error(404, "not_found");
    }
    daemon.post(&format!("/api/operations/{operation}/cancel")).await.expect_error(404, "not_found");

    nothing_was_made(&daemon).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_methods_are_told_the_right_ones() {
    let daemon = Daemon::start(Setup::new()).await;

    for (method, path) in [
        ("DELETE", "/api/agents"),
        ("PUT", "/api/agents/provision"),
        ("POST", "/api/health"),
        ("PUT", "/api/instance/helper"),
        ("GET", "/api/instance/helper/start"),
        ("DELETE", "/api/instance/helper/stop"),
        ("POST", "/api/operations"),
    ] {
        let reply = daemon.call(Call::new(method, path)).await;
        reply.expect_error(405, "method_not_allowed");
        assert!(reply.header("allow").is_some(), "{method} {path}: the methods that there are");
    }

    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_that_make_no_sense_are_refused() {
    let daemon = Daemon::start(Setup::new()).await;
    let operation = daemon.provision("helper").await.operation.id;

    for path in [
        "/api/agents?deleted=perhaps".to_owned(),
        "/api/operations?limit=many".to_owned(),
        "/api/operations?limit=-1".to_owned(),
        "/api/operations?status=fine".to_owned(),
        format!("/api/operations/{operation}/wait?timeout=forever"),
    ] {
        let reply = daemon.get(&path).await;
        assert_eq!(reply.status, 400, "{path}: {reply}");
        reply.expect_error(400, "invalid");
    }
    daemon.delete("/api/instance/helper?purge=perhaps").await.expect_error(400, "invalid");

    daemon.wait_phase("helper", Phase::Running, Duration::from_secs(60)).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_request_close_their_own_connection_only() {
    let daemon = Daemon::start(Setup::new()).await;
    let long_line = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(200_000));
    let long_header = format!("GET /api/health HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(2 * MIB));
    let many_headers = format!("GET /api/health HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(5_000));
    let broken: Vec<Vec<u8>> = vec![
        b"\0\0\0\0\0\0\0\0".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET /api/health HTTP/9.9\r\nHost: x\r\n\r\n".to_vec(),
        b"GET /api/health HTTP/1.1\r\nHost: x\r\nContent-Length: nine\r\n\r\n".to_vec(),
        b"POST /api/agents/provision HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nzzzzz".to_vec(),
        b"POST /api/agents/provision HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n".to_vec(),
        long_line.into_bytes(),
        long_header.into_bytes(),
        many_headers.into_bytes(),
    ];

    for bytes in broken {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        let status = http::raw_status(&daemon.raw(&bytes).await);
        assert!(status.is_none_or(|status| (400..600).contains(&status)), "{shown}: {status:?}");
        daemon.get("/api/health").await.expect(200);
    }

    nothing_was_made(&daemon).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_never_ends_is_cut_off() {
    let setup = Setup::new().set("limits.header_timeout", "\"500ms\"");
    let daemon = Daemon::start(setup).await;

    let begun = Instant::now();
    let half = http::raw(&daemon.home().socket(), b"GET /api/health HTTP/1.1\r\nHo", Duration::from_secs(20)).await;

    assert!(begun.elapsed() < Duration::from_secs(10), "cut off after {:?}", begun.elapsed());
    assert!(http::raw_status(&half.unwrap()).is_none_or(|status| status == 408));
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_ends_is_cut_off() {
    let daemon = Daemon::start(Setup::new().set("limits.idle_timeout", "\"500ms\"")).await;
    let request = b"POST /api/agents/provision HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{";

    let begun = Instant::now();
    let answer = http::raw(&daemon.home().socket(), request, Duration::from_secs(20)).await.unwrap();

    assert!(begun.elapsed() < Duration::from_secs(10), "cut off after {:?}", begun.elapsed());
    assert_eq!(http::raw_status(&answer), Some(400), "{}", String::from_utf8_lossy(&answer));
    nothing_was_made(&daemon).await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_may_lie_idle_for_its_time_and_no_longer() {
    let limits =
        |setup: Setup, idle: &str| setup.set("limits.header_timeout", "\"300ms\"").set("limits.idle_timeout", idle);
    let mut daemon = Daemon::start(limits(Setup::new(), "\"60s\"")).await;
    let socket = daemon.home().socket();

    // Longer than the time for a head: that runs from its first byte.
    let patient = http::raw(&socket, b"", Duration::from_millis(1_500));
    let mut kept = http::Connection::open(&socket).await.unwrap();
    kept.send(Call::get("/api/health")).await.unwrap().expect(200);
    let begun = Instant::now();
    patient.await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(1_500), "closed after {:?}", begun.elapsed());
    kept.send(Call::get("/api/health")).await.unwrap().expect(200);
    drop(kept);

    daemon.sigterm().await;
    daemon.restart_with(|setup| limits(setup, "\"500ms\"")).await;
    let begun = Instant::now();
    http::raw(&socket, b"", Duration::from_secs(20)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "closed after {:?}", begun.elapsed());
    daemon.finish().await;
}
