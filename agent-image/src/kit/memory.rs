//! `memory`: what the agent remembers, kept by the daemon.

use agentbot_wire::{
    ApiError, MAX_MEMORY_KEY, MAX_MEMORY_VALUE, MemoryFound, MemoryGet, MemoryPut, MemorySaved, MemorySearch, method,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Used, short};
use crate::turn::Desk;

/// The tool's name.
pub const NAME: &str = "memory";

/// The longest answer in bytes; what is longer is cut.
const MAX_RESULT: usize = 32 * 1024;
/// Keys of a list, and things found.
const MAX_FOUND: usize = 100;

const ACTIONS: [&str; 5] = ["get", "put", "search", "list", "forget"];

/// The tool as a model is told of it.
#[must_use]
pub fn schema() -> Value {
    let text = "Your long-term memory of keys and values. get: the value of `key`. put: stores `value` under `key`. \
        search: keys and values that contain `query`. list: all keys. forget: removes `key`.";
    let others = json!({
        "key": {"type": "string", "description": "a short name"},
        "value": {"description": "any JSON, mostly a text"},
        "query": {"type": "string", "description": "a text to look for"},
    });
    super::schema(NAME, text, &ACTIONS, others)
}

#[derive(Deserialize)]
struct Arguments {
    action: String,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    value: Option<Value>,
    #[serde(default)]
    query: Option<String>,
}

/// Does what the model asks.
pub async fn work(desk: &Desk, arguments: Value) -> Used {
    let done = match serde_json::from_value::<Arguments>(arguments) {
        Ok(arguments) => act(desk, arguments).await,
        Err(error) => Err(format!("the arguments are not of the tool's shape: {error}")),
    };
    done.unwrap_or_else(Used::failed)
}

async fn act(desk: &Desk, arguments: Arguments) -> Result<Used, String> {
    let Arguments { action, key, value, query } = arguments;
    match action.as_str() {
        "get" => {
            let key = named(key)?;
            let found: MemoryFound = ask(desk, method::MEMORY_GET, &MemoryGet { key: Some(key.clone()) }).await?;
            Ok(match found.memory.get(&key) {
                Some(value) => Used::done(cut(json!({ "value": value }).to_string()), format!("found {}", short(&key))),
                None => Used::done(json!({ "value": null }).to_string(), format!("no {}", short(&key))),
            })
        }
        "put" => {
            let (key, value) = (named(key)?, value.unwrap_or_default());
            if value.is_null() {
                return Err("`value` is missing; forget removes a key".to_owned());
            }
            let length = value.to_string().len();
            if length > MAX_MEMORY_VALUE {
                return Err(format!("the value has {length} bytes, {MAX_MEMORY_VALUE} are possible"));
            }
            put(desk, key, value).await
        }
        "forget" => put(desk, named(key)?, Value::Null).await,
        "search" => {
            let query = query.or(key).filter(|query| !query.is_empty()).ok_or("`query` is missing")?;
            let params = MemorySearch { query, limit: None };
            let found = ask(desk, method::MEMORY_SEARCH, &params).await?;
            Ok(listed(&found, |value| cut(shown(value))))
        }
        "list" => {
            let found = ask(desk, method::MEMORY_GET, &MemoryGet { key: None }).await?;
            Ok(listed(&found, |value| shown(value).chars().take(80).collect()))
        }
        other => Err(format!("there is no action `{}`; there are {}", short(other), ACTIONS.join(", "))),
    }
}

async fn put(desk: &Desk, key: String, value: Value) -> Result<Used, String> {
    let saved: MemorySaved = ask(desk, method::MEMORY_PUT, &MemoryPut { key, value }).await?;
    let word = if saved.saved { "remembered" } else { "forgotten" };
    Ok(Used::done(format!("{word}: {}", saved.key), format!("{word} {}", short(&saved.key))))
}

async fn ask<T: serde::de::DeserializeOwned>(
    desk: &Desk,
    method: &str,
    params: &impl serde::Serialize,
) -> Result<T, String> {
    desk.ask(method, params).await.map_err(|error| match error {
        ApiError { message, hint: Some(hint), .. } => format!("{message} ({hint})"),
        ApiError { message, .. } => message,
    })
}

