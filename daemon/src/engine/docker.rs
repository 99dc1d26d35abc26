//! Docker Engine over its Unix socket.
//!
//! Every call has a deadline that covers the whole answer. Only calls that make the engine work hard (create, start,
//! remove, load) wait for a place; looking, stopping and killing never stand behind them.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentbot_wire::Code;
use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use bollard::errors::Error as Bollard;
use bollard::models::ImageInspect;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ImportImageOptions, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
    LogsOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptions, RenameContainerOptionsBuilder,
    StopContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker as Client};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use hyper::{Request, Uri};
use tokio::sync::Semaphore;

use super::docker_error::Refusal;
use super::docker_inspect::observed;
use super::docker_map::{OLDEST_API, api_version, create_body, facts, listed};
use super::harden::{harden, require};
use super::tail::Tail;
use super::{ContainerSpec, Engine, EngineEvent, Facts, Image, Listed, Observed, RunState, docker_events, label};
use crate::error::{Error, Result};

/// The client's own limit covers the first line of an answer only. Ours cover it all and are shorter.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// The longest image reference: a name, a tag and a digest.
const LONGEST_IMAGE: usize = 512;

/// How long calls may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Looking, renaming, killing; and what a stop may take beyond its grace.
    pub quick: Duration,
    /// Creating and removing.
    pub create: Duration,
    /// Starting.
    pub start: Duration,
    /// Loading an image.
    pub load: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            quick: Duration::from_secs(10),
            create: Duration::from_secs(60),
            start: Duration::from_secs(60),
            load: Duration::from_secs(120),
        }
    }
}

/// A Docker Engine.
pub struct Docker {
    socket: PathBuf,
    pub(super) timeouts: Timeouts,
    places: Semaphore,
    session: ArcSwapOption<Session>,
}

/// What was settled with the engine when it was last asked who it is.
pub(super) struct Session {
    pub(super) client: Client,
    default_runtime: String,
}

impl Docker {
    /// An engine on `socket`. Nothing is asked of it yet, so it may still be down. At most `parallel` calls that make
    /// it work hard are under way at once; at least one is.
    #[must_use]
    pub fn connect(socket: &Path, timeouts: Timeouts, parallel: usize) -> Self {
        Self {
            socket: socket.to_owned(),
            timeouts,
            places: Semaphore::new(parallel.clamp(1, Semaphore::MAX_PERMITS)),
            session: ArcSwapOption::empty(),
        }
    }

    fn client(&self) -> Result<Client, Refusal> {
        let path = self.socket.to_str().ok_or_else(|| Error::invalid("[engine] socket", "the path must be UTF-8"))?;
        Client::connect_with_unix(path, CLIENT_TIMEOUT.as_secs(), API_DEFAULT_VERSION)
            .map_err(|error| Refusal::Engine("connect", error))
    }

    pub(super) async fn session(&self) -> Result<Arc<Session>, Refusal> {
        match self.session.load_full() {
            Some(session) => Ok(session),
            None => Ok(self.negotiate().await?.0),
        }
    }

    async fn negotiate(&self) -> Result<(Arc<Session>, Facts), Refusal> {
        // Without a version in its path a question is answered by engines of every age.
        let version = self.within("version", self.timeouts.quick, self.client()?.version()).await?;
        let spoken = version.api_version.as_deref().unwrap_or_default();
        let theirs = api_version(spoken).ok_or_else(|| {
            Error::new(Code::EngineRefused, "the engine answered nonsense: it has no API version")
                .hint("is it a Docker Engine that listens on `[engine] socket`?")
        })?;
        if theirs < OLDEST_API {
            return Err(Error::new(Code::Unsupported, format!("the engine speaks API {spoken}; 1.41 is needed"))
                .hint("install Docker Engine 20.10 or newer")
                .into());
        }
        let ours = (API_DEFAULT_VERSION.major_version, API_DEFAULT_VERSION.minor_version);
        let (major, minor) = theirs.min(ours);
        let version_path = format!("/v{major}.{minor}");
        let client = self.client()?.with_request_modifier(move |request| versioned(&version_path, request));
        let info = self.within("info", self.timeouts.quick, client.info()).await?;
        let facts = facts(&info, &version, &format!("{major}.{minor}"))?;
        let session = Arc::new(Session { client, default_runtime: info.default_runtime.unwrap_or_default() });
        self.session.store(Some(session.clone()));
        Ok((session, facts))
    }

    /// Waits for an answer, whole, but not longer than `limit`. An engine that is gone is asked anew who it is when it
    /// is back: it may have been replaced by another version.
    pub(super) async fn within<T>(
        &self,
        call: &'static str,
        limit: Duration,
        answer: impl Future<Output = Result<T, Bollard>>,
    ) -> Result<T, Refusal> {
        let answer = tokio::time::timeout(limit, answer).await.map_err(|_| Refusal::Late(call, limit))?;
        let answer = answer.map_err(|error| Refusal::Engine(call, error));
        if answer.as_ref().is_err_and(Refusal::is_down) {
            self.session.store(None);
        }
        answer
    }

