//! T19: secrets of every class are looked for wherever somebody may read, with everything logged and everything failing.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use agentbot_tests::{Call, Canaries, ChatClient, Daemon, FakeAgent, ModelServer, RawSocket, Seat, Setup, figure};
use agentbot_wire::{CHAT_PROTOCOL, Phase};
use serde_json::json;

const IN_FILE: &str = "sk-canary-file-4b1d7e02c9a85f36";
const IN_ENVIRONMENT: &str = "sk-canary-env-90c3f1a7d2e8b564";
const SOON: Duration = Duration::from_secs(60);
/// What the server of models does under these names: it answers, fails in many ways, and says the key in all of them.
const MODELS: [&str; 8] = ["echo", "stream", "unauthorized", "fails", "leaks", "leaks-whole", "complains", "noise"];

/// What can be asked for without changing anything.
const READ: [&str; 14] = [
    "/api/health",
    "/api/status",
    "/api/agents",
    "/api/instance/own",
    "/api/operations",
    "/api/models",
    "/api/models/discover",
    "/api/memory?agentId=own",
    "/api/chat?agentId=own",
    "/api/conversations?agentId=own",
    "/api/agents/own/messages",
    "/api/instance/nobody",
    "/api/operations/op_01kak2m5v5e7qrf9v3n6m8t0zx",
    "/nowhere",
];

