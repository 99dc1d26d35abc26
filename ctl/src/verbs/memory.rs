//! `memory`: what an agent remembers.

use agentbot_wire::{MAX_MEMORY_VALUE, MemoryView, MemoryWrite};
use serde_json::{Value, json};

use crate::args::Target;
use crate::cli::{MemoryKey, MemoryVerb};
use crate::exit::{Exit, Failure, USAGE};
use crate::follow::Follower;
use crate::output::table::{Field, Width, table, terminal_width};
use crate::output::{Outcome, text};

/// A value is shown in a row up to this length where nothing else bounds it.
const SHOWN: usize = 200;

/// Does what was asked.
///
/// # Errors
/// When there is no such agent or key, or the value is refused.
pub async fn run(follower: &Follower, verb: MemoryVerb) -> Result<Outcome, Failure> {
    match verb {
        MemoryVerb::List(one) => list(follower, &one.name).await,
        MemoryVerb::Get(of) => get(follower, &of).await,
        MemoryVerb::Set { of, value } => {
            let value = serde_json::from_str(&value).unwrap_or(Value::String(value));
            if value.is_null() {
                return Err(Failure::new(Exit::Usage, USAGE, "null is no value").hint(format!(
                    "agentbotctl memory forget {} {}",
                    of.name.as_str(),
                    text::line(&of.key)
                )));
            }
            let bytes = value.to_string().len();
            if bytes > MAX_MEMORY_VALUE {
                let message =
                    format!("a value has at most {} KiB of JSON, this one has {bytes} bytes", MAX_MEMORY_VALUE / 1024);
                return Err(Failure::new(Exit::Usage, "too_large", message).hint("split it over several keys"));
            }
            write(follower, &of, value, "remembers").await
        }
        MemoryVerb::Forget(of) => {
            find(follower, &of).await?;
            write(follower, &of, Value::Null, "has forgotten").await
        }
    }
}

async fn list(follower: &Follower, target: &Target) -> Result<Outcome, Failure> {
    let view = follower.api.memory(target).await?;
    let text = if view.memory.is_empty() {
        format!("{} remembers nothing yet.\n", target.as_str())
    } else {
        rows(&view, terminal_width())
    };
    Ok(Outcome::ok(json!(view), text))
}

fn rows(view: &MemoryView, width: Option<u16>) -> String {
    let header = [("KEY", Width::Whole), ("VALUE", Width::Cut)];
    let row = |(key, value): (&String, &Value)| {
        vec![Field::plain(key), Field::plain(&text::shorten(&text::line(&shown(value)), SHOWN))]
    };
    table(&header, view.memory.iter().map(row).collect(), width)
}

/// A text as it is, everything else as JSON.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

async fn find(follower: &Follower, of: &MemoryKey) -> Result<Value, Failure> {
    let view = follower.api.memory(&of.name).await?;
    view.memory.get(&of.key).cloned().ok_or_else(|| {
        let name = of.name.as_str();
        Failure::new(Exit::NotFound, "not_found", format!("{name} remembers nothing as `{}`", of.key))
            .hint(format!("agentbotctl memory list {name}"))
    })
}

async fn get(follower: &Follower, of: &MemoryKey) -> Result<Outcome, Failure> {
    let value = find(follower, of).await?;
    let text = match &value {
        Value::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).unwrap_or_default(),
    };
    let text = format!("{}\n", text::block(&text).trim_end_matches('\n'));
    Ok(Outcome::ok(json!({"key": of.key, "value": value}), text))
}

async fn write(follower: &Follower, of: &MemoryKey, value: Value, what: &str) -> Result<Outcome, Failure> {
    let request = MemoryWrite { agent: Some(of.name.as_str().to_owned()), key: Some(of.key.clone()), memory: value };
    let reply = follower.api.remember(&request).await?;
    follower.progress.say(&super::good(&format!("{} {what} {}", of.name.as_str(), text::line(&of.key))));
    Ok(Outcome::ok(reply, String::new()))
}
