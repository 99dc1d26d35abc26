//! Trying a model: one short question, and how long the answer takes.

use std::time::Duration;

use agentbot_wire::{Code, ModelTest, ModelTested, TenantId};
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::router::route;
use super::sse::{self, Tee};
use super::{Answer, Asker, Gateway};
use crate::error::{Error, Result};

/// What is asked.
const QUESTION: &str = "Say hello in one short sentence.";
/// Time that it gets, whatever the configuration gives others.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most that is told of the answer, in characters.
const SHOWN: usize = 500;

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default, alias = "delta")]
    message: Option<Said>,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    content: Option<String>,
}

fn content(json: &[u8]) -> String {
    let said = |choice: Choice| choice.message.and_then(|said| said.content);
    let chunk = serde_json::from_slice::<Chunk>(json).ok();
    chunk.and_then(|chunk| chunk.choices.into_iter().find_map(said)).unwrap_or_default()
}

impl Gateway {
    /// Asks a model something short. It costs what the provider takes for it.
    ///
    /// # Errors
    /// As [`Gateway::complete`]; `model_failed` when it answers without a word; `timed_out` after a minute.
    pub async fn test(&self, tenant: TenantId, who: String, test: &ModelTest) -> Result<ModelTested> {
        tokio::time::timeout(PATIENCE, self.try_out(tenant, who, test)).await.unwrap_or_else(|_| {
            Err(Error::new(Code::TimedOut, format!("the model has not answered within {PATIENCE:?}"))
                .hint("ask again: a model that had to be loaded first may be ready by then"))
        })
    }

    async fn try_out(&self, tenant: TenantId, who: String, test: &ModelTest) -> Result<ModelTested> {
        let models = &self.inner.config.load().models;
        let word = test.model.clone().unwrap_or_default();
        let target = route(models, &word, &models.default)?;
        let body = json!({"model": word, "stream": true, "messages": [{"role": "user", "content": QUESTION}]});
        let asker = Asker { tenant, who, model: models.default.clone() };
        let begun = Instant::now();
        let since = || u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (mut reply, mut first_token_ms, mut tee) = (String::new(), None, Tee::default());
        match self.complete(asker, body.to_string().as_bytes()).await? {
            Answer::Json(json) => {
                reply = content(&json);
                tee.usage = sse::usage_of(&json);
            }
            Answer::Events(mut pieces) => {
                while let Some(lines) = pieces.next().await {
                    let lines: Bytes = lines?;
                    tee.watch(&lines);
                    for data in lines.split(|byte| matches!(byte, b'\n' | b'\r')).filter_map(sse::data) {
                        let piece = content(data);
                        if !piece.is_empty() && first_token_ms.is_none() {
                            first_token_ms = Some(since());
                        }
                        if reply.len() < 4 * SHOWN {
                            reply.push_str(&piece);
                        }
                        if let Some(error) = failure(data) {
                            return Err(Error::new(Code::ModelFailed, format!("{}: {error}", target.id()))
                                .hint("ask again, or choose another model"));
                        }
                    }
                }
            }
        }
        let reply = one_line(&reply);
        if reply.trim().is_empty() {
            return Err(Error::new(Code::ModelFailed, format!("{} answered without a word", target.id()))
                .hint("choose a model that chats"));
        }
        Ok(ModelTested { model: target.id(), reply, first_token_ms, total_ms: since(), usage: tee.usage })
    }
}

/// What a stream says that failed.
fn failure(data: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Failed {
        error: Option<Value>,
    }
    let error = serde_json::from_slice::<Failed>(data).ok()?.error?;
    let text = error.as_str().or_else(|| error.get("message")?.as_str());
    Some(text.map_or_else(|| "it says that it failed, and not why".to_owned(), one_line))
}

/// The beginning of a text as one line.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split(char::is_whitespace).filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_seen_wherever_it_stands_in_its_line() {
        for (data, told) in [
            (r#"{"error":{"message":"over\nloaded"}}"#, Some("over loaded")),
            (r#"{ "error" : {"message":"overloaded"}}"#, Some("overloaded")),
            (r#"{"id":"x","choices":[],"error":{"type":"y","message":"overloaded"}}"#, Some("overloaded")),
            (r#"{"error":"overloaded"}"#, Some("overloaded")),
            (r#"{"error":{}}"#, Some("it says that it failed, and not why")),
            (r#"{"choices":[],"error":null}"#, None),
            (r#"{"choices":[{"delta":{"content":"{\"error\":1}"}}]}"#, None),
            ("[DONE]", None),
        ] {
            assert_eq!(failure(data.as_bytes()).as_deref(), told, "{data}");
        }
    }
}
