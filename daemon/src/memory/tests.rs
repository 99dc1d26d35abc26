use agentbot_wire::TenantId;
use serde_json::json;

use super::*;
use crate::store::instances::{self, NewInstance};
use crate::store::{StoreOptions, slots};

/// A memory with agents of these names.
async fn with(names: &[&str]) -> (tempfile::TempDir, Memory, Vec<InstanceId>) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("agentbot.db"), StoreOptions::default()).unwrap().store;
    let mut ids = Vec::new();
    for name in names {
        let (tenant, at) = (TenantId::local(), now());
        let new = NewInstance {
            tenant: tenant.clone(),
            name: name.parse().unwrap(),
            plan: "small".to_owned(),
            memory: 256 << 20,
            nano_cpus: 500_000_000,
            pids: 128,
            disk: 1 << 30,
            model: "builtin/basic".to_owned(),
            image: None,
            config: "{}".to_owned(),
            token_salt: [0; 16],
        };
        let add = move |conn: &Connection| {
            let slot = slots::allocate(conn, &tenant, (20_000, 20_009), 10, at)?;
            let instance = new.housed(slot, at);
            instances::insert(conn, &instance)?;
            Ok(instance.id)
        };
        ids.push(store.write(add).await.unwrap());
    }
    (dir, Memory::new(store), ids)
}

fn put(key: &str, value: Value) -> MemoryPut {
    MemoryPut { key: key.to_owned(), value }
}

fn key(key: &str) -> MemoryGet {
    MemoryGet { key: Some(key.to_owned()) }
}

#[tokio::test]
async fn what_an_agent_remembers_is_its_own_until_it_forgets() {
    let (_dir, memory, ids) = with(&["one", "two"]).await;
    assert!(memory.put(&ids[0], &put("colour", json!({"is": "green"}))).await.unwrap().saved);
    assert_eq!(memory.get(&ids[0], &key("colour")).await.unwrap().memory["colour"], json!({"is": "green"}));
    assert!(memory.get(&ids[1], &key("colour")).await.unwrap().memory.is_empty());

    let view = memory.view(&ids[0]).await.unwrap();
    assert_eq!((view.count, view.last_updated.is_some()), (1, true));

    assert!(!memory.put(&ids[0], &put("colour", Value::Null)).await.unwrap().saved);
    assert!(memory.get(&ids[0], &MemoryGet::default()).await.unwrap().memory.is_empty());
    assert_eq!(memory.view(&ids[0]).await.unwrap().last_updated, None);
}

#[tokio::test]
async fn keys_and_values_on_both_sides_of_their_limits() {
    let (_dir, memory, ids) = with(&["one"]).await;
    let value = |bytes: usize| Value::String("v".repeat(bytes - 2));
    for (name, size, code) in [
        ("k".repeat(MAX_MEMORY_KEY), MAX_MEMORY_VALUE, None),
        ("é".repeat(MAX_MEMORY_KEY), 2, None),
        ("k".repeat(MAX_MEMORY_KEY + 1), 2, Some(Code::Invalid)),
        (String::new(), 2, Some(Code::Invalid)),
        ("a\nb".to_owned(), 2, Some(Code::Invalid)),
        ("k".to_owned(), MAX_MEMORY_VALUE + 1, Some(Code::TooLarge)),
    ] {
        let outcome = memory.put(&ids[0], &put(&name, value(size))).await;
        assert_eq!(outcome.err().map(|error| error.code()), code, "{name:.10} {size}");
    }
}

#[tokio::test]
async fn an_agent_has_so_many_keys_and_may_always_change_those_it_has() {
    let (_dir, memory, ids) = with(&["one"]).await;
    for batch in 0..MAX_MEMORY_KEYS / MAX_MEMORY_BULK {
        let values: serde_json::Map<_, _> =
            (0..MAX_MEMORY_BULK).map(|key| (format!("{batch}-{key}"), json!(key))).collect();
        assert_eq!(memory.write_all(&ids[0], &Value::Object(values)).await.unwrap(), MAX_MEMORY_BULK);
    }
    assert!(memory.write(&ids[0], "0-0", &json!("changed")).await.unwrap());
    assert_eq!(memory.write(&ids[0], "more", &json!(1)).await.unwrap_err().code(), Code::LimitReached);
    let both = memory.write_all(&ids[0], &json!({"0-1": "changed", "more": 1})).await;
    assert_eq!(both.unwrap_err().code(), Code::LimitReached);
    assert_eq!(memory.get(&ids[0], &key("0-1")).await.unwrap().memory["0-1"], 1, "all of a call or nothing");
    assert!(!memory.write(&ids[0], "0-0", &Value::Null).await.unwrap());
    assert!(memory.write(&ids[0], "more", &json!(1)).await.unwrap());
}

