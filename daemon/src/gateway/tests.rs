//! The gateway with the builtin model, and the rows that calls leave. Providers are tried in the end-to-end stories.

use agentbot_wire::{Code, ModelTest, TenantId};
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::*;
use crate::config::{Config, Loaded};
use crate::store::{Connection, StoreOptions, model_calls};

fn gateway(change: impl FnOnce(&mut Config)) -> (tempfile::TempDir, Store, Gateway) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("agentbot.db"), StoreOptions::default()).unwrap().store;
    let mut config = Config::default();
    change(&mut config);
    let gateway = Gateway::new(store.clone(), Live::new(Loaded { config, warnings: Vec::new() }), TaskTracker::new());
    (dir, store, gateway)
}

fn asker() -> Asker {
    Asker { tenant: TenantId::local(), who: "ins_x".to_owned(), model: "builtin/basic".to_owned() }
}

fn body(text: &str, stream: bool) -> Vec<u8> {
    json!({"messages": [{"role": "user", "content": text}], "stream": stream}).to_string().into_bytes()
}

async fn events(answer: Answer) -> Vec<String> {
    let Answer::Events(mut pieces) = answer else { panic!("events were wanted") };
    let mut text = Vec::new();
    while let Some(piece) = pieces.next().await {
        text.extend_from_slice(&piece.unwrap());
    }
    let text = String::from_utf8(text).unwrap();
    text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap().to_owned()).collect()
}

/// Outcome and model of calls and how many there were, oldest first.
async fn rows(store: &Store) -> Vec<(String, String, u32)> {
    // Comes after whatever waits for the writer.
    store
        .write(|conn: &Connection| {
            let mut rows = conn.prepare(
                "SELECT outcome, provider || '/' || model AS name, sum(calls) FROM model_calls GROUP BY outcome, name
                 ORDER BY min(id)",
            )?;
            let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            Ok(rows.collect::<std::result::Result<_, _>>()?)
        })
        .await
        .unwrap()
}

#[tokio::test]
async fn the_builtin_model_answers_whole_and_in_pieces_with_the_same_words() {
    let (_dir, store, gateway) = gateway(|_| {});
    let Answer::Json(whole) = gateway.complete(asker(), &body("count to 3", false)).await.unwrap() else {
        panic!("JSON was wanted")
    };
    let whole: Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!(whole["choices"][0]["message"]["content"], "1 2 3");
    assert_eq!(whole["object"], "chat.completion");

    let events = events(gateway.complete(asker(), &body("count to 3", true)).await.unwrap()).await;
    assert_eq!(events.last().unwrap(), "[DONE]");
    let chunks: Vec<Value> =
        events[..events.len() - 1].iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!((text.as_str(), chunks.len()), ("1 2 3", 5));
    assert_eq!(chunks[4]["choices"][0]["finish_reason"], "stop");
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]));
    assert_eq!(rows(&store).await, [("ok".to_owned(), "builtin/basic".to_owned(), 2)]);
}

