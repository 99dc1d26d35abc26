//! A twin of a Docker Engine in memory, for tests: it has states, takes time, fails on request and tells what happens.
//!
//! It is deterministic: ids count up, nothing is random, and time is tokio's, so a paused clock drives it. What a real
//! engine does in a contract between both is checked by one suite that runs on both.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agentbot_wire::Code;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::Instant;

use super::docker_error::printable;
use super::{CgroupDriver, ContainerSpec, EngineEvent, Facts, RunState};
use crate::error::{Error, Result};

mod container;
mod engine;
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
    pub fn prune_image(&self, id: &str) {
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
        let fault = self.enter(call, about).await?;
        let done = act(&mut self.state())?;
        self.leave(call, fault, done).await
    }

    /// What comes before a call acts; gives the fault that is left for its answer.
    async fn enter(&self, call: Call, about: &str) -> Result<Option<Fault>> {
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
            Some(Fault::Before(error)) => Err(error.into()),
            Some(Fault::Hang) => Err(hang(call, deadline).await),
            _ if !self.state().up => {
                Err(Error::new(Code::EngineUnavailable, format!("the engine cannot be reached for `{call}`"))
                    .hint("is Docker running?"))
            }
            fault => Ok(fault),
        }
    }

    /// Answers a call that has acted, or does not.
    async fn leave<T>(&self, call: Call, fault: Option<Fault>, done: T) -> Result<T> {
        let deadline = self.state().deadline;
        match fault {
            Some(Fault::LoseReply) => {
                Err(Error::new(Code::EngineUnavailable, format!("the engine broke off while answering `{call}`"))
                    .hint("what it did is looked up before anything is tried again"))
            }
            Some(Fault::HangAfter) => Err(hang(call, deadline).await),
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

async fn hang(call: Call, deadline: Duration) -> Error {
    tokio::time::sleep(deadline).await;
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

#[cfg(test)]
mod tests;
