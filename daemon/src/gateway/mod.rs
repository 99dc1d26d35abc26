//! The gateway: agents ask models through it, and it alone has the keys.
//!
//! A request is read as far as the gateway must know it, and goes on as it came. An answer is bounded in time and length
//! and passes as it comes. Rows, one a minute for calls of the same
//! kind, say what they took.

mod builtin;
mod call;
mod client;
mod discover;
mod key;
mod list;
mod relay;
mod request;
mod router;
mod sse;
mod trial;
mod upstream;

use std::sync::Arc;

use agentbot_wire::{Discovery, ModelList};
use bytes::Bytes;
use tokio_util::task::TaskTracker;

use self::call::Desk;
use self::client::Lazy;
use self::list::Lists;
use self::relay::Bounds;
use self::request::Asked;
use self::router::route;
use self::upstream::{Reply, Server};
use crate::config::Live;
use crate::error::Result;
use crate::store::Store;

pub use self::call::{Asker, CALLS_AT_ONCE, CALLS_PER_SECOND};
pub use self::relay::Pieces;

/// The way to models; clones share it.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

struct Inner {
    config: Live,
    desk: Desk,
    client: Lazy,
    lists: Lists,
    /// Answers on their way. Each ends with its bounds, or when whoever asked has gone.
    tasks: TaskTracker,
}

/// What a model answered.
pub enum Answer {
    /// JSON, all of it.
    Json(Bytes),
    /// Server-sent events. An error is the last item, and whole lines stand before it.
    Events(Pieces),
}

impl Gateway {
    /// With the providers of the configuration. Nothing is asked or read before it is needed. What is on its way is
    /// tracked in `tasks`.
    #[must_use]
    pub fn new(store: Store, config: Live, tasks: TaskTracker) -> Self {
        let inner = Inner { desk: Desk::new(store), config, client: Lazy::default(), lists: Lists::default(), tasks };
        Self { inner: Arc::new(inner) }
    }

    /// `POST /v1/chat/completions`: asks the model that the body names, or the asker's own.
    ///
    /// # Errors
    /// `invalid` for a body that is none, or a model that there is not; `rate_limited` for too many calls;
    /// `model_failed`, `timed_out` and what else the provider refused with.
    pub async fn complete(&self, asker: Asker, body: &[u8]) -> Result<Answer> {
        self.inner.desk.count(&asker.who)?;
        let config = self.inner.config.load();
        let asked = Asked::parse(body)?;
        let target = route(&config.models, &asked.model, &asker.model)?;
        let mut call = self.inner.desk.begin(asker, &target, config.models.parallel)?;
        let Some(provider) = &target.server else {
            return builtin::answer(&asked, call);
        };
        let bounds = Bounds::begin(&config.models);
        let ready = async {
            let body = asked.forwarded(&target.model)?;
            let key = key::read(&target.provider, &provider.api_key).await?;
            Ok((body, key, self.inner.client.get(&provider.base_url).await?))
        };
        let (body, key, client) = ready.await.inspect_err(|error: &crate::error::Error| call.failed(error.code()))?;
        let server = Server { name: &target.provider, base_url: &provider.base_url, key, client };
        Ok(match server.complete(body, bounds, call, &self.inner.tasks).await? {
            Reply::Whole(json) => Answer::Json(json),
            Reply::Events(pieces) => Answer::Events(pieces),
        })
    }

    /// Every model that can be asked. Servers that do not answer are named, with the reason.
    pub async fn list(&self) -> Arc<ModelList> {
        let config = self.inner.config.load();
        self.inner.lists.list(&config.models, &self.inner.client).await
    }

    /// The same for an agent. It counts among its calls.
    ///
    /// # Errors
    /// `rate_limited`.
    pub async fn list_for(&self, who: &String) -> Result<Arc<ModelList>> {
        self.inner.desk.count(who)?;
        Ok(self.list().await)
    }

    /// Servers and keys on this machine that could be providers.
    ///
    /// # Errors
    /// When no client can be made.
    pub async fn discover(&self) -> Result<Discovery> {
        let config = self.inner.config.load();
        let client = self.inner.client.get("http:").await?;
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        Ok(discover::discover(&config.models, client, discover::PORTS, set).await)
    }
}

#[cfg(test)]
mod tests;