#[tokio::test]
async fn a_tool_call_has_openais_shape() {
    let (_dir, _store, gateway) = gateway(|_| {});
    let mut body = json!({"messages": [{"role": "user", "content": "recall x"}],
        "tools": [{"type": "function", "function": {"name": "memory", "parameters": {}}}]});
    let Answer::Json(whole) = gateway.complete(asker(), body.to_string().as_bytes()).await.unwrap() else { panic!() };
    let whole: Value = serde_json::from_slice(&whole).unwrap();
    let call = &whole["choices"][0]["message"]["tool_calls"][0];
    assert_eq!(
        (call["type"].as_str(), whole["choices"][0]["finish_reason"].as_str()),
        (Some("function"), Some("tool_calls"))
    );
    let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({"action": "get", "key": "x"}));

    body["stream"] = json!(true);
    let events = events(gateway.complete(asker(), body.to_string().as_bytes()).await.unwrap()).await;
    let chunk: Value = serde_json::from_str(&events[1]).unwrap();
    assert_eq!(chunk["choices"][0]["delta"]["tool_calls"][0]["index"], 0);

    body["tool_choice"] = json!("none");
    body["stream"] = json!(false);
    let Answer::Json(whole) = gateway.complete(asker(), body.to_string().as_bytes()).await.unwrap() else { panic!() };
    assert!(!String::from_utf8_lossy(&whole).contains("tool_calls"));
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_is_a_row_too() {
    let (_dir, store, gateway) = gateway(|_| {});
    let Answer::Events(mut pieces) = gateway.complete(asker(), &body("count to 9", true)).await.unwrap() else {
        panic!()
    };
    let _ = pieces.next().await;
    drop(pieces);
    let refused = gateway.complete(asker(), br#"{"messages": 1}"#).await.err().unwrap();
    assert_eq!(refused.code(), Code::Invalid);
    let outcomes: Vec<_> = rows(&store).await.into_iter().map(|(outcome, ..)| outcome).collect();
    assert_eq!(outcomes, ["cancelled", "invalid"]);
}

#[tokio::test]
async fn an_agent_has_so_many_calls_at_once() {
    let (_dir, _store, gateway) = gateway(|config| config.models.parallel = 2);
    let question = body("count to 9", true);
    let ask = || gateway.complete(asker(), &question);
    let ask_one = ask().await.unwrap();
    let ask_two = ask().await.unwrap();
    let error = ask().await.err().unwrap();
    assert_eq!(error.code(), Code::RateLimited);
    drop(ask_one);
    assert!(ask().await.is_ok());
    drop(ask_two);
}

#[tokio::test]
async fn an_agent_that_asks_without_end_is_slowed_fills_no_table_and_its_neighbour_is_served() {
    let (_dir, store, gateway) = gateway(|_| {});
    let (question, begun, mut refused) = (body("hello", false), std::time::Instant::now(), 0_u32);
    for _ in 0..5 * CALLS_AT_ONCE {
        if let Err(error) = gateway.complete(asker(), &question).await {
            assert_eq!(error.code(), Code::RateLimited);
            assert!(error.to_api().hint.is_some());
            refused += 1;
        }
    }
    let earned = f64::from(CALLS_PER_SECOND) * begun.elapsed().as_secs_f64();
    let answered = 5 * CALLS_AT_ONCE - refused;
    assert!(answered >= CALLS_AT_ONCE && f64::from(answered - CALLS_AT_ONCE) <= earned + 1.0, "{answered}");
    assert!(gateway.complete(Asker { who: "ins_y".to_owned(), ..asker() }, &question).await.is_ok());

    let told: u32 = rows(&store).await.iter().map(|(_, _, calls)| calls).sum();
    let count = |conn: &Connection| Ok(conn.query_row("SELECT count(*) FROM model_calls", [], |row| row.get(0))?);
    let rows: u32 = store.write(count).await.unwrap();
    // One each, and once more should a minute end meanwhile.
    assert!(told == answered + 1 && (2..=4).contains(&rows), "{told} {rows}");
}

#[tokio::test]
async fn a_provider_that_cannot_be_asked_says_why() {
    let file = "[models.providers.p]\nkind = \"openai\"\nbase_url = \"http://127.0.0.1:1/v1\"\n";
    let parse = |key: &str| crate::config::parse(std::path::Path::new("x"), &format!("{file}{key}")).unwrap().config;
    for (key, part) in [
        ("api_key_file = \"/nonexistent\"", "/nonexistent"),
        ("api_key_env = \"AGENTBOT_NO_SUCH_KEY\"", "AGENTBOT_NO_SUCH_KEY"),
        ("", "cannot be reached"),
    ] {
        let (_dir, store, gateway) = gateway(|config| config.models = parse(key).models);
        let asker = Asker { model: "p/m".to_owned(), ..asker() };
        let error = gateway.complete(asker, &body("hello", false)).await.err().unwrap();
        assert_eq!(error.code(), Code::ModelFailed);
        assert!(error.message().contains(part), "{error}");
        assert!(error.to_api().hint.is_some());
        assert_eq!(rows(&store).await, [("model_failed".to_owned(), "p/m".to_owned(), 1)]);

        let list = gateway.list().await;
        assert_eq!((list.count, list.models[0].id.as_str(), list.models[0].default), (1, "builtin/basic", true));
        assert_eq!(list.providers[1].reachable, Some(false));
        assert!(list.providers[1].error.as_ref().unwrap().contains(part));
    }
}

#[tokio::test]
async fn a_model_can_be_tried() {
    let (_dir, _store, gateway) = gateway(|_| {});
    let tried = gateway.test(TenantId::local(), "operator:0".to_owned(), &ModelTest::default()).await.unwrap();
    assert_eq!(tried.model, "builtin/basic");
    assert!(!tried.reply.is_empty() && tried.first_token_ms.is_some() && tried.usage.is_none(), "{tried:?}");
    let stranger = ModelTest { model: Some("nobody/x".to_owned()) };
    assert!(gateway.test(TenantId::local(), "operator:0".to_owned(), &stranger).await.is_err());
}

#[tokio::test]
async fn old_calls_go_and_new_ones_stay() {
    let (_dir, store, gateway) = gateway(|_| {});
    gateway.complete(asker(), &body("hello", false)).await.unwrap();
    let ago = |seconds| jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds);
    assert_eq!(store.write(move |conn| model_calls::trim(conn, ago(60))).await.unwrap(), 0);
    assert_eq!(store.write(move |conn| model_calls::trim(conn, ago(-60))).await.unwrap(), 1);
    assert!(rows(&store).await.is_empty());
}
