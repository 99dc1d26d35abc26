//! Models behind the gateway: what passes, what does not, and who sees the key.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agentbot_tests::{Call, Daemon, ModelServer, Reply, Setup, base64, eventually, knock, raw_reply};
use agentbot_wire::{Discovery, ModelList, ModelTested, Phase};
use serde_json::{Value, json};

const KEY: &str = "sk-canary-4b1d7e02c9a85f36";
const SOON: Duration = Duration::from_secs(60);

/// A key file and the daemon's configuration for a provider `up` there.
fn with_provider(server: &ModelServer, key: &Path) -> Setup {
    std::fs::write(key, format!("{KEY}\n")).unwrap();
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).unwrap();
    Setup::new()
        .set("models.providers.up.kind", "\"openai\"")
        .set("models.providers.up.base_url", &format!("{:?}", server.base_url()))
        .set("models.providers.up.api_key_file", &format!("{key:?}"))
        .set("models.aliases.quick", "\"up/echo\"")
}

/// An agent that speaks HTTP by hand.
struct Agent {
    run: PathBuf,
    uid: u32,
    nonce: String,
}

impl Agent {
    async fn of(daemon: &Daemon, name: &str) -> Self {
        let view = daemon.running(name).await;
        let run = daemon.run_dir(&view.slot);
        let nonce = std::fs::read_to_string(run.join("nonce")).unwrap().trim().to_owned();
        let uid = daemon.workspace_file(name, ".").await.metadata().unwrap().uid();
        Self { run, uid, nonce }
    }

    async fn say(&self, request: &str) -> Reply {
        let answer = knock(&self.run, "agentbot.sock", self.uid, self.uid, request.as_bytes()).await;
        raw_reply(&answer.stdout).unwrap_or_else(|| panic!("an HTTP answer was wanted: {answer:?}"))
    }

    async fn post(&self, body: &str) -> Reply {
        let Self { nonce, .. } = self;
        self.say(&format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {nonce}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await
    }

    async fn ask(&self, model: &str, stream: bool) -> Reply {
        let messages = json!([{"role": "user", "content": "hello"}]);
        self.post(&json!({"model": model, "stream": stream, "messages": messages}).to_string()).await
    }

    async fn get(&self, path: &str, bearer: &str) -> Reply {
        let head = "Host: x\r\nConnection: close\r\n";
        self.say(&format!("GET {path} HTTP/1.1\r\n{head}Authorization: Bearer {bearer}\r\n\r\n")).await
    }
}

/// An error in OpenAI's shape.
#[track_caller]
fn refused(reply: &Reply, status: u16, code: &str) -> String {
    assert_eq!(reply.status, status, "{reply}");
    let body = reply.value();
    assert_eq!(body["error"]["code"], code, "{reply}");
    assert!(body["error"]["type"].as_str().is_some_and(|word| word.ends_with("_error")), "{reply}");
    assert!(body["error"]["param"].is_null(), "{reply}");
    body["error"]["message"].as_str().unwrap().to_owned()
}

/// The data of each event; each but `[DONE]` is JSON.
#[track_caller]
fn events(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.status, 200, "{reply}");
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    let text = String::from_utf8(reply.body.to_vec()).unwrap();
    assert!(text.ends_with("\n\n"), "{text:?}");
    let data = text.split("\n\n").flat_map(str::lines).filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| if data == "[DONE]" { json!(data) } else { serde_json::from_str(data).expect(data) }).collect()
}

