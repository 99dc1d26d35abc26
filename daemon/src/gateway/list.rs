//! Which models there are: the builtin one, and what each server says it has, remembered for a minute.

use std::collections::BTreeMap;
use std::time::Duration;

use agentbot_wire::{ModelList, ModelView, ProviderView};
use futures_util::future::join_all;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::client::Lazy;
use super::key;
use super::relay::Bounds;
use super::router::BASIC;
use super::upstream::Server;
use crate::config::{BUILTIN, Models, Provider, ProviderKind};
use crate::error::{Error, Result};

/// How long an answer is good for.
const FRESH: Duration = Duration::from_secs(60);
/// Time that a server gets to list its models.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest list in bytes.
const MAX_LIST: usize = 8 * 1024 * 1024;
/// Models of one server that are listed.
const MAX_MODELS: usize = 2_000;
/// The longest name of a model in bytes.
const MAX_NAME: usize = 256;

/// What servers said lately.
#[derive(Default)]
pub(super) struct Lists(Mutex<BTreeMap<String, Known>>);

#[derive(Clone)]
struct Known {
    of: Provider,
    at: Instant,
    outcome: Result<Vec<String>, String>,
}

impl Lists {
    /// The models of every server, or why it does not say. One look at a time: who comes meanwhile waits for it.
    async fn look(&self, models: &Models, client: &Lazy) -> BTreeMap<String, Known> {
        let mut known = self.0.lock().await;
        known.retain(|name, known| models.providers.get(name) == Some(&known.of) && known.at.elapsed() < FRESH);
        let missing = models.providers.iter().filter(|(name, _)| !known.contains_key(*name));
        let asked = missing.map(async |(name, provider)| {
            let outcome = ask(name, provider, client).await.map_err(|error| {
                tracing::info!(provider = name, %error, "a provider does not list its models");
                match error.to_api() {
                    api if api.hint.is_some() => format!("{}; {}", api.message, api.hint.unwrap_or_default()),
                    api => api.message,
                }
            });
            (name.clone(), Known { of: provider.clone(), at: Instant::now(), outcome })
        });
        let fresh = join_all(asked).await;
        known.extend(fresh);
        known.clone()
    }

    /// Everything that can be asked.
    pub(super) async fn list(&self, models: &Models, client: &Lazy) -> ModelList {
        let known = self.look(models, client).await;
        let default = models.resolve(&models.default).unwrap_or_else(|_| models.default.clone());
        let view = |provider: &str, name: &str| {
            let id = format!("{provider}/{name}");
            let means = |alias: &&String| models.resolve(alias).is_ok_and(|target| target == id);
            ModelView {
                provider: provider.to_owned(),
                aliases: models.aliases.keys().filter(means).cloned().collect(),
                default: id == default,
                id,
            }
        };
        let mut views = vec![view(BUILTIN, BASIC)];
        let mut providers = vec![ProviderView {
            name: BUILTIN.to_owned(),
            kind: BUILTIN.to_owned(),
            base_url: None,
            reachable: None,
            error: None,
        }];
        for (name, known) in known {
            let (reachable, error) = match known.outcome {
                Ok(names) => {
                    views.extend(names.iter().map(|model| view(&name, model)));
                    (true, None)
                }
                Err(error) => (false, Some(error)),
            };
            providers.push(ProviderView {
                name,
                kind: known.of.kind.as_str().to_owned(),
                base_url: Some(known.of.base_url),
                reachable: Some(reachable),
                error,
            });
        }
        ModelList {
            count: views.len(),
            models: views,
            aliases: models.aliases.clone(),
            default: models.default.clone(),
            providers,
        }
    }
}

/// Bounds of a question that a server answers at once.
pub(super) fn brief(patience: Duration) -> Bounds {
    let end = Instant::now() + patience;
    Bounds { first: end, idle: patience, end, bytes: MAX_LIST }
}

async fn ask(name: &str, provider: &Provider, client: &Lazy) -> Result<Vec<String>> {
    if provider.kind == ProviderKind::Anthropic {
        return Err(Error::new(agentbot_wire::Code::Unsupported, "providers of kind \"anthropic\" are not served yet")
            .hint("use one of kind \"openai\""));
    }
    let key = key::read(name, &provider.api_key).await?;
    let server = Server { name, base_url: &provider.base_url, key, client: client.get(&provider.base_url).await? };
    server.models(brief(PATIENCE)).await
}

/// The names in a list of models, in their order and plain; `None` when it is no such list.
pub(super) fn names(body: &[u8]) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct List {
        data: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        id: String,
    }
    let List { data } = serde_json::from_slice(body).ok()?;
    let plain = |name: &String| !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control);
    Some(data.into_iter().map(|entry| entry.id).filter(plain).take(MAX_MODELS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_gives_its_plain_names() {
        let body =
            br#"{"object":"list","data":[{"id":"a:1b","owned_by":"x"},{"id":""},{"id":"b\u001b[2J"},{"id":"org/c"}]}"#;
        assert_eq!(names(body).unwrap(), ["a:1b", "org/c"]);
        assert_eq!(names(br#"{"data":[]}"#).unwrap(), [""; 0]);
        for bad in [b"".as_slice(), b"[]", b"<html>", br#"{"models":[]}"#] {
            assert_eq!(names(bad), None);
        }
        let many: Vec<_> = (0..=MAX_MODELS).map(|id| serde_json::json!({"id": id.to_string()})).collect();
        assert_eq!(names(serde_json::json!({"data": many}).to_string().as_bytes()).unwrap().len(), MAX_MODELS);
    }
}
