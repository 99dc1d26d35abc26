//! Which models there are: the builtin one, and what each server says it has, remembered for a minute.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agentbot_wire::{Code, ModelList, ModelView, ProviderView};
use futures_util::future::join_all;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

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
/// The same with the reading of its key, which may lie on a disk that hangs.
const PATIENCE_IN_ALL: Duration = Duration::from_millis(5_500);
/// The longest list in bytes.
const MAX_LIST: usize = 8 * 1024 * 1024;
/// Models of one server that are listed.
const MAX_MODELS: usize = 2_000;
/// The longest name of a model in bytes.
const MAX_NAME: usize = 256;

/// Time that somebody waits for a list that another has asked for.
const WAIT: Duration = Duration::from_secs(6);

/// Asks servers which models they have.
pub(super) trait Asks: Sync {
    /// The models of one.
    ///
    /// # Errors
    /// When it does not say.
    fn ask(&self, name: &str, provider: &Provider) -> impl Future<Output = Result<Vec<String>>> + Send;
}

/// What servers said lately.
pub(super) struct Lists {
    state: Mutex<State>,
    /// One look at a time.
    turn: Semaphore,
}

#[derive(Default)]
struct State {
    known: BTreeMap<String, Arc<Known>>,
    last: Option<Last>,
}

struct Known {
    of: Provider,
    at: Instant,
    outcome: Result<Vec<String>, String>,
}

/// The list as it was made last.
struct Last {
    list: Arc<ModelList>,
    of: Models,
    until: Instant,
}

impl Default for Lists {
    fn default() -> Self {
        Self { state: Mutex::default(), turn: Semaphore::new(1) }
    }
}

impl Lists {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every statement leaves the state whole, so a panic elsewhere cannot have broken it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last list, if it is of this configuration; `old` takes one that is due as well.
    fn last(&self, models: &Models, old: bool) -> Option<Arc<ModelList>> {
        let state = self.state();
        let last = state.last.as_ref().filter(|last| last.of == *models && (old || Instant::now() < last.until))?;
        Some(Arc::clone(&last.list))
    }

    /// Everything that can be asked. Whoever comes while another looks gets the last list, or waits a while for the first.
    pub(super) async fn list(&self, models: &Models, servers: &impl Asks) -> Arc<ModelList> {
        if let Some(list) = self.last(models, false) {
            return list;
        }
        let turn = match self.turn.try_acquire() {
            Ok(turn) => Some(turn),
            Err(_) => match self.last(models, true) {
                Some(list) => return list,
                None => timeout(WAIT, self.turn.acquire()).await.ok().and_then(Result::ok),
            },
        };
        if turn.is_none() {
            return Arc::new(view(models, &BTreeMap::new()));
        }
        if let Some(list) = self.last(models, false) {
            return list;
        }
        let known = self.look(models, servers).await;
        let list = Arc::new(view(models, &known));
        let oldest = known.values().map(|known| known.at).min().unwrap_or_else(Instant::now);
        let last = Last { list: Arc::clone(&list), of: models.clone(), until: oldest + FRESH };
        *self.state() = State { known, last: Some(last) };
        list
    }

    /// The models of every server, or why it does not say.
    async fn look(&self, models: &Models, servers: &impl Asks) -> BTreeMap<String, Arc<Known>> {
        let mut known = self.state().known.clone();
        known.retain(|name, known| models.providers.get(name) == Some(&known.of) && known.at.elapsed() < FRESH);
        let missing = models.providers.iter().filter(|(name, _)| !known.contains_key(*name));
        let asked = missing.map(|(name, provider)| async move {
            let answer = timeout(PATIENCE_IN_ALL, servers.ask(name, provider)).await.unwrap_or_else(|_| Err(silent()));
            let outcome = answer.map_err(|error| {
                tracing::info!(provider = name, %error, "a provider does not list its models");
                match error.to_api() {
                    api if api.hint.is_some() => format!("{}; {}", api.message, api.hint.unwrap_or_default()),
                    api => api.message,
                }
            });
            (name.clone(), Arc::new(Known { of: provider.clone(), at: Instant::now(), outcome }))
        });
        let fresh = join_all(asked).await;
        known.extend(fresh);
        known
    }
}

fn silent() -> Error {
    Error::new(Code::TimedOut, "it has not said yet which models it has").hint("ask again")
}

/// What is known as it is told. Pure.
fn view(models: &Models, known: &BTreeMap<String, Arc<Known>>) -> ModelList {
    let default = models.resolve(&models.default).unwrap_or_else(|_| models.default.clone());
    let mut aliases: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for alias in models.aliases.keys() {
        if let Ok(target) = models.resolve(alias) {
            aliases.entry(target).or_default().push(alias.clone());
        }
    }
    let model = |provider: &str, name: &str| {
        let id = format!("{provider}/{name}");
        ModelView {
            provider: provider.to_owned(),
            aliases: aliases.get(&id).cloned().unwrap_or_default(),
            default: id == default,
            id,
        }
    };
    let mut views = vec![model(BUILTIN, BASIC)];
    let mut providers = vec![ProviderView {
        name: BUILTIN.to_owned(),
        kind: BUILTIN.to_owned(),
        base_url: None,
        reachable: None,
        error: None,
    }];
    for (name, provider) in &models.providers {
        let error = match known.get(name).map(|known| &known.outcome) {
            Some(Ok(names)) => {
                views.extend(names.iter().map(|found| model(name, found)));
                None
            }
            Some(Err(error)) => Some(error.clone()),
            None => Some(silent().message().to_owned()),
        };
        providers.push(ProviderView {
            name: name.clone(),
            kind: provider.kind.as_str().to_owned(),
            base_url: Some(provider.base_url.clone()),
            reachable: Some(error.is_none()),
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

/// Bounds of a question that a server answers at once.
pub(super) fn brief(patience: Duration) -> Bounds {
    let end = Instant::now() + patience;
    Bounds { first: end, idle: patience, end, bytes: MAX_LIST }
}

impl Asks for Lazy {
    async fn ask(&self, name: &str, provider: &Provider) -> Result<Vec<String>> {
        if provider.kind == ProviderKind::Anthropic {
            return Err(Error::new(Code::Unsupported, "providers of kind \"anthropic\" are not served yet")
                .hint("use one of kind \"openai\""));
        }
        let key = key::read(name, &provider.api_key).await?;
        let server = Server { name, base_url: &provider.base_url, key, client: self.get(&provider.base_url).await? };
        server.models(brief(PATIENCE)).await
    }
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
mod tests;
