//! What the fake engine does when it is asked.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use agentbot_wire::Code;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::broadcast::error::RecvError;

use super::{Call, Fake, FakeContainer, News, OnStop, SIGKILL, State, container_news, gone, image};
use crate::engine::harden::{harden, require};
use crate::engine::tail::Tail;
use crate::engine::{ContainerSpec, Engine, EngineEvent, Exit, Facts, Image, Listed, Observed, RunState};
use crate::error::{Error, Result};

#[async_trait]
impl Engine for Fake {
    async fn facts(&self) -> Result<Facts> {
        self.call(Call::Facts, "", |state| Ok(state.facts.clone())).await
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        self.call(Call::ImageId, reference, |state| {
            let fits =
                |(id, names): (&String, &Vec<String>)| id == reference || names.iter().any(|name| name == reference);
            let found = state.images.iter().find(|image| fits(*image));
            Ok(found.map(|(id, _)| Image { id: id.clone(), repo_digest: None }))
        })
        .await
    }

    async fn load_image(&self, archive: Bytes) -> Result<()> {
        self.call(Call::LoadImage, "", |state| {
            let image = image::read(&archive)?;
            // A reference moves to the image loaded last.
            state.images.values_mut().for_each(|names| names.retain(|name| !image.references.contains(name)));
            state.images.entry(image.id).or_default().extend(image.references);
            Ok(())
        })
        .await
    }

    async fn remove_image(&self, id: &str) -> Result<()> {
        self.call(Call::RemoveImage, id, |state| {
            if state.containers.values().any(|container| container.observed.hardening.image_id == id) {
                return Err(Error::conflict("a container uses this image").hint("remove the container first"));
            }
            state.images.remove(id);
            Ok(())
        })
        .await
    }

    async fn list(&self, daemon: &str) -> Result<Vec<Listed>> {
        self.call(Call::List, daemon, |state| {
            let all = state.containers.values().map(|container| &container.observed);
            let ours = all.filter(|it| it.labels.as_ref().is_some_and(|labels| labels.daemon == daemon));
            Ok(ours
                .map(|it| Listed {
                    id: it.id.clone(),
                    name: it.name.clone(),
                    labels: it.labels.clone(),
                    state: it.state,
                })
                .collect())
        })
        .await
    }

    async fn inspect(&self, id_or_name: &str) -> Result<Option<Observed>> {
        self.call(Call::Inspect, id_or_name, |state| {
            Ok(state.find(id_or_name).map(|container| container.observed.clone()))
        })
        .await
    }

    async fn create(&self, spec: &ContainerSpec, facts: &Facts) -> Result<String> {
        require(facts)?;
        let made = |state: &mut State| {
            state.free(&spec.name)?;
            if !state.images.contains_key(&spec.image_id) {
                return Err(Error::new(Code::EngineRefused, format!("the engine has no image {}", spec.image_id))
                    .hint("it is loaded again before the next try"));
            }
            let id = state.next_id();
            let container = FakeContainer::new(&id, spec, harden(spec, facts));
            let news = container_news(&container, "create");
            state.containers.insert(id.clone(), container);
            self.tell(news);
            Ok(id)
        };
        self.call(Call::Create, &spec.name, made).await
    }