fn named(key: Option<String>) -> Result<String, String> {
    let key = key.filter(|key| !key.is_empty()).ok_or("`key` is missing")?;
    if key.chars().count() > MAX_MEMORY_KEY || key.chars().any(char::is_control) {
        return Err(format!("a key has at most {MAX_MEMORY_KEY} characters, none of them a control character"));
    }
    Ok(key)
}

/// A text as it is, anything else as JSON.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_RESULT {
        let whole = text.len();
        text.truncate(text.floor_char_boundary(MAX_RESULT));
        text.push_str(&format!("\n(cut: the value has {whole} bytes)"));
    }
    text
}

fn listed(found: &MemoryFound, show: impl Fn(&Value) -> String) -> Used {
    if found.memory.is_empty() {
        return Used::done(json!({"memory": {}}).to_string(), "nothing found");
    }
    let mut text = String::new();
    let mut told = 0;
    for (key, value) in found.memory.iter().take(MAX_FOUND) {
        let line = format!("{key}: {}\n", show(value));
        if told > 0 && text.len() + line.len() > MAX_RESULT {
            break;
        }
        text.push_str(&line);
        told += 1;
    }
    if found.more || told < found.memory.len() {
        text.push_str("(there are more)\n");
    }
    Used::done(text, format!("{told} found"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_at_the_limit_passes_and_a_longer_one_does_not() {
        assert!(named(Some("é".repeat(MAX_MEMORY_KEY))).is_ok());
        assert!(named(Some("é".repeat(MAX_MEMORY_KEY + 1))).is_err());
        assert!(named(Some("a\nb".to_owned())).is_err());
        assert!(named(None).is_err());
    }

    #[test]
    fn a_long_value_is_cut_and_says_so() {
        assert_eq!(cut("a".repeat(MAX_RESULT)).len(), MAX_RESULT);
        let long = cut("é".repeat(MAX_RESULT));
        assert!(long.len() < MAX_RESULT + 64 && long.ends_with("bytes)"));
    }

    #[test]
    fn a_long_list_says_that_there_is_more() {
        let memory = (0..=MAX_FOUND).map(|number| (format!("k{number:03}"), json!("v"))).collect();
        let used = listed(&MemoryFound { memory, more: false }, shown);
        assert!(used.content.ends_with("(there are more)\n") && used.detail == format!("{MAX_FOUND} found"));
        let nothing = listed(&MemoryFound::default(), shown);
        assert!(nothing.ok && nothing.content == r#"{"memory":{}}"#);
    }

    #[tokio::test]
    async fn the_longest_value_is_sent_and_one_byte_more_is_not() {
        let (desk, _jobs) = Desk::new();
        // Its quotes count.
        let put = |length: usize| json!({"action": "put", "key": "a", "value": "a".repeat(length - 2)});
        tokio::select! {
            used = work(&desk, put(MAX_MEMORY_VALUE)) => panic!("not sent: {used:?}"),
            () = desk.due() => {}
        }
        let used = work(&desk, put(MAX_MEMORY_VALUE + 1)).await;
        assert!(used.content.contains("102401 bytes, 102400 are possible"), "{}", used.content);
    }

    #[tokio::test]
    async fn wrong_arguments_are_errors_that_the_model_can_act_on() {
        let (desk, _jobs) = Desk::new();
        let long = "a".repeat(MAX_MEMORY_VALUE);
        for (arguments, word) in [
            (json!({}), "action"),
            (json!("get"), "shape"),
            (json!({"action": "steal"}), "no action `steal`"),
            (json!({"action": "get"}), "`key` is missing"),
            (json!({"action": "put", "key": "a"}), "`value` is missing"),
            (json!({"action": "put", "key": "a", "value": long}), "bytes"),
            (json!({"action": "search"}), "`query` is missing"),
        ] {
            let used = work(&desk, arguments).await;
            assert!(!used.ok && used.content.starts_with("error: ") && used.content.contains(word), "{used:?}");
        }
    }
}
