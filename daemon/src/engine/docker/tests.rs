//! The adapter against an engine that answers whatever a test wants.

use std::sync::Mutex;

use agentbot_wire::Code;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::super::sample;
use super::*;

const SHORT: Duration = Duration::from_millis(300);

/// What to do with a call whose line contains the text; the first that fits counts.
enum Reply {
    Json(u16, &'static str),
    Raw(&'static str),
    Hang,
    Close,
}

struct Scripted {
    _dir: tempfile::TempDir,
    docker: Arc<Docker>,
    asked: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

fn text(reply: &Reply) -> Option<String> {
    match reply {
        Reply::Json(status, body) => Some(format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )),
        Reply::Raw(raw) => Some((*raw).to_owned()),
        Reply::Hang | Reply::Close => None,
    }
}

async fn answer(mut stream: UnixStream, script: Arc<Vec<(&'static str, Reply)>>, asked: Arc<Mutex<Vec<String>>>) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    asked.lock().unwrap().push(line.clone());
    let reply = script.iter().find(|(part, _)| line.contains(part)).map(|(_, reply)| reply);
    match reply {
        Some(Reply::Hang) => std::future::pending().await,
        Some(reply) => {
            if let Some(text) = text(reply) {
                let _ = stream.write_all(text.as_bytes()).await;
            }
        }
        None if line.contains("/version") => reply_with(&mut stream, include_str!("../samples/version.json")).await,
        None if line.contains("/info") => reply_with(&mut stream, include_str!("../samples/info.json")).await,
        None => {}
    }
}

async fn reply_with(stream: &mut UnixStream, body: &str) {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(body.as_bytes()).await;
}

fn engine(parallel: usize, script: Vec<(&'static str, Reply)>) -> Scripted {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let timeouts = Timeouts { quick: SHORT, create: SHORT, start: SHORT, load: SHORT };
    let docker = Arc::new(Docker::connect(&socket, timeouts, parallel));
    let (script, asked) = (Arc::new(script), Arc::new(Mutex::new(Vec::new())));
    let mut tasks = JoinSet::new();
    let seen = asked.clone();
    tasks.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.spawn(answer(stream, script.clone(), seen.clone()));
        }
    });
    Scripted { _dir: dir, docker, asked, _tasks: tasks }
}

fn code<T>(result: Result<T>) -> Option<Code> {
    result.err().map(|error| error.code())
}

#[tokio::test]
async fn the_version_settles_on_what_both_speak() {
    let engine = engine(1, vec![("/containers/json", Reply::Json(200, "[]"))]);
    assert_eq!(engine.docker.facts().await.unwrap().api_version, "1.41");
    assert_eq!(engine.docker.list("d").await.unwrap(), []);
    let asked = engine.asked.lock().unwrap();
    assert!(asked.last().unwrap().contains("/v1.41/containers/json"), "{asked:?}");
}

#[tokio::test]
async fn an_engine_that_is_too_old_is_unsupported() {
    let engine = engine(1, vec![("/version", Reply::Json(200, r#"{"ApiVersion": "1.40"}"#))]);
    let error = engine.docker.facts().await.unwrap_err();
    assert_eq!(error.code(), Code::Unsupported);
    assert!(error.to_api().hint.is_some_and(|hint| hint.contains("20.10")));
}

#[tokio::test]
async fn nobody_on_the_socket_is_an_unavailable_engine_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let docker = Docker::connect(&socket, Timeouts::default(), 1);
    let absent = docker.list("d").await.unwrap_err();
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let refused = docker.list("d").await.unwrap_err();
    for error in [absent, refused] {
        assert_eq!(error.code(), Code::EngineUnavailable);
        assert!(error.to_api().hint.is_some_and(|hint| hint.contains("is Docker running?")));
    }
}

#[tokio::test]
async fn nonsense_and_half_answers_are_told_from_an_engine_that_is_away() {
    for (reply, expected) in [
        (Reply::Json(200, "{\"no\": \"list\"}"), Code::EngineRefused),
        (Reply::Json(200, "[{\"Id\": "), Code::EngineRefused),
        (Reply::Json(200, "\u{1}"), Code::EngineRefused),
        (Reply::Raw("SSH-2.0-OpenSSH\r\n\r\n"), Code::EngineRefused),
        (Reply::Json(500, "<html>"), Code::EngineRefused),
        (Reply::Close, Code::EngineUnavailable),
        (Reply::Raw("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n[{"), Code::EngineUnavailable),
    ] {
        let engine = engine(1, vec![("/containers/json", reply)]);
        let error = engine.docker.list("d").await.unwrap_err();
        assert_eq!(error.code(), expected, "{error}");
        assert!(error.to_api().hint.is_some());
    }
}

#[tokio::test]
async fn a_body_that_never_ends_meets_the_deadline() {
    let endless = Reply::Raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n[\r\n");
    let engine = engine(1, vec![("/containers/json", endless), ("/logs", Reply::Hang)]);
    assert!(code(engine.docker.list("d").await).is_some());
    assert_eq!(code(engine.docker.last_lines("x", 5).await), Some(Code::EngineUnavailable));
}

#[tokio::test]
async fn statuses_mean_what_the_trait_promises() {
    let gone = || Reply::Json(404, r#"{"message": "No such container"}"#);
    let script = vec![("/start", Reply::Json(304, "")), ("/kill", Reply::Json(409, "{}")), ("/x/json", gone())];
    let engine = engine(1, script);
    engine.docker.start("x").await.unwrap();
    engine.docker.kill("x").await.unwrap();
    assert_eq!(engine.docker.inspect("x").await.unwrap(), None);
    let engine = super::tests::engine(1, vec![("/containers/x", gone()), ("/images/", gone()), ("/create", gone())]);
    engine.docker.stop("x", Duration::ZERO).await.unwrap();
    engine.docker.kill("x").await.unwrap();
    engine.docker.remove("x").await.unwrap();
    assert_eq!(engine.docker.last_lines("x", 5).await.unwrap(), "");
    assert_eq!(engine.docker.image_id("agentbot/agent:1").await.unwrap(), None);
    assert_eq!(code(engine.docker.start("x").await), Some(Code::NotFound));
    assert_eq!(code(engine.docker.rename("x", "y").await), Some(Code::NotFound));
    assert_eq!(code(engine.docker.create(&sample::spec(), &sample::facts()).await), Some(Code::EngineRefused));
}

#[tokio::test]
async fn a_taken_name_is_a_conflict() {
    let script = vec![("/create", Reply::Json(409, r#"{"message": "name in use"}"#))];
    let engine = engine(1, script);
    assert_eq!(code(engine.docker.create(&sample::spec(), &sample::facts()).await), Some(Code::Conflict));
}

#[tokio::test]
async fn a_removal_under_way_is_waited_for() {
    let script = vec![
        ("DELETE", Reply::Json(409, r#"{"message": "removal is already in progress"}"#)),
        ("/x/json", Reply::Json(404, "{}")),
    ];
    engine(1, script).docker.remove("x").await.unwrap();
}

#[tokio::test]
async fn the_beginning_of_an_id_is_somebody_else() {
    let engine = engine(1, vec![("/ab/json", Reply::Json(200, r#"{"Id": "abcdef", "Name": "/other"}"#))]);
    assert_eq!(engine.docker.inspect("ab").await.unwrap(), None);
}

#[tokio::test]
async fn a_call_that_hangs_ends_at_its_deadline_and_looking_never_waits_for_it() {
    let engine = engine(1, vec![("/start", Reply::Hang), ("/containers/json", Reply::Json(200, "[]"))]);
    engine.docker.facts().await.unwrap();
    let (hung, looked) = tokio::join!(engine.docker.start("x"), async {
        let began = std::time::Instant::now();
        engine.docker.list("d").await.unwrap();
        engine.docker.kill("x").await.unwrap_err();
        began.elapsed()
    });
    assert_eq!(code(hung), Some(Code::EngineUnavailable));
    assert!(looked < SHORT);
}

#[tokio::test]
async fn hard_work_beyond_the_places_waits_and_then_says_that_the_engine_is_busy() {
    let engine = engine(2, vec![("/start", Reply::Hang)]);
    engine.docker.facts().await.unwrap();
    let busy = || async { engine.docker.places.available_permits() };
    let (one, two, ()) = tokio::join!(engine.docker.start("a"), engine.docker.start("b"), async {
        assert_eq!(busy().await, 0);
    });
    assert!(one.is_err() && two.is_err());
    let _all = engine.docker.places.acquire_many(2).await.unwrap();
    assert_eq!(code(engine.docker.start("c").await), Some(Code::Busy));
}

#[tokio::test]
async fn an_id_that_leads_elsewhere_never_reaches_the_engine() {
    let engine = engine(1, Vec::new());
    for id in ["", "../images/x", "a/../b", "a?force=1", "a b", "a#", "é", "/a", "a//b"] {
        assert_eq!(code(engine.docker.kill(id).await), Some(Code::Invalid), "{id}");
    }
    assert!(engine.asked.lock().unwrap().iter().all(|line| !line.contains("kill")));
}

#[tokio::test]
async fn an_image_is_asked_for_by_digest_and_its_own_repository_digest_is_the_one_told() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let body = r#"{"Id": "sha256:i", "RepoDigests": ["other/agent@sha256:b", "host:5000/my/agent@sha256:c"]}"#;
    let engine = engine(1, vec![("/images/", Reply::Json(200, body))]);
    for reference in ["host:5000/my/agent:1", "host:5000/my/agent", &format!("host:5000/my/agent@{digest}")] {
        let image = engine.docker.image(reference).await.unwrap().unwrap();
        assert_eq!(image.id, "sha256:i");
        assert_eq!(image.repo_digest.as_deref(), Some("host:5000/my/agent@sha256:c"), "{reference}");
    }
    let by_id = engine.docker.image(&digest).await.unwrap().unwrap();
    assert_eq!(by_id.repo_digest.as_deref(), Some("other/agent@sha256:b"));
    assert!(engine.asked.lock().unwrap().iter().any(|line| line.contains(&digest)));
}

#[tokio::test]
async fn an_image_reference_has_its_own_limit_and_its_own_name() {
    let engine = engine(1, vec![("/images/", Reply::Json(404, "{}"))]);
    assert_eq!(engine.docker.image(&"x".repeat(LONGEST_IMAGE)).await.unwrap(), None);
    for wrong in [&"x".repeat(LONGEST_IMAGE + 1), "", "../x", "a?b", "a b", "a//b", "é"] {
        let error = engine.docker.image(wrong).await.unwrap_err();
        assert!(error.message().starts_with("image"), "{error}");
    }
}

#[tokio::test]
async fn an_image_the_engine_will_not_load_is_refused_in_its_words() {
    let script =
        vec![("/images/load", Reply::Json(200, r#"{"errorDetail": {"message": "bad layer"}, "error": "bad layer"}"#))];
    let error = engine(1, script).docker.load_image(Bytes::from_static(b"x")).await.unwrap_err();
    assert_eq!(error.code(), Code::EngineRefused);
    assert!(error.message().contains("bad layer"));
}

#[tokio::test]
async fn events_come_with_connected_first_and_the_next_stream_goes_on_where_the_last_one_ended() {
    let event =
        r#"{"Type":"container","Action":"die","Actor":{"ID":"abc","Attributes":{}},"timeNano":1900000000000000000}"#;
    let engine = engine(1, vec![("/_ping", Reply::Json(200, "OK")), ("/events", Reply::Json(200, event))]);
    let mut events = engine.docker.clone().events("d");
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(events.next().await.unwrap());
    }
    let die = EngineEvent::Container { id: "abc".to_owned(), slot: None, action: "die".to_owned() };
    use EngineEvent::{Connected, Lost};
    assert_eq!(seen, [Connected, die.clone(), Lost, Connected, die]);
    let asked = engine.asked.lock().unwrap();
    assert!(asked.iter().any(|line| line.contains("since=1900000000.000000001")), "{asked:?}");
}
