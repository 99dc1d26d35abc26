//! A twin of a Docker Engine in memory, for tests: it has states, takes time, fails on request and tells what happens.
//!
//! It is deterministic: ids count up, nothing is random, and time is tokio's, so a paused clock drives it. What a real
//! engine does in a contract between both is checked by one suite that runs on both.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agentbot_wire::Code;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::Instant;

use super::docker_error::printable;
use super::harden::{harden, require};
use super::tail::Tail;
use super::{CgroupDriver, ContainerSpec, Engine, EngineEvent, Exit, Facts, Listed, Observed, RunState};
use crate::error::{Error, Result};

mod container;
mod fault;
mod image;

pub use container::{FakeContainer, OnStop};
pub use fault::{Call, Fault, Rule};

/// Events kept for a slow listener.
const BACKLOG: usize = 1024;
const SIGKILL: i64 = 137;

/// An engine in memory.
pub struct Fake {
    state: Mutex<State>,
    news: broadcast::Sender<News>,
    began: (Timestamp, Instant),
}

type Hook = Arc<dyn Fn(&FakeContainer) + Send + Sync>;

struct State {
    facts: Facts,
    up: bool,
    deadline: Duration,
    containers: BTreeMap<String, FakeContainer>,
    /// Image id to references.
    images: BTreeMap<String, Vec<String>>,
    rules: Vec<Rule>,
    delays: BTreeMap<Call, Duration>,
    calls: Vec<(Call, String)>,
    made: u32,
    on_start: Option<Hook>,
}

#[derive(Clone)]
enum News {
    Up,
    Down,
    Container { daemon: Option<String>, event: EngineEvent },
}

impl Default for Fake {
    fn default() -> Self {
        Self::new(Facts {
            version: "fake".to_owned(),
            api_version: "1.41".to_owned(),
            cgroup_version: 2,
            cgroup_driver: CgroupDriver::Systemd,
            remap_base: 0,
            cpus: 8,
            memory: 32 << 30,
            architecture: "amd64".to_owned(),
            limits_swap: true,
            limits_pids: true,
            limits_cpu: true,
            seccomp: true,
        })
    }
}

impl Fake {
    /// An engine with these facts and nothing in it.
    #[must_use]
    pub fn new(facts: Facts) -> Self {
        let state = State {
            facts,
            up: true,
            deadline: Duration::from_secs(10),
            containers: BTreeMap::new(),
            images: BTreeMap::new(),
            rules: Vec::new(),
            delays: BTreeMap::new(),
            calls: Vec::new(),
            made: 0,
            on_start: None,
        };
        let began = (Timestamp::now(), Instant::now());
        Self { state: Mutex::new(state), news: broadcast::channel(BACKLOG).0, began }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.began.1.elapsed()).unwrap_or_default();
        self.began.0.checked_add(passed).unwrap_or(self.began.0)
    }

    /// Adds a rule of failure. Of several that fit a call the oldest counts.
    pub fn inject(&self, rule: Rule) {
        self.state().rules.push(rule);
    }

    /// Drops every rule of failure.
    pub fn heal(&self) {
        self.state().rules.clear();
    }

    /// Makes a kind of call take this long before it acts.
    pub fn delay(&self, call: Call, by: Duration) {
        self.state().delays.insert(call, by);
    }

    /// How long a call that hangs takes until its caller hears that it did; 10 s unless said.
    pub fn set_deadline(&self, deadline: Duration) {
        self.state().deadline = deadline;
    }

    /// What the engine says of itself from now on.
    pub fn set_facts(&self, facts: Facts) {
        self.state().facts = facts;
    }

    /// Is called whenever a container has started: here a test plays the agent.
    pub fn on_start(&self, hook: impl Fn(&FakeContainer) + Send + Sync + 'static) {
        self.state().on_start = Some(Arc::new(hook));
    }

    /// Stops the engine: calls fail, and every container ends as when a host's engine stops, unless `live_restore`.
    pub fn go_down(&self, live_restore: bool) {
        let now = self.now();
        let mut state = self.state();
        state.up = false;
        if !live_restore {
            state.containers.values_mut().for_each(|container| {
                container.end(SIGKILL, false, now);
            });
        }
        drop(state);
        self.tell(News::Down);
    }

    /// Starts the engine again. Containers stay as they are.
    pub fn come_up(&self) {
        self.state().up = true;
        self.tell(News::Up);
    }

    /// Every call so far with what it was about, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<(Call, String)> {
        self.state().calls.clone()
    }

    /// A copy of one container, by id or name.
    #[must_use]
    pub fn container(&self, id_or_name: &str) -> Option<FakeContainer> {
        self.state().find(id_or_name).cloned()
    }

    /// Copies of all containers, by age.
    #[must_use]
    pub fn containers(&self) -> Vec<FakeContainer> {
        self.state().containers.values().cloned().collect()
    }

    /// Changes a container behind everybody's back; says whether there was one.
    pub fn disturb(&self, id_or_name: &str, change: impl FnOnce(&mut FakeContainer)) -> bool {
        let mut state = self.state();
        let id = state.find(id_or_name).map(|container| container.observed.id.clone());
        id.and_then(|id| state.containers.get_mut(&id)).map(change).is_some()
    }

    /// Its process ends by itself.
    pub fn exit(&self, id_or_name: &str, code: i64, oom_killed: bool) {
        let now = self.now();
        let mut ended = false;
        self.disturb(id_or_name, |container| ended = container.end(code, oom_killed, now));
        if ended {
            if oom_killed {
                self.happened(id_or_name, "oom");
            }
            self.happened(id_or_name, "die");
        }
    }

    /// Somebody freezes it by hand.
    pub fn pause(&self, id_or_name: &str) {
        self.disturb(id_or_name, |container| container.observed.state = RunState::Paused);
        self.happened(id_or_name, "pause");
    }

    /// Somebody makes a container by hand that is none of ours, from the same image as `like`; gives its id.
    pub fn make_foreign(&self, name: &str, like: &ContainerSpec) -> String {
        let mut state = self.state();
        let id = state.next_id();
        let container = FakeContainer::foreign(&id, name, like, &state.facts);
        state.containers.insert(id.clone(), container);
        id
    }

    /// Forgets an image, as a prune by hand does.
    pub fn remove_image(&self, id: &str) {
        self.state().images.remove(id);
    }

    fn tell(&self, news: News) {
        // Nobody listening is no failure.
        let _ = self.news.send(news);
    }

    fn happened(&self, id_or_name: &str, action: &str) {
        let Some(container) = self.container(id_or_name) else { return };
        self.tell(container_news(&container, action));
    }

    /// One call: waits, fails as told, acts.
    async fn call<T>(&self, call: Call, about: &str, act: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let (delay, fault, deadline) = {
            let mut state = self.state();
            state.calls.push((call, about.to_owned()));
            let container = state.find(about).map(|it| (it.observed.id.clone(), it.observed.name.clone()));
            let (id, name) = container.unwrap_or_default();
            let fault = fault::take(&mut state.rules, call, &[about, &id, &name]);
            (state.delays.get(&call).copied(), fault, state.deadline)
        };
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        match fault {
            Some(Fault::Before(error)) => return Err(error.into()),
            Some(Fault::Hang) => {
                return tokio::time::timeout(deadline, pending()).await.unwrap_or_else(|_| Err(late(call, deadline)));
            }
            _ => {}
        }
        let done = {
            let mut state = self.state();
            if !state.up {
                return Err(Error::new(Code::EngineUnavailable, format!("the engine cannot be reached for `{call}`"))
                    .hint("is Docker running?"));
            }
            act(&mut state)?
        };
        match fault {
            Some(Fault::LoseReply) => {
                Err(Error::new(Code::EngineUnavailable, format!("the engine broke off while answering `{call}`"))
                    .hint("what it did is looked up before anything is tried again"))
            }
            Some(Fault::HangAfter) => {
                tokio::time::timeout(deadline, pending()).await.unwrap_or_else(|_| Err(late(call, deadline)))
            }
            Some(Fault::Garbage) => {
                Err(Error::new(Code::EngineRefused, format!("the engine answered nonsense to `{call}`"))
                    .hint("is it a Docker Engine?"))
            }
            _ => Ok(done),
        }
    }

    async fn until_ended(&self, id: &str, limit: Duration) -> bool {
        let mut news = self.news.subscribe();
        let ended = async {
            while self.container(id).is_some_and(|container| container.is_alive()) {
                if matches!(news.recv().await, Err(RecvError::Closed)) {
                    return;
                }
            }
        };
        tokio::time::timeout(limit, ended).await.is_ok()
    }
}