#[tokio::test]
async fn several_keys_at_once_have_a_limit() {
    let (_dir, memory, ids) = with(&["one"]).await;
    let some = |count: usize| Value::Object((0..count).map(|key| (key.to_string(), json!(key))).collect());
    assert_eq!(memory.write_all(&ids[0], &some(MAX_MEMORY_BULK)).await.unwrap(), MAX_MEMORY_BULK);
    assert_eq!(memory.write_all(&ids[0], &some(MAX_MEMORY_BULK + 1)).await.unwrap_err().code(), Code::LimitReached);
    assert_eq!(memory.write_all(&ids[0], &json!([1])).await.unwrap_err().code(), Code::Invalid);
}

#[tokio::test]
async fn all_values_together_have_a_limit() {
    let (_dir, memory, ids) = with(&["one"]).await;
    let large = Value::String("v".repeat(MAX_MEMORY_VALUE - 2));
    for key in 0..MAX_TOTAL / MAX_MEMORY_VALUE {
        memory.write(&ids[0], &key.to_string(), &large).await.unwrap();
    }
    assert_eq!(memory.write(&ids[0], "more", &large).await.unwrap_err().code(), Code::LimitReached);
}

#[tokio::test]
async fn an_answer_fits_a_frame_and_says_that_more_is_there() {
    let (_dir, memory, ids) = with(&["one"]).await;
    let large = Value::String("needle".repeat((MAX_MEMORY_VALUE - 2) / 6));
    for key in ["a", "b", "c"] {
        memory.write(&ids[0], key, &large).await.unwrap();
    }
    memory.write(&ids[0], "d", &json!("a small needle")).await.unwrap();
    let search = MemorySearch { query: "NEEDLE".to_owned(), limit: None };
    let found =
        [memory.get(&ids[0], &MemoryGet::default()).await.unwrap(), memory.search(&ids[0], &search).await.unwrap()];
    for found in found {
        assert!(found.more);
        assert_eq!(found.memory.keys().collect::<Vec<_>>(), ["a", "b", "d"]);
        assert!(serde_json::to_string(&found).unwrap().len() < ANSWER + 100);
    }
}

#[tokio::test]
async fn a_search_looks_into_keys_and_values_whatever_their_case() {
    let (_dir, memory, ids) = with(&["one"]).await;
    memory.write(&ids[0], "Straße", &json!("Ärger")).await.unwrap();
    memory.write(&ids[0], "other", &json!({"deep": ["ÄRGER"]})).await.unwrap();
    let search = |query: &str, limit| MemorySearch { query: query.to_owned(), limit };
    assert_eq!(memory.search(&ids[0], &search("ärger", None)).await.unwrap().memory.len(), 2);
    assert_eq!(memory.search(&ids[0], &search("STRASSE", None)).await.unwrap().memory.len(), 0);
    assert_eq!(memory.search(&ids[0], &search("straß", None)).await.unwrap().memory.len(), 1);
    let one = memory.search(&ids[0], &search("ärger", Some(1))).await.unwrap();
    assert_eq!((one.memory.len(), one.more), (1, true));
    for (query, good) in [("x".repeat(MAX_QUERY), true), ("x".repeat(MAX_QUERY + 1), false), (" ".to_owned(), false)] {
        assert_eq!(memory.search(&ids[0], &search(&query, None)).await.is_ok(), good);
    }
}