/// Outcome, model and tokens of each call, oldest first.
fn calls(daemon: &Daemon) -> Vec<(String, String, Option<u64>, Option<u64>)> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let conn = rusqlite::Connection::open_with_flags(daemon.home().state().join("agentbot.db"), flags).unwrap();
    let mut rows = conn
        .prepare(
            "SELECT outcome, provider || '/' || model, prompt_tokens, completion_tokens FROM model_calls ORDER BY id",
        )
        .unwrap();
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_through_unchanged_and_so_does_its_answer() {
    let (server, files) = (ModelServer::start(None).await, tempfile::tempdir().unwrap());
    let daemon = Daemon::start(with_provider(&server, &files.path().join("key"))).await;
    let agent = Agent::of(&daemon, "own").await;

    let body = r#"{"model":"quick","messages":[{"role":"user","content":"\u00e9"}],"x_new":{"a":[1,2.50]},"seed":7}"#;
    let reply = agent.post(body).await.expect(200);
    let heard = server.heard();
    assert_eq!(heard[0].line, "POST /v1/chat/completions");
    assert_eq!(heard[0].header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    let sent = String::from_utf8(heard[0].body.clone()).unwrap();
    assert!(sent.contains(r#""content":"\u00e9""#) && sent.contains(r#""x_new":{"a":[1,2.50]},"seed":7"#), "{sent}");
    assert_eq!(heard[0].json()["model"], "echo");
    let answer = reply.value();
    assert_eq!(answer["choices"][0]["message"]["x_new"], json!({"deep": [1, 2.50]}));
    assert_eq!(answer["x_received"]["seed"], 7);
    for header in ["set-cookie", "x-upstream"] {
        assert_eq!(reply.header(header), None);
    }
    for (name, _) in &heard[0].headers {
        assert!(
            ["authorization", "content-type", "accept", "user-agent", "host", "content-length"]
                .contains(&name.as_str()),
            "{name}"
        );
    }

    let streamed = events(&agent.ask("up/stream", true).await);
    let text: String = streamed.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!((text.as_str(), streamed.last()), ("one two three", Some(&json!("[DONE]"))));
    assert_eq!(streamed[0]["x_new"], 1);
    assert_eq!(server.heard()[1].json()["stream_options"], json!({"include_usage": true}));

    let own = events(&agent.ask("", true).await);
    assert_eq!(own[0]["model"], "builtin/basic", "without a name the agent's own model is meant");

    let rows = eventually("three rows", SOON, async || {
        let rows = calls(&daemon);
        if rows.len() == 3 { Ok(rows) } else { Err(format!("{rows:?}")) }
    })
    .await;
    let row =
        |outcome: &str, model: &str, prompt, completion| (outcome.to_owned(), model.to_owned(), prompt, completion);
    assert_eq!(rows[0], row("ok", "up/echo", Some(3), Some(4)));
    assert_eq!(rows[1], row("ok", "up/stream", Some(11), Some(22)));
    assert_eq!(rows[2], row("ok", "builtin/basic", None, None));
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_ask_and_for_what() {
    let (server, files) = (ModelServer::start(None).await, tempfile::tempdir().unwrap());
    let daemon = Daemon::start(with_provider(&server, &files.path().join("key"))).await;
    let (agent, other) = (Agent::of(&daemon, "own").await, Agent::of(&daemon, "other").await);

    let list = agent.get("/v1/models", &agent.nonce).await.expect(200).value();
    assert_eq!(list["object"], "list");
    let ids: Vec<&str> = list["data"].as_array().unwrap().iter().filter_map(|model| model["id"].as_str()).collect();
    assert_eq!(ids, ["builtin/basic", "up/echo", "up/stream", "quick"]);
    let before = server.heard().len();

    for nonce in ["0".repeat(agent.nonce.len()), String::new(), other.nonce.clone(), format!("{}0", agent.nonce)] {
        refused(&agent.get("/v1/models", &nonce).await, 401, "unauthenticated");
    }
    for field in ["api_base", "base_url", "api_key", "extra_headers"] {
        let said = refused(
            &agent.post(&format!(r#"{{"model":"up/echo","{field}":"http://127.0.0.1:1"}}"#)).await,
            400,
            "invalid",
        );
        assert!(said.contains(field), "{said}");
    }
    for model in ["gpt-4", "nobody/x", "http://127.0.0.1:1/v1", "builtin/large"] {
        let said = refused(&agent.ask(model, false).await, 400, "invalid");
        assert!(said.contains("builtin/basic, quick, up/<model>"), "{said}");
    }
    for body in ["", "[]", "{", r#"{"model":"up/echo","model":"up/stream"}"#] {
        refused(&agent.post(body).await, 400, "invalid");
    }
    let large = |bytes: usize| format!(r#"{{"model":"up/echo","pad":"{}"}}"#, "x".repeat(bytes - 28));
    assert_eq!(large(1 << 20).len(), 1 << 20);
    refused(&agent.post(&large((1 << 20) + 1)).await, 413, "too_large");
    refused(&agent.get("/v1/nothing", &agent.nonce).await, 404, "not_found");
    refused(&agent.get("/v1/chat/completions", &agent.nonce).await, 405, "method_not_allowed");
    assert_eq!(server.heard().len(), before, "none of it reached the provider");

    agent.post(&large(1 << 20)).await.expect(200);
    let own_api = agent.get("/api/models", &agent.nonce).await;
    assert_eq!(own_api.status, 404, "{own_api}");
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_misbehaves_is_cut_off_and_said_so() {
    let (server, files) = (ModelServer::start(None).await, tempfile::tempdir().unwrap());
    let setup = with_provider(&server, &files.path().join("key"))
        .set("models.first_byte_timeout", "\"1s\"")
        .set("models.idle_timeout", "\"1s\"")
        .set("models.max_duration", "\"3s\"")
        .set("models.max_response", "\"4 MiB\"");
    let daemon = Daemon::start(setup).await;
    let agent = Agent::of(&daemon, "own").await;
    let before = resident(&daemon);

    for (model, code, part) in [
        ("endless", "model_failed", "models.max_response"),
        ("drip", "timed_out", "models.max_duration"),
        ("line", "model_failed", "line without end"),
        ("cut", "model_failed", "broke off"),
        ("stops", "timed_out", "models.idle_timeout"),
    ] {
        let begun = Instant::now();
        let events = events(&agent.ask(&format!("up/{model}"), true).await);
        let error = &events.last().unwrap()["error"];
        assert_eq!(error["code"], code, "{model}: {error}");
        assert!(error["message"].as_str().unwrap().contains(part), "{model}: {error}");
        assert!(begun.elapsed() < Duration::from_secs(9), "{model}: {:?}", begun.elapsed());
    }
    for (model, status, code) in [
        ("huge", 502, "model_failed"),
        ("headers", 502, "model_failed"),
        ("html", 502, "model_failed"),
        ("broken", 502, "model_failed"),
        ("noise", 502, "model_failed"),
        ("silent", 504, "timed_out"),
        ("limited", 429, "rate_limited"),
        ("fails", 502, "model_failed"),
        ("stranger", 404, "not_found"),
    ] {
        refused(&agent.ask(&format!("up/{model}"), false).await, status, code);
    }

    let garbage = agent.ask("up/garbage", true).await.expect(200);
    assert!(garbage.body.starts_with(b"data: \xff\xfe{]\n\n\x00\x01\n"), "bytes pass as they are: {garbage}");
    assert!(garbage.body.ends_with(b"data: [DONE]\n\n"));
    let complaint = events(&agent.ask("up/complains", true).await);
    assert_eq!(complaint.last().unwrap()["error"]["message"], "overloaded [redacted]");

    let (after, spent) = (resident(&daemon), 64 << 10);
    assert!(after < before + spent, "{before} KiB before, {after} KiB after");
    assert_eq!(events(&agent.ask("up/stream", true).await).len(), 6, "a good one is served as ever");
    assert_eq!(daemon.agent("own").await.phase, Phase::Running);
    daemon.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_without_end_cost_the_log_a_line_a_second_and_the_table_a_row_a_minute() {
    const FAILURES: usize = 40;
    let (server, files) = (ModelServer::start(None).await, tempfile::tempdir().unwrap());
    let daemon = Daemon::start(with_provider(&server, &files.path().join("key"))).await;
    let agent = Agent::of(&daemon, "own").await;
    let begun = Instant::now();
    let whole = futures_util::future::join_all((0..4).map(|_| async {
        for _ in 0..FAILURES / 4 {
            refused(&agent.ask("up/fails", false).await, 502, "model_failed");
        }
    }));
    whole.await;
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap() + 2;
    let log = daemon.log_since_start();
    let lines = log.lines().filter(|line| line.contains("a call of a model failed")).count();
    assert!((1..=seconds).contains(&lines) && lines < FAILURES, "{lines} lines in {seconds} s");
    assert!(!log.contains("a call in OpenAI's shape failed"));
    let rows = eventually("rows", SOON, async || {
        let rows = calls(&daemon);
        if rows.is_empty() { Err("none".to_owned()) } else { Ok(rows) }
    })
    .await;
    assert!(rows.len() <= seconds / 60 + 2, "{rows:?}");
    daemon.finish().await;
}

/// Memory of the daemon in KiB.
fn resident(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_seen_by_its_provider_alone() {
    let canary = ModelServer::start(None).await;
    let (server, files) = (ModelServer::start(Some(&canary)).await, tempfile::tempdir().unwrap());
    let setup = with_provider(&server, &files.path().join("key")).set("log.level", "\"trace\"");
    let daemon = Daemon::start(setup).await;
    let agent = Agent::of(&daemon, "own").await;

    let mut said = Vec::new();
    for (model, stream) in [
        ("echo", false),
        ("stream", true),
        ("unauthorized", false),
        ("fails", false),
        ("leaks", true),
        ("leaks-whole", false),
        ("complains", true),
        ("redirect", false),
        ("cut", true),
        ("noise", false),
    ] {
        said.push((model, agent.ask(&format!("up/{model}"), stream).await.body.to_vec()));
    }
    refused(&agent.ask("up/redirect", false).await, 502, "model_failed");
    for model in ["up/echo", "up/leaks", "up/fails", "up/unauthorized"] {
        let tried = Call::post("/api/models/test").json(&json!({ "model": model }));
        said.push(("test", daemon.call(tried).await.body.to_vec()));
    }
    said.push(("list", daemon.get("/api/models").await.body.to_vec()));
    said.push(("models", agent.get("/v1/models", &agent.nonce).await.body.to_vec()));
    said.push(("inspect", daemon.inspect("own").await.to_string().into_bytes()));
    said.push(("operations", daemon.get("/api/operations").await.body.to_vec()));
    said.push(("log", daemon.log_since_start().into_bytes()));
    assert!(canary.heard().is_empty(), "nobody follows a redirect");
    assert!(server.heard().iter().any(|heard| heard.header("authorization").is_some_and(|value| value.contains(KEY))));

    let home = daemon.finish().await;
    said.push(("whole log", std::fs::read(home.log()).unwrap()));
    collect(&home.state(), &mut said);
    assert!(said.iter().any(|(name, _)| *name == "state"));
    let hex: String = KEY.bytes().map(|byte| format!("{byte:02x}")).collect();
    for (name, bytes) in &said {
        for needle in [KEY, &KEY[..12], &KEY[12..], &base64(KEY.as_bytes()), &hex] {
            let found = bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
            assert!(!found, "`{needle}` in {name}: {:.2000}", String::from_utf8_lossy(bytes));
        }
    }
}

fn collect(dir: &Path, into: &mut Vec<(&'static str, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            collect(&entry.path(), into);
        } else if kind.is_file() {
            into.push(("state", std::fs::read(entry.path()).unwrap()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_lists_tries_and_finds_models() {
    let (server, files) = (ModelServer::start(None).await, tempfile::tempdir().unwrap());
    let setup = with_provider(&server, &files.path().join("key"))
        .set("models.providers.gone.kind", "\"openai\"")
        .set("models.providers.gone.base_url", "\"http://127.0.0.1:1/v1\"")
        .env("GROQ_API_KEY", "gsk-canary");
    let daemon = Daemon::start(setup).await;

    let list: ModelList = daemon.get("/api/models").await.expect(200).json();
    let ids: Vec<&str> = list.models.iter().map(|model| model.id.as_str()).collect();
    assert_eq!(ids, ["builtin/basic", "up/echo", "up/stream"]);
    assert_eq!((list.count, list.default.as_str()), (3, "builtin/basic"));
    assert_eq!(list.models[1].aliases, ["quick"]);
    let reachable: Vec<_> =
        list.providers.iter().map(|provider| (provider.name.as_str(), provider.reachable)).collect();
    assert_eq!(reachable, [("builtin", None), ("gone", Some(false)), ("up", Some(true))]);
    daemon.get("/api/models").await.expect(200);
    let asked = server.heard().iter().filter(|heard| heard.line == "GET /v1/models").count();
    assert_eq!(asked, 1, "an answer is good for a minute");

    let test = |model: &str| Call::post("/api/models/test").json(&json!({ "model": model }));
    let tried: ModelTested = daemon.call(test("up/slow")).await.expect(200).json();
    assert_eq!(tried.reply, "one two three");
    assert_eq!(tried.usage.map(|usage| usage.completion_tokens), Some(22));
    let first = tried.first_token_ms.unwrap();
    assert!(first + 1_000 <= tried.total_ms, "nothing is held back: {first} of {} ms", tried.total_ms);
    let tried: ModelTested = daemon.call(Call::post("/api/models/test")).await.expect(200).json();
    assert_eq!(tried.model, "builtin/basic");
    daemon.call(test("gone/x")).await.expect_error(502, "model_failed");
    daemon.call(test("nobody/x")).await.expect_error(400, "invalid");
    daemon.call(test("up/complains")).await.expect_error(502, "model_failed");
    let unknown = Call::post("/api/models/test").json(&json!({"modell": "x"}));
    daemon.call(unknown).await.expect_error(400, "invalid");

    let reply = daemon.get("/api/models/discover").await.expect(200);
    assert!(!reply.to_string().contains("gsk-canary"), "{reply}");
    let found: Discovery = reply.json();
    let groq = found.found.iter().find(|found| found.source == "environment GROQ_API_KEY").expect("the variable");
    assert!(groq.config.contains("api_key_env = \"GROQ_API_KEY\"") && !groq.configured, "{groq:?}");
    daemon.finish().await;
}