async fn provoke_with_tokens(daemon: &Daemon, door: std::net::SocketAddr, token: &str, canaries: &mut Canaries) {
    // Where a token does not belong, it is refused, and not said again.
    let misplaced = [
        (format!("/api/chat/ws?token={token}"), vec![]),
        (
            format!("/api/chat/ws?access_token={token}"),
            vec![("sec-websocket-protocol".to_owned(), CHAT_PROTOCOL.to_owned())],
        ),
        ("/api/chat/ws".to_owned(), vec![("authorization".to_owned(), format!("Basic {token}"))]),
        ("/api/chat/ws".to_owned(), vec![("authorization".to_owned(), format!("Bearer {token}x"))]),
        ("/api/chat/ws".to_owned(), vec![("cookie".to_owned(), format!("token={token}"))]),
        (
            "/api/chat/ws".to_owned(),
            vec![("sec-websocket-protocol".to_owned(), format!("{CHAT_PROTOCOL}, token.{token}x"))],
        ),
        (format!("/v1/{token}"), vec![("authorization".to_owned(), format!("Bearer {token}"))]),
    ];
    for (path, headers) in misplaced {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let answer = RawSocket::tcp(door, &path, &headers).await;
        canaries.saw(
            format!("answer to {}", path.replace(token, "TOKEN")),
            match answer {
                Ok(opened) => opened.head,
                Err(refused) => refused,
            },
        );
    }
    let offer = format!("{CHAT_PROTOCOL}, token.{token}");
    let opened = RawSocket::tcp(door, "/api/chat/ws", &[("sec-websocket-protocol", &offer)]).await;
    canaries.saw("answer to a good token", opened.expect("an upgrade").head);
    let mut client = ChatClient::knock_tcp(door, token).await.expect("a good token");
    canaries.saw("connected", format!("{:?}", client.connect().await));
    let rotated = daemon.post("/api/instance/own/token/rotate").await.expect(200).value();
    let (_, end) = client.end(SOON).await;
    canaries.saw("the end of a token", format!("{end:?}"));
    assert_ne!(rotated["token"], token);
    canaries.secret("the second gateway token", rotated["token"].as_str().expect("a token"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_where_somebody_may_read_it() {
    let mut canaries = Canaries::default();
    let (server, files) = (ModelServer::start(None).await, tempfile::tempdir().unwrap());
    let key = files.path().join("key");
    std::fs::write(&key, format!("{IN_FILE}\n")).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let base_url = format!("{:?}", server.base_url());
    let (setup, door) = Setup::new()
        .set("log.level", "\"trace\"")
        .set("models.providers.file.kind", "\"openai\"")
        .set("models.providers.file.base_url", &base_url)
        .set("models.providers.file.api_key_file", &format!("{key:?}"))
        .set("models.providers.environment.kind", "\"openai\"")
        .set("models.providers.environment.base_url", &base_url)
        .set("models.providers.environment.api_key_env", "\"CANARY_KEY\"")
        .env("CANARY_KEY", IN_ENVIRONMENT)
        .tcp();
    let daemon = Daemon::start(setup).await;
    canaries.secret("the key in a file", IN_FILE);
    canaries.secret("the key in the environment", IN_ENVIRONMENT);
    let own_key = std::fs::read(daemon.home().state().join("key")).unwrap();
    canaries.secret("the daemon's key", &own_key.iter().map(|byte| format!("{byte:02x}")).collect::<String>());

    daemon.running("own").await;
    let token = daemon.token("own").await;
    canaries.secret("the gateway token", &token);
    let seat = Seat::of(&daemon, "own").await;
    canaries.secret("the nonce", &seat.nonce);

    // An agent that cannot name its models: one agent for each, and what its users see.
    for provider in ["file", "environment"] {
        for model in MODELS {
            let model = format!("{provider}/{model}");
            let tried = daemon.call(Call::post("/api/models/test").json(&json!({ "model": model }))).await;
            canaries.saw(format!("test of {model}"), tried.body);
        }
        for model in ["stream", "unauthorized", "leaks"] {
            let name = format!("{provider}-{model}");
            let body = json!({ "name": name, "model": format!("{provider}/{model}") });
            daemon.try_provision(&body).await.expect(201);
            daemon.wait_phase(&name, Phase::Running, SOON).await;
            let ask = json!({ "agentId": name, "message": "hello" });
            let said = daemon.call(Call::post("/api/chat").json(&ask)).await;
            canaries.saw(format!("answer of {name}"), said.body);
            canaries.saw(format!("inspect of {name}"), daemon.inspect(&name).await.to_string());
        }
    }
    let heard = server.heard();
    for key in [IN_FILE, IN_ENVIRONMENT] {
        let given = heard.iter().any(|heard| heard.header("authorization").is_some_and(|value| value.contains(key)));
        assert!(given, "{key:.14}… reached its provider");
    }

    provoke_with_tokens(&daemon, door, &token, &mut canaries).await;
    let wrong = format!("{}0", &seat.nonce[1..]);
    let refused = FakeAgent::connect(&seat.run, seat.uid, seat.uid, &wrong).await;
    canaries.saw("a wrong nonce at the door", format!("{:?}", refused.err()));
    if let Ok(mut agent) = FakeAgent::connect(&seat.run, seat.uid, seat.uid, &seat.nonce).await {
        canaries.saw("a wrong nonce in hello", format!("{:?}", agent.hello(&wrong).await));
    }
    for path in READ {
        canaries.saw(path, daemon.get(path).await.body);
    }
    for arguments in [
        &["list", "-o", "json"][..],
        &["show", "own"],
        &["status", "-o", "json"],
        &["messages", "file-leaks"],
        &["conversations", "own"],
        &["model", "list", "-o", "json"],
        &["model", "test", "environment/unauthorized"],
        &["chat", "file-unauthorized", "hello"],
        &["show", "nobody"],
    ] {
        let output = daemon.ctl(arguments).await;
        canaries.saw(format!("ctl {arguments:?}"), [output.stdout, output.stderr].concat());
    }
    canaries.saw_processes(&daemon);
    let container = daemon.container("own").await.id;
    let logs = format!("/containers/{container}/logs?stdout=true&stderr=true");
    canaries.saw("docker logs", daemon.engine().try_call("GET", &logs, None).await.expect("the engine").body);
    canaries.saw("docker inspect", daemon.inspect("own").await.to_string());
    // With what is only in its write-ahead log so far.
    canaries.saw_files(&daemon.home().state(), &["key", "nonce"]);
    canaries.saw_files(&daemon.home().runtime(), &[]);

    let home = daemon.finish().await;
    canaries.saw("the log", std::fs::read(home.log()).unwrap());
    canaries.saw_files(&home.state(), &["key", "nonce"]);
    let places = canaries.check();
    figure(format!("six secrets looked for in {places} places"));
    assert!(places > 100, "{places}");
}