#[tokio::test]
async fn an_agent_that_writes_without_end_is_slowed_and_its_neighbour_is_not() {
    let (_dir, memory, ids) = with(&["one", "two"]).await;
    let mut refused = None;
    let begun = std::time::Instant::now();
    for count in 0..20 * WRITES_AT_ONCE {
        if let Err(error) = memory.put(&ids[0], &put("k", json!(count))).await {
            refused = Some((count, error));
            break;
        }
    }
    let (count, error) = refused.expect("a rate");
    assert_eq!(error.code(), Code::RateLimited);
    let earned = f64::from(WRITES_PER_SECOND) * begun.elapsed().as_secs_f64();
    assert!(count >= WRITES_AT_ONCE && f64::from(count - WRITES_AT_ONCE) <= earned + 1.0, "{count}");
    memory.put(&ids[1], &put("k", json!(1))).await.unwrap();
}

#[tokio::test]
async fn a_search_means_the_text_and_not_how_it_is_written_down() {
    let (_dir, memory, ids) = with(&["one"]).await;
    memory.write(&ids[0], "text", &json!("say \"Hi\"\n\\over\u{1}")).await.unwrap();
    memory.write(&ids[0], "list", &json!(["a", {"b": 2}])).await.unwrap();
    for (query, found) in [
        ("\"hi\"", &["text"][..]),
        ("\"", &["list", "text"]),
        ("\\over\u{1}", &["text"]),
        ("hi\"\n", &["text"]),
        ("n\\", &[]),
        ("\\n", &[]),
        ("u0001", &[]),
        ("\"say", &[]),
        ("{\"b\":2}", &["list"]),
        ("[\"a\"", &["list"]),
    ] {
        let search = MemorySearch { query: query.to_owned(), limit: None };
        let memory = memory.search(&ids[0], &search).await.unwrap().memory;
        assert_eq!(memory.keys().collect::<Vec<_>>(), found, "{query:?}");
    }
}

#[tokio::test]
async fn an_agent_that_searches_without_end_leaves_its_neighbours_their_turn() {
    let (_dir, memory, ids) = with(&["one", "two"]).await;
    let large = Value::String("v".repeat(MAX_MEMORY_VALUE - 2));
    for key in 0..20 {
        memory.write(&ids[0], &key.to_string(), &large).await.unwrap();
    }
    let search = MemorySearch { query: "needle".to_owned(), limit: None };
    // They are polled in their order: all of the first agent's stand before the neighbour's.
    let many = futures_util::future::join_all((0..16).map(|_| memory.search(&ids[0], &search)));
    let begun = std::time::Instant::now();
    let (many, (all, first)) = tokio::join!(many, async {
        let found = memory.search(&ids[1], &search).await;
        (found, begun.elapsed())
    });
    let whole = begun.elapsed();
    assert!(all.is_ok() && many.iter().all(Result::is_ok), "{many:?}");
    assert!(first < whole / 2, "{first:?} of {whole:?}");
}

#[tokio::test]
async fn a_look_has_its_turn_and_waits_so_long_for_it() {
    let (_dir, memory, ids) = with(&["one", "two"]).await;
    let look = memory.turn(&ids[0]).await.unwrap();
    tokio::time::pause();
    let search = MemorySearch { query: "needle".to_owned(), limit: None };
    let all = MemoryGet::default();
    for error in [memory.search(&ids[0], &search).await.unwrap_err(), memory.get(&ids[0], &all).await.unwrap_err()] {
        assert_eq!(error.code(), Code::Busy);
        assert!(error.to_api().hint.is_some());
    }
    tokio::time::resume();
    assert!(memory.search(&ids[1], &search).await.is_ok());
    assert!(memory.view(&ids[0]).await.is_ok(), "an operator does not wait for the agent");
    drop(look);
    assert!(memory.search(&ids[0], &search).await.is_ok());
}

#[tokio::test]
async fn a_purged_agent_remembers_nothing_and_is_told_so() {
    let (_dir, memory, ids) = with(&["one"]).await;
    let gone = ids[0].clone();
    memory.store.write(move |conn: &Connection| instances::remove(conn, &gone)).await.unwrap();
    let error = memory.put(&ids[0], &put("k", json!(1))).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.to_api().hint.is_some());
    assert_eq!(memory.write_all(&ids[0], &json!({"a": 1})).await.unwrap_err().code(), Code::NotFound);
    assert!(!memory.put(&ids[0], &put("k", Value::Null)).await.unwrap().saved);
}