    async fn start(&self, id: &str) -> Result<()> {
        let now = self.now();
        let act = |state: &mut State| {
            let pid = state.made + 1000;
            let container = state.get(id).ok_or_else(|| gone(id))?;
            if container.is_alive() {
                return Ok(None);
            }
            if let Some(why) = container.start_fails.clone() {
                container.observed.exit =
                    Some(Exit { code: 127, oom_killed: false, finished_at: None, error: Some(why.clone()) });
                return Err(Error::new(Code::EngineRefused, format!("the engine refused `start`: {why}"))
                    .hint("its own words say why"));
            }
            container.start(pid, now);
            self.tell(container_news(container, "start"));
            let started = container.clone();
            Ok(Some(started))
        };
        let fault = self.enter(Call::Start, id).await?;
        let started = act(&mut self.state())?;
        // The hook may ask the engine: it runs when the engine is done.
        let hook = self.state().on_start.clone();
        if let (Some(started), Some(hook)) = (started, hook) {
            hook(&started);
        }
        self.leave(Call::Start, fault, ()).await
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<()> {
        let behaviour = self.container(id).filter(FakeContainer::is_alive).map(|container| container.on_stop);
        let fault = self.enter(Call::Stop, id).await?;
        let code = match behaviour {
            Some(OnStop::Exits { after, code }) if after <= grace => {
                (!self.until_ended(id, after).await).then_some(code)
            }
            Some(_) => (!self.until_ended(id, grace).await).then_some(SIGKILL),
            None => None,
        };
        if let Some(code) = code {
            self.exit(id, code, false);
        }
        self.leave(Call::Stop, fault, ()).await
    }

    async fn kill(&self, id: &str) -> Result<()> {
        let fault = self.enter(Call::Kill, id).await?;
        self.exit(id, SIGKILL, false);
        self.leave(Call::Kill, fault, ()).await
    }

    async fn unpause(&self, id: &str) -> Result<()> {
        let act = |state: &mut State| {
            let container = state.get(id).ok_or_else(|| gone(id))?;
            match container.observed.state {
                RunState::Running => Ok(()),
                RunState::Paused => {
                    container.observed.state = RunState::Running;
                    self.tell(container_news(container, "unpause"));
                    Ok(())
                }
                _ => Err(Error::conflict("the container is not frozen").hint("start it")),
            }
        };
        self.call(Call::Unpause, id, act).await
    }

    async fn remove(&self, id: &str) -> Result<()> {
        let act = |state: &mut State| {
            let id = state.find(id).map(|container| container.observed.id.clone());
            if let Some(container) = id.and_then(|id| state.containers.remove(&id)) {
                if container.is_alive() {
                    self.tell(container_news(&container, "die"));
                }
                self.tell(container_news(&container, "destroy"));
            }
            Ok(())
        };
        self.call(Call::Remove, id, act).await
    }

    async fn rename(&self, id: &str, name: &str) -> Result<()> {
        let act = |state: &mut State| {
            let current = state.find(id).ok_or_else(|| gone(id))?.observed.name.clone();
            if current == name {
                return Ok(());
            }
            state.free(name)?;
            if let Some(container) = state.get(id) {
                container.observed.name = name.to_owned();
                self.tell(container_news(container, "rename"));
            }
            Ok(())
        };
        self.call(Call::Rename, id, act).await
    }

    async fn last_lines(&self, id: &str, lines: u32) -> Result<String> {
        self.call(Call::LastLines, id, |state| {
            let mut tail = Tail::new(lines);
            tail.push(state.find(id).map_or("", |container| container.output.as_str()).as_bytes());
            Ok(tail.into_text())
        })
        .await
    }

    fn events(self: Arc<Self>, daemon: &str) -> BoxStream<'static, EngineEvent> {
        let news = self.news.subscribe();
        let first = if self.state().up { vec![EngineEvent::Connected] } else { Vec::new() };
        let daemon = daemon.to_owned();
        let rest = stream::unfold((news, daemon), |(mut news, daemon)| async move {
            let found = match news.recv().await {
                Ok(News::Up) => vec![EngineEvent::Connected],
                Ok(News::Down) => vec![EngineEvent::Lost],
                Ok(News::Container { daemon: of, event }) if of.as_ref() == Some(&daemon) => vec![event],
                Ok(News::Container { .. }) => Vec::new(),
                Err(RecvError::Lagged(_)) => vec![EngineEvent::Lost, EngineEvent::Connected],
                // The stream has no end; only its engine has.
                Err(RecvError::Closed) => pending().await,
            };
            Some((stream::iter(found), (news, daemon)))
        });
        stream::iter(first).chain(rest.flatten()).boxed()
    }
}
