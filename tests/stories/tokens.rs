//! Gateway tokens: what they open, and that a replaced one opens nothing any more.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use agentbot_tests::{Call, ChatClient, Daemon, EchoAgent, Ended, Reply, Setup, http};
use agentbot_wire::{ChatSend, ChatSubscribe, Code, HistoryParams, method};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a revocation may take.
const SOON: Duration = Duration::from_secs(1);

struct Scene {
    daemon: Daemon,
    door: SocketAddr,
    echoes: Vec<EchoAgent>,
}

async fn scene(names: &[&str]) -> Scene {
    let (setup, door) = Setup::scripted().tcp();
    let daemon = Daemon::start(setup).await;
    let mut echoes = Vec::new();
    for name in names {
        daemon.provision(name).await;
        echoes.push(EchoAgent::at(&daemon, name, 2, Duration::ZERO).await);
    }
    Scene { daemon, door, echoes }
}

impl Scene {
    async fn call(&self, token: &str, call: Call) -> Reply {
        http::send_tcp(self.door, call.header("authorization", format!("Bearer {token}"))).await.expect("an answer")
    }

    async fn client(&self, token: &str) -> ChatClient {
        let mut client = ChatClient::knock_tcp(self.door, token).await.expect("an upgrade");
        client.connect().await.expect("an answer to connect");
        client
    }

    async fn rotate(&self, name: &str, key: Option<&str>) -> String {
        let call = Call::post(format!("/api/instance/{name}/token/rotate"));
        let call = match key {
            Some(key) => call.key(key),
            None => call,
        };
        let shown = self.daemon.call(call).await.expect(200).value();
        shown["token"].as_str().expect("a token").to_owned()
    }

    async fn newest(&self, name: &str) -> u64 {
        let list = self.daemon.get(&format!("/api/conversations?agentId={name}")).await.expect(200).value();
        list["conversations"][0]["seq"].as_u64().unwrap_or_default()
    }
}