    /// As [`Self::within`], with one of the places for hard work. The wait for a place has the same limit on top.
    async fn working<T>(
        &self,
        call: &'static str,
        limit: Duration,
        answer: impl Future<Output = Result<T, Bollard>>,
    ) -> Result<T, Refusal> {
        let place = tokio::time::timeout(limit, self.places.acquire()).await;
        let Ok(Ok(_place)) = place else {
            return Err(Error::new(
                Code::Busy,
                format!("the engine was busy with other work for {limit:?}; `{call}` waits"),
            )
            .hint("it is tried again; `[engine] parallel` says how much the engine is asked to do at once")
            .into());
        };
        self.within(call, limit, answer).await
    }

    async fn look(&self, id_or_name: &str) -> Result<Option<Observed>, Refusal> {
        let session = self.session().await?;
        let answer = self
            .within("inspect", self.timeouts.quick, session.client.inspect_container(checked(id_or_name)?, None))
            .await;
        let Some(reply) = found(answer)? else { return Ok(None) };
        let container = observed(reply, &session.default_runtime)?;
        // The engine also answers to the beginning of an id; that is somebody else.
        Ok((container.id == id_or_name || container.name == id_or_name).then_some(container))
    }

    async fn removed(&self, id: &str) -> Result<(), Refusal> {
        let gone = async {
            while self.look(id).await?.is_some() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        };
        let limit = self.timeouts.create;
        tokio::time::timeout(limit, gone).await.unwrap_or(Err(Refusal::Late("remove", limit)))
    }
}

/// The client builds paths without a version, which means the engine's newest, whatever that may bring. This names the
/// one that was settled.
fn versioned<B>(version_path: &str, request: Request<B>) -> Request<B> {
    let (mut head, body) = request.into_parts();
    let mut uri = head.uri.clone().into_parts();
    if let Some(path) = &uri.path_and_query {
        uri.path_and_query = format!("{version_path}{path}").parse().ok();
    }
    head.uri = Uri::from_parts(uri).unwrap_or(head.uri);
    Request::from_parts(head, body)
}

/// An id or name goes into a path: nothing that could lead elsewhere.
fn checked(text: &str) -> Result<&str> {
    let fine = text.len() <= 255 && is_path(text, |c| matches!(c, '_' | '.' | '-' | ':' | '/'));
    if fine { Ok(text) } else { Err(Error::invalid("id", "letters, digits and _ . - only")) }
}

/// As [`checked`], for an image: a digest and a longer name are fine.
fn checked_image(text: &str) -> Result<&str> {
    if text.len() <= LONGEST_IMAGE && is_path(text, |c| matches!(c, '_' | '.' | '-' | ':' | '/' | '@')) {
        return Ok(text);
    }
    Err(Error::invalid("image", format!("is no reference or id of at most {LONGEST_IMAGE} characters")))
}

fn is_path(text: &str, plain: impl Fn(char) -> bool) -> bool {
    let leads_away = text.split('/').any(|part| part.is_empty() || part.starts_with('.'));
    !leads_away && text.chars().all(|c| c.is_ascii_alphanumeric() || plain(c))
}

/// An image can have been pulled under several names: the one that was asked for is the better witness.
fn image(answer: ImageInspect, reference: &str) -> Option<Image> {
    let id = answer.id.filter(|id| !id.is_empty())?;
    let digests = answer.repo_digests.unwrap_or_default();
    let (named, _) = reference.split_once('@').unwrap_or((reference, ""));
    let repository = match named.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => named,
    };
    let asked_for = digests.iter().position(|digest| digest.split('@').next() == Some(repository));
    let repo_digest = digests.into_iter().nth(asked_for.unwrap_or_default());
    Some(Image { id, repo_digest })
}

fn found<T>(answer: Result<T, Refusal>) -> Result<Option<T>, Refusal> {
    match answer {
        Err(refusal) if refusal.status() == Some(404) => Ok(None),
        other => other.map(Some),
    }
}

fn unless(answer: Result<(), Refusal>, fine: &[u16]) -> Result<(), Refusal> {
    match answer {
        Err(refusal) if refusal.status().is_some_and(|status| fine.contains(&status)) => Ok(()),
        other => other,
    }
}

#[async_trait]
impl Engine for Docker {
    async fn facts(&self) -> Result<Facts> {
        Ok(self.negotiate().await?.1)
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        let session = self.session().await?;
        let answer = session.client.inspect_image(checked_image(reference)?);
        let answer = found(self.within("inspect image", self.timeouts.quick, answer).await)?;
        Ok(answer.and_then(|answer| image(answer, reference)))
    }

    async fn load_image(&self, archive: Bytes) -> Result<()> {
        let session = self.session().await?;
        let options = ImportImageOptions { quiet: true, ..Default::default() };
        let progress = session.client.import_image(options, bollard::body_full(archive), None);
        let whole = progress.try_for_each(|_| async { Ok(()) });
        Ok(self.working("load", self.timeouts.load, whole).await?)
    }