fn late(call: Call, deadline: Duration) -> Error {
    Error::new(Code::EngineUnavailable, format!("the engine did not answer `{call}` within {deadline:?}"))
        .hint("what it did is looked up before anything is tried again")
}

fn container_news(container: &FakeContainer, action: &str) -> News {
    let labels = container.observed.labels.as_ref();
    News::Container {
        daemon: labels.map(|labels| labels.daemon.clone()),
        event: EngineEvent::Container {
            id: container.observed.id.clone(),
            slot: labels.map(|labels| labels.slot.clone()),
            action: action.to_owned(),
        },
    }
}

fn gone(id: &str) -> Error {
    Error::not_found("container", printable(id)).hint("somebody removed it")
}

impl State {
    fn find(&self, id_or_name: &str) -> Option<&FakeContainer> {
        self.containers
            .get(id_or_name)
            .or_else(|| self.containers.values().find(|container| container.observed.name == id_or_name))
    }

    fn get(&mut self, id_or_name: &str) -> Option<&mut FakeContainer> {
        let id = self.find(id_or_name)?.observed.id.clone();
        self.containers.get_mut(&id)
    }

    fn next_id(&mut self) -> String {
        self.made += 1;
        format!("{:064x}", self.made)
    }

    fn free(&self, name: &str) -> Result<()> {
        match self.find(name) {
            Some(_) => Err(Error::conflict(format!("the name {name} is in use")).hint("look whose it is")),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Engine for Fake {
    async fn facts(&self) -> Result<Facts> {
        self.call(Call::Facts, "", |state| Ok(state.facts.clone())).await
    }

    async fn image_id(&self, reference: &str) -> Result<Option<String>> {
        self.call(Call::ImageId, reference, |state| {
            let fits =
                |(id, names): (&String, &Vec<String>)| id == reference || names.iter().any(|name| name == reference);
            Ok(state.images.iter().find(|image| fits(*image)).map(|(id, _)| id.clone()))
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
        // The hook may ask the engine: it runs when the engine is done.
        let started = self.call(Call::Start, id, act).await?;
        let hook = self.state().on_start.clone();
        if let (Some(started), Some(hook)) = (started, hook) {
            hook(&started);
        }
        Ok(())
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<()> {
        let behaviour = self.container(id).filter(FakeContainer::is_alive).map(|container| container.on_stop);
        self.call(Call::Stop, id, |_| Ok(())).await?;
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
        Ok(())
    }

    async fn kill(&self, id: &str) -> Result<()> {
        self.call(Call::Kill, id, |_| Ok(())).await?;
        self.exit(id, SIGKILL, false);
        Ok(())
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

#[cfg(test)]
mod tests;