fn text(text: &str) -> ChatSend {
    ChatSend { text: text.to_owned(), ..ChatSend::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_closes_what_the_old_token_opened_and_no_frame_is_processed_after_it() {
    let scene = scene(&["helper", "other"]).await;
    let old = scene.daemon.token("helper").await;
    let idle = scene.client(&old).await;
    let busy = scene.client(&old).await;
    let (mut operator, mut other) = (scene.daemon.chat().await, scene.client(&scene.daemon.token("other").await).await);
    // One client that never stops asking, one that is silent.
    let talking = async |mut client: ChatClient| {
        let (mut acknowledged, begun) = (0_u64, Instant::now());
        loop {
            match client.begin(method::CHAT_SEND, &text("still me")).await {
                Ok(id) => match client.answer(&id).await {
                    Ok(answer) => acknowledged += u64::from(answer.is_ok()),
                    Err(ended) => return (acknowledged, ended, begun.elapsed()),
                },
                Err(_) => return (acknowledged, client.end(SOON).await.1, begun.elapsed()),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let rotating = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let new = scene.rotate("helper", None).await;
        let rotated = Instant::now();
        // Answers of the agent to what came before go on; new questions must not come.
        let asked = scene.daemon.count("SELECT count(*) FROM messages WHERE sender = 'user'");
        let mut idle = idle;
        let (_, ended) = idle.end(SOON).await;
        (new, asked, ended, rotated.elapsed())
    };
    let ((acknowledged, ended, _), (new, asked, idle_ended, after)) = tokio::join!(talking(busy), rotating);

    assert!(matches!(ended, Ended::Closed(4001, _) | Ended::Broken(_)), "{ended:?}");
    assert!(matches!(idle_ended, Ended::Closed(4001, _)), "{idle_ended:?}");
    assert!(after < SOON, "{after:?}");
    assert!(acknowledged > 3, "{acknowledged} messages before the rotation");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let later = scene.daemon.count("SELECT count(*) FROM messages WHERE sender = 'user'");
    assert_eq!(later, asked, "not one more after the commit");
    assert!(asked >= acknowledged, "{asked} stored, {acknowledged} acknowledged");

    scene.call(&old, Call::get("/api/chat")).await.expect_error(401, "unauthenticated");
    assert!(matches!(ChatClient::knock_tcp(scene.door, &old).await, Err(Ended::Status(401))));
    scene.call(&new, Call::get("/api/chat")).await.expect(200);
    assert_eq!(scene.daemon.token("helper").await, new);
    // Others never noticed.
    operator.send("helper", "main", "and I?").await;
    other.send_as(&text("and I?")).await;
    assert_eq!(scene.daemon.count("SELECT count(*) FROM events WHERE kind = 'security.token_rotated'"), 1);
    assert!(!scene.daemon.log_since_start().contains(&old) && !scene.daemon.log_since_start().contains(&new));
    scene.daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_ends_streams_and_waits_that_are_under_way() {
    let (setup, door) = Setup::scripted().tcp();
    let daemon = Daemon::start(setup).await;
    let (_, mut agent) = daemon.scripted("helper").await;
    let token = daemon.token("helper").await;
    let head = |accept: &str| {
        // A conversation of its own: both turns are under way at once.
        let body = format!(r#"{{"message":"think","topic":"{accept}"}}"#);
        format!(
            "POST /api/chat HTTP/1.1\r\nHost: {door}\r\nAuthorization: Bearer {token}\r\nAccept: {accept}\r\n\
         Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let mut open = Vec::new();
    for accept in ["text/event-stream", "application/json"] {
        let mut stream = TcpStream::connect(door).await.expect("the door listens");
        stream.write_all(head(accept).as_bytes()).await.expect("a request");
        open.push(stream);
    }
    for _ in 0..open.len() {
        let run = agent.take().await;
        agent.delta(&run.turn, "hm").await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;

    let rotated = Instant::now();
    daemon.post("/api/instance/helper/token/rotate").await.expect(200);
    let mut answers = Vec::new();
    for mut stream in open {
        let mut answer = String::new();
        let read = tokio::time::timeout(SOON, stream.read_to_string(&mut answer)).await;
        read.expect("it ends in time").expect("an answer");
        answers.push(answer);
    }
    assert!(rotated.elapsed() < SOON, "{:?}", rotated.elapsed());
    assert!(answers[0].contains("event: chat.delta") && answers[0].contains("event: error"), "{}", answers[0]);
    assert!(answers[0].contains("unauthenticated"), "{}", answers[0]);
    assert_eq!(http::raw_status(answers[1].as_bytes()), Some(401), "{}", answers[1]);
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_agents_token_reaches_nothing() {
    let scene = scene(&["mine", "theirs"]).await;
    let (mine, theirs) = (scene.daemon.token("mine").await, scene.daemon.token("theirs").await);
    let mut owner = scene.client(&theirs).await;
    let sent = owner.send_as(&text("a secret")).await;
    let mut stranger = scene.client(&mine).await;
    let id = scene.daemon.agent("theirs").await.id;

    let named = |agent: &str| ChatSend { agent: Some(agent.to_owned()), ..text("hello?") };
    let place = ChatSend { conversation: Some(sent.conversation.clone()), ..text("hello?") };
    let hear = ChatSubscribe { agent: Some("theirs".to_owned()), ..ChatSubscribe::default() };
    let hear_one = ChatSubscribe { conversation: Some(sent.conversation.clone()), ..ChatSubscribe::default() };
    let read =
        HistoryParams { conversation: sent.conversation.clone(), before_seq: None, after_seq: None, limit: None };
    let params = [
        (method::CHAT_SEND, json!(named("theirs"))),
        (method::CHAT_SEND, json!(named(id.as_str()))),
        (method::CHAT_SEND, json!(place)),
        (method::CHAT_SUBSCRIBE, json!(hear)),
        (method::CHAT_SUBSCRIBE, json!(hear_one)),
        (method::CHAT_HISTORY, json!(read)),
        (method::CHAT_ABORT, json!({ "turn": sent.turn })),
        (method::CHAT_RETRY, json!({ "turn": sent.turn })),
    ];
    for (method, params) in params {
        let refused = stranger.ask::<Value>(method, &params).await.expect("an answer").expect_err(method);
        assert_eq!(refused.code, Code::NotFound, "{method} {params}: {refused:?}");
    }
    for agent in ["theirs", id.as_str()] {
        let body = json!({ "message": "hello?", "agentId": agent });
        scene.call(&mine, Call::post("/api/chat").json(&body)).await.expect_error(404, "not_found");
        scene.call(&mine, Call::get(format!("/api/chat?agentId={agent}"))).await.expect_error(404, "not_found");
    }
    let log = scene.call(&mine, Call::get("/api/chat")).await.expect(200).value();
    assert_eq!(log["count"], 0, "{log}");
    assert_eq!(scene.echoes[0].answered(), 0);
    scene.daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_agents_token_opens_nothing_and_does_not_come_back() {
    let scene = scene(&["helper"]).await;
    let token = scene.daemon.token("helper").await;
    let mut client = scene.client(&token).await;
    let deleted = Instant::now();
    scene.daemon.call(Call::delete("/api/instance/helper").respond_async()).await.expect(202);
    let (_, ended) = client.end(SOON).await;
    assert!(matches!(ended, Ended::Closed(4001, _)), "{ended:?}");
    assert!(deleted.elapsed() < SOON, "{:?}", deleted.elapsed());
    scene.call(&token, Call::get("/api/chat")).await.expect_error(401, "unauthenticated");
    scene.daemon.post("/api/instance/helper/token/rotate").await.expect_error(404, "not_found");

    scene.daemon.wait_phase("helper", agentbot_wire::Phase::Deleted, Duration::from_secs(60)).await;
    scene.daemon.call(Call::post("/api/instance/helper/undelete").respond_async()).await.expect(202);
    let new = scene.daemon.token("helper").await;
    assert_ne!(new, token);
    scene.call(&token, Call::get("/api/chat")).await.expect_error(401, "unauthenticated");
    scene.call(&new, Call::get("/api/chat")).await.expect(200);
    scene.daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_rotates_once_and_a_token_outlives_a_restart() {
    let mut scene = scene(&["helper"]).await;
    let old = scene.daemon.token("helper").await;
    let new = scene.rotate("helper", Some("k1")).await;
    assert_ne!(new, old);
    assert_eq!(scene.rotate("helper", Some("k1")).await, new, "a repeat changes nothing");
    assert_ne!(scene.rotate("helper", Some("k2")).await, new);
    let other = Call::post("/api/instance/helper/stop").key("k2");
    scene.daemon.call(other).await.expect_error(422, "idempotency_mismatch");
    let unknown = Call::post("/api/instance/helper/token/rotate").json(&json!({ "soon": true }));
    scene.daemon.call(unknown).await.expect_error(400, "invalid");

    let token = scene.daemon.token("helper").await;
    scene.daemon.sigterm().await;
    scene.daemon.restart().await;
    scene.call(&token, Call::get("/api/chat")).await.expect(200);
    assert_eq!(scene.newest("helper").await, 0);
    scene.daemon.finish().await;
}
