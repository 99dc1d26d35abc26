//! The chat socket's manners: how it begins, what it answers, and how it ends.

use std::time::{Duration, Instant};

use agentbot_tests::{ChatClient, Daemon, EchoAgent, Ended, Got, RawFrame, RawSocket, Setup};
use agentbot_wire::{CHAT_PROTOCOL, ChatSend, ChatSent, Code, MAX_FRAME, Platform, method};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(10);

async fn scene(setup: Setup) -> (Daemon, EchoAgent) {
    let daemon = Daemon::start(setup).await;
    daemon.provision("helper").await;
    let echo = EchoAgent::at(&daemon, "helper", 2, Duration::ZERO).await;
    (daemon, echo)
}

fn request(id: &str, method: &str, params: &Value) -> RawFrame {
    RawFrame::text(json!({ "type": "req", "id": id, "method": method, "params": params }).to_string())
}

async fn raw(daemon: &Daemon, path: &str) -> RawSocket<tokio::net::UnixStream> {
    RawSocket::unix(&daemon.home().socket(), path, CHAT_PROTOCOL).await.expect("an upgrade")
}

async fn answer<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(socket: &mut RawSocket<S>) -> Value {
    match socket.next(SOON).await {
        Got::Text(text) => serde_json::from_str(&text).expect("JSON"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_begins_with_connect_and_says_who_one_is() {
    let (daemon, _echo) = scene(Setup::scripted()).await;
    let mut client = ChatClient::knock(&daemon.home().socket()).await.expect("an upgrade");
    let connected = client.connect().await.expect("an answer");
    assert_eq!((connected.version, connected.policy.max_frame), (1, MAX_FRAME));
    assert_eq!((connected.actor.as_str(), connected.agent), ("operator:0", None));

    let mut hasty = raw(&daemon, "/api/chat/ws").await;
    hasty.send(&request("1", method::CHAT_SEND, &json!({ "text": "hi" }))).await;
    assert_eq!(answer(&mut hasty).await["error"]["code"], "invalid");
    assert!(matches!(hasty.next(SOON).await, Got::Close(Some(1002))), "no valid connect");
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_is_closed_and_so_is_who_answers_no_ping() {
    let (daemon, _echo) = scene(Setup::scripted().set("chat.ping", "\"200ms\"")).await;
    let begun = Instant::now();
    let mut mute = raw(&daemon, "/api/chat/ws").await;
    mute.send(&request("1", method::CONNECT, &json!({ "version": 1, "client": "mute" }))).await;
    assert_eq!(answer(&mut mute).await["payload"]["policy"]["beat_ms"], 200);
    let mut pings = 0;
    let end = loop {
        match mute.next(SOON).await {
            Got::Ping(_) => pings += 1,
            other => break other,
        }
    };
    assert!(matches!(end, Got::Close(Some(4008))), "{end:?}");
    assert_eq!(pings, 3);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());

    let mut alive = daemon.chat().await;
    alive.follow("helper").await;
    assert!(matches!(alive.next(Duration::from_secs(2)).await, Err(Ended::Silent)), "a client that answers stays");

    let begun = Instant::now();
    let mut silent = raw(&daemon, "/api/chat/ws").await;
    assert!(matches!(silent.next(Duration::from_secs(15)).await, Got::Close(Some(4008))));
    assert!((9..=12).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_sent_in_one_breath_keep_their_order() {
    let (daemon, _echo) = scene(Setup::scripted()).await;
    let mut client = daemon.chat().await;
    let mut asked = Vec::new();
    for number in 0..12 {
        let send = ChatSend { text: format!("number {number}"), ..ChatSend::default() };
        asked.push(client.begin(method::CHAT_SEND, &send).await.expect("an open connection"));
    }
    let mut sent: Vec<ChatSent> = Vec::new();
    for id in &asked {
        let answer = client.answer(id).await.expect("an answer").expect("a valid message");
        sent.push(serde_json::from_value(answer).expect("the shape of chat.send's answer"));
    }
    assert!(sent.windows(2).all(|two| two[0].seq < two[1].seq), "{sent:?}");
    let last = sent.last().expect("twelve").turn.clone();
    client.follow("helper").await;
    client.done(&last).await;
    let history = client.history(&sent[0].conversation).await;
    let asked: Vec<_> = history
        .iter()
        .filter(|message| message.content.starts_with("number"))
        .map(|message| message.content.clone())
        .collect();
    assert_eq!(asked, (0..12).map(|number| format!("number {number}")).collect::<Vec<_>>());
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_in_the_url_is_meant_and_the_command_line_is_known() {
    let (daemon, _echo) = scene(Setup::scripted()).await;
    daemon.provision("other").await;
    let mut nameless = daemon.chat().await;
    let send = ChatSend { text: "whom?".to_owned(), ..ChatSend::default() };
    let refused = nameless.ask::<ChatSent>(method::CHAT_SEND, &send).await.expect("an answer").expect_err("two agents");
    assert!(refused.code == Code::Invalid && refused.hint.is_some_and(|hint| hint.contains("helper, other")));

    let mut meant = raw(&daemon, "/api/chat/ws?agent=helper").await;
    meant.send(&request("1", method::CONNECT, &json!({ "version": 1, "client": "agentbotctl/0.1.0" }))).await;
    answer(&mut meant).await;
    meant.send(&request("2", method::CHAT_SEND, &json!({ "text": "you" }))).await;
    let sent: ChatSent = serde_json::from_value(answer(&mut meant).await["payload"].clone()).expect("a sent message");
    let history = nameless.history(&sent.conversation).await;
    assert_eq!((history[0].content.as_str(), history[0].platform), ("you", Platform::Ctl));
    let mut client = daemon.chat().await;
    let next = client.send("helper", "main", "me").await;
    let history = nameless.history(&next.conversation).await;
    let mine = history.iter().find(|message| message.seq == next.seq).expect("a stored message");
    assert_eq!(mine.platform, Platform::Ws);
    daemon.purge("other").await;
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemons_end_is_said_with_the_cursors_to_come_back_with() {
    let (mut daemon, _echo) = scene(Setup::scripted()).await;
    let mut client = daemon.chat().await;
    client.follow("helper").await;
    let sent = client.send("helper", "main", "hello").await;
    let done = client.done(&sent.turn).await;

    let (ended, exited) = tokio::join!(client.end(SOON), daemon.sigterm());

    let (bye, end) = ended;
    assert!(matches!(end, Ended::Closed(1001, _)), "{end:?}");
    assert_eq!(bye.expect("a bye").cursors.get(&sent.conversation), Some(&done.last_seq));
    assert!(exited.after < Duration::from_secs(5), "open sockets do not hold the end up: {:?}", exited.after);
    daemon.launch();
    daemon.ready().await;
    let mut back = ChatClient::resume(client.cut(), &daemon.home().socket()).await.expect("a new connection");
    back.follow_on("helper").await.expect("a subscription");
    back.ledger.check();
    daemon.finish().await;
}