    async fn list(&self, daemon: &str) -> Result<Vec<Listed>> {
        let session = self.session().await?;
        let options = ListContainersOptionsBuilder::new().all(true).filters(&docker_events::labelled(daemon)).build();
        let answer = session.client.list_containers(Some(options));
        let list = self.within("list", self.timeouts.quick, answer).await?;
        let ours = |summary: &bollard::models::ContainerSummary| {
            summary.labels.as_ref().and_then(|labels| labels.get(label::DAEMON)).is_some_and(|value| value == daemon)
        };
        Ok(list.into_iter().filter(ours).filter_map(listed).collect())
    }

    async fn inspect(&self, id_or_name: &str) -> Result<Option<Observed>> {
        Ok(self.look(id_or_name).await?)
    }

    async fn create(&self, spec: &ContainerSpec, facts: &Facts) -> Result<String> {
        require(facts)?;
        let session = self.session().await?;
        let options = CreateContainerOptionsBuilder::new().name(checked(&spec.name)?).build();
        let answer = session.client.create_container(Some(options), create_body(&harden(spec, facts)));
        match self.working("create", self.timeouts.create, answer).await {
            Ok(made) => Ok(made.id),
            Err(refusal) if refusal.status() == Some(404) => {
                Err(Error::new(Code::EngineRefused, format!("the engine has no image {}", spec.image_id))
                    .hint("somebody removed it; it is loaded again before the next try")
                    .caused_by(Error::from(refusal)))
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    async fn start(&self, id: &str) -> Result<()> {
        let session = self.session().await?;
        let answer = session.client.start_container(checked(id)?, None);
        Ok(self.working("start", self.timeouts.start, answer).await?)
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<()> {
        let session = self.session().await?;
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::new().t(seconds).build();
        let answer = session.client.stop_container(checked(id)?, Some(options));
        Ok(unless(self.within("stop", grace.saturating_add(self.timeouts.quick), answer).await, &[404])?)
    }

    async fn kill(&self, id: &str) -> Result<()> {
        let session = self.session().await?;
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        let answer = session.client.kill_container(checked(id)?, Some(options));
        // 409: it does not run.
        Ok(unless(self.within("kill", self.timeouts.quick, answer).await, &[404, 409])?)
    }

    async fn unpause(&self, id: &str) -> Result<()> {
        let session = self.session().await?;
        let answer = session.client.unpause_container(checked(id)?);
        match self.within("unpause", self.timeouts.quick, answer).await {
            // Engines disagree on the status for one that is not frozen.
            Err(refusal) if refusal.status().is_some_and(|status| status != 404) => match self.look(id).await? {
                Some(container) if container.state == RunState::Running => Ok(()),
                _ => Err(refusal.into()),
            },
            other => Ok(other?),
        }
    }

    async fn remove(&self, id: &str) -> Result<()> {
        let session = self.session().await?;
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let answer = session.client.remove_container(checked(id)?, Some(options));
        match self.working("remove", self.timeouts.create, answer).await {
            // Its removal is under way already.
            Err(refusal) if refusal.status() == Some(409) => Ok(self.removed(id).await?),
            other => Ok(unless(other, &[404])?),
        }
    }

    async fn remove_image(&self, id: &str) -> Result<()> {
        let session = self.session().await?;
        let answer = session.client.remove_image(checked(id)?, None::<RemoveImageOptions>, None);
        Ok(unless(self.working("remove image", self.timeouts.create, answer).await.map(|_| ()), &[404])?)
    }

    async fn rename(&self, id: &str, name: &str) -> Result<()> {
        let session = self.session().await?;
        let options = RenameContainerOptionsBuilder::new().name(checked(name)?).build();
        let answer = session.client.rename_container(checked(id)?, options);
        match self.within("rename", self.timeouts.quick, answer).await {
            // Engines refuse the name it has already.
            Err(refusal) if refusal.status().is_some_and(|status| status != 404) => match self.look(id).await? {
                Some(container) if container.name == name => Ok(()),
                _ => Err(refusal.into()),
            },
            other => Ok(other?),
        }
    }

    async fn last_lines(&self, id: &str, lines: u32) -> Result<String> {
        let session = self.session().await?;
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(&lines.to_string()).build();
        let chunks = session.client.logs(checked(id)?, Some(options));
        let whole = chunks.try_fold(Tail::new(lines), |mut tail, chunk| async move {
            tail.push(chunk.as_ref());
            Ok(tail)
        });
        match self.within("logs", self.timeouts.quick, whole).await {
            // 409: it is being removed.
            Err(refusal) if matches!(refusal.status(), Some(404 | 409)) => Ok(String::new()),
            other => Ok(other?.into_text()),
        }
    }

    fn events(self: Arc<Self>, daemon: &str) -> BoxStream<'static, EngineEvent> {
        docker_events::events(self, daemon.to_owned()).boxed()
    }
}

#[cfg(test)]
mod tests;
