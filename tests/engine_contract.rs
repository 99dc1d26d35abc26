//! What every engine must do, told once and run on the fake engine and on Docker.

// The stories are functions that tests call: lints do not see that they are tests themselves.
#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agentbot_wire::{Code, SlotId};
use agentbotd::engine::archive::{Archive, agent_archive};
use agentbotd::engine::docker::{Docker, Timeouts};
use agentbotd::engine::fake::Fake;
use agentbotd::engine::harden::{drift, harden};
use agentbotd::engine::{ContainerSpec, Engine, EngineEvent, Facts, Observed, OwnerLabels, RunState};
use bollard::models::ContainerUpdateBody;
use bollard::query_parameters::RemoveImageOptions;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::task::JoinError;

const SOCKET: &str = "/var/run/docker.sock";
const GRACE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    engine: Arc<dyn Engine>,
    facts: Facts,
    image: Archive,
    daemon: String,
    dir: tempfile::TempDir,
}

impl World {
    async fn new(engine: Arc<dyn Engine>, binary: &[u8]) -> Self {
        let facts = engine.facts().await.unwrap();
        let version = format!("contract-{}", std::process::id());
        let image = agent_archive(binary, &version, &facts.architecture);
        engine.load_image(image.bytes.clone()).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        for name in ["run", "work"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { engine, facts, image, daemon: version, dir }
    }

    fn spec(&self) -> ContainerSpec {
        let slot = SlotId::mint();
        ContainerSpec {
            name: format!("ab-{slot}-1"),
            image_id: self.image.image_id.clone(),
            own_image: true,
            labels: OwnerLabels { daemon: self.daemon.clone(), slot, generation: 1, mac: "00".repeat(32) },
            uid: 20001,
            workspace: self.dir.path().join("work"),
            run_dir: self.dir.path().join("run"),
            memory: 64 << 20,
            nano_cpus: 500_000_000,
            pids: 32,
            stop_timeout: GRACE,
        }
    }

    async fn make(&self) -> (ContainerSpec, String) {
        let spec = self.spec();
        let id = self.engine.create(&spec, &self.facts).await.unwrap();
        (spec, id)
    }

    async fn make_running(&self) -> (ContainerSpec, String) {
        let (spec, id) = self.make().await;
        self.engine.start(&id).await.unwrap();
        // Until it has put its own handler in place, the first process of a container is deaf to SIGTERM.
        tokio::time::sleep(Duration::from_millis(200)).await;
        (spec, id)
    }

    async fn look(&self, id: &str) -> Observed {
        self.engine.inspect(id).await.unwrap().unwrap()
    }

    fn agrees(&self, spec: &ContainerSpec, seen: &Observed) {
        assert_eq!(drift(&harden(spec, &self.facts), &seen.hardening, &self.facts), []);
        assert_eq!(seen.risky, Vec::<String>::new());
        assert_eq!(seen.labels.as_ref(), Some(&spec.labels));
    }

    async fn sweep(&self) {
        for left in self.engine.list(&self.daemon).await.unwrap() {
            self.engine.remove(&left.id).await.unwrap();
        }
    }
}

fn code<T>(result: agentbotd::error::Result<T>) -> Option<Code> {
    result.err().map(|error| error.code())
}

async fn an_image_is_found_by_reference_and_by_id(world: &World) {
    let engine = &world.engine;
    engine.load_image(world.image.bytes.clone()).await.unwrap();
    for name in [&world.image.reference, &world.image.image_id] {
        assert_eq!(engine.image_id(name).await.unwrap().as_ref(), Some(&world.image.image_id));
    }
    assert_eq!(engine.image_id("agentbot/agent:never").await.unwrap(), None);
    assert_eq!(code(engine.load_image(Bytes::from_static(b"no archive")).await), Some(Code::EngineRefused));
}

async fn what_is_created_is_as_hardened_as_asked_for(world: &World) {
    for own_image in [true, false] {
        let spec = ContainerSpec { own_image, ..world.spec() };
        let id = world.engine.create(&spec, &world.facts).await.unwrap();
        let seen = world.look(&id).await;
        world.agrees(&spec, &seen);
        assert_eq!((seen.state, seen.pid, seen.exit.clone()), (RunState::Created, None, None));
        assert_eq!(world.look(&spec.name).await, seen);
        let listed = world.engine.list(&world.daemon).await.unwrap();
        let listed = listed.iter().find(|listed| listed.id == id).unwrap();
        assert_eq!((&listed.name, listed.labels.as_ref()), (&spec.name, Some(&spec.labels)));
        world.engine.start(&id).await.unwrap();
        world.agrees(&spec, &world.look(&id).await);
    }
    assert_eq!(world.engine.inspect("ab-nobody-1").await.unwrap(), None);
    assert_eq!(world.engine.list("somebody-else").await.unwrap(), []);
}

async fn a_name_is_taken_once_and_a_missing_image_is_refused(world: &World) {
    let (spec, _) = world.make().await;
    assert_eq!(code(world.engine.create(&spec, &world.facts).await), Some(Code::Conflict));
    let missing = ContainerSpec { image_id: format!("sha256:{}", "0".repeat(64)), ..world.spec() };
    assert_eq!(code(world.engine.create(&missing, &world.facts).await), Some(Code::EngineRefused));
    assert_eq!(world.engine.inspect(&missing.name).await.unwrap(), None);
}

async fn starting_stopping_and_killing_may_be_repeated(world: &World) {
    let (spec, id) = world.make().await;
    world.engine.stop(&id, GRACE).await.unwrap();
    world.engine.kill(&id).await.unwrap();
    assert_eq!(world.look(&id).await.state, RunState::Created);
    world.engine.start(&id).await.unwrap();
    world.engine.start(&id).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let seen = world.look(&id).await;
    assert_eq!((seen.state, seen.exit), (RunState::Running, None));
    assert!(seen.pid.is_some() && seen.started_at.is_some());
    world.engine.stop(&id, GRACE).await.unwrap();
    world.engine.stop(&id, GRACE).await.unwrap();
    let seen = world.look(&id).await;
    let exit = seen.exit.clone().unwrap();
    assert_eq!((seen.state, seen.pid, exit.code, exit.oom_killed), (RunState::Exited, None, 0, false));
    assert!(exit.finished_at >= seen.started_at);
    world.engine.start(&id).await.unwrap();
    assert_eq!(world.look(&id).await.exit, None);
    world.engine.kill(&id).await.unwrap();
    world.engine.kill(&id).await.unwrap();
    let seen = world.look(&id).await;
    assert_eq!((seen.state, seen.exit.as_ref().map(|exit| exit.code)), (RunState::Exited, Some(137)));
    world.agrees(&spec, &seen);
}

async fn only_a_frozen_one_or_a_running_one_can_be_unfrozen(world: &World) {
    let (_, id) = world.make().await;
    assert!(world.engine.unpause(&id).await.is_err());
    world.engine.start(&id).await.unwrap();
    world.engine.unpause(&id).await.unwrap();
    assert_eq!(world.look(&id).await.state, RunState::Running);
}

async fn a_container_can_be_renamed_but_not_to_a_taken_name(world: &World) {
    let ((first, id), (second, _)) = (world.make().await, world.make().await);
    let other = format!("{}-other", first.name);
    world.engine.rename(&id, &other).await.unwrap();
    world.engine.rename(&id, &other).await.unwrap();
    assert_eq!(world.look(&id).await.name, other);
    assert_eq!(world.engine.inspect(&first.name).await.unwrap(), None);
    assert_eq!(code(world.engine.rename(&id, &second.name).await), Some(Code::Conflict));
    assert_eq!(code(world.engine.rename(&"f".repeat(64), "ab-free-1").await), Some(Code::NotFound));
}

async fn what_is_gone_is_gone_and_asking_again_is_fine(world: &World) {
    let (spec, id) = world.make_running().await;
    world.engine.remove(&id).await.unwrap();
    assert_eq!(world.engine.inspect(&id).await.unwrap(), None);
    assert!(world.engine.list(&world.daemon).await.unwrap().iter().all(|listed| listed.name != spec.name));
    world.engine.remove(&id).await.unwrap();
    world.engine.stop(&id, GRACE).await.unwrap();
    world.engine.kill(&id).await.unwrap();
    assert_eq!(world.engine.last_lines(&id, 5).await.unwrap(), "");
    assert_eq!(code(world.engine.start(&id).await), Some(Code::NotFound));
    assert_eq!(code(world.engine.unpause(&id).await), Some(Code::NotFound));
}

async fn no_more_lines_come_than_were_asked_for(world: &World) {
    let (_, id) = world.make_running().await;
    assert_eq!(world.engine.last_lines(&id, 0).await.unwrap(), "");
    assert!(world.engine.last_lines(&id, 1).await.unwrap().lines().count() <= 1);
}

async fn events_tell_a_containers_life_in_order(world: &World) {
    let mut events = world.engine.clone().events(&world.daemon);
    assert_eq!(next(&mut events).await, EngineEvent::Connected);
    let (spec, id) = world.make_running().await;
    world.engine.kill(&id).await.unwrap();
    world.engine.remove(&id).await.unwrap();
    let mut wanted = ["create", "start", "die", "destroy"].into_iter().peekable();
    while let Some(expected) = wanted.peek() {
        if let EngineEvent::Container { id: of, slot, action } = next(&mut events).await
            && of == id
        {
            assert_eq!(slot.as_ref(), Some(&spec.labels.slot));
            if action == *expected {
                wanted.next();
            }
        }
    }
}

async fn next(events: &mut (impl futures_util::Stream<Item = EngineEvent> + Unpin)) -> EngineEvent {
    tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap()
}

async fn a_workspace_that_is_missing_stops_the_start_and_says_so(world: &World) {
    let gone = world.dir.path().join("gone");
    std::fs::create_dir(&gone).unwrap();
    let spec = ContainerSpec { workspace: gone.clone(), ..world.spec() };
    let id = world.engine.create(&spec, &world.facts).await.unwrap();
    std::fs::remove_dir(&gone).unwrap();
    let error = world.engine.start(&id).await.unwrap_err();
    assert_eq!(error.code(), Code::EngineRefused);
    assert!(error.message().contains("bind source path does not exist"), "{error}");
    assert_eq!(world.look(&id).await.state, RunState::Created);
    assert!(!gone.exists());
}

async fn what_somebody_does_by_hand_is_seen(world: &World) {
    let by_hand = bollard::Docker::connect_with_unix_defaults().unwrap();
    let (spec, id) = world.make_running().await;
    by_hand.pause_container(&id).await.unwrap();
    assert_eq!(world.look(&id).await.state, RunState::Paused);
    world.engine.unpause(&id).await.unwrap();
    assert_eq!(world.look(&id).await.state, RunState::Running);
    let more = ContainerUpdateBody { pids_limit: Some(99), cpu_shares: Some(1024), ..Default::default() };
    by_hand.update_container(&id, more).await.unwrap();
    let drifts = drift(&harden(&spec, &world.facts), &world.look(&id).await.hardening, &world.facts);
    assert_eq!(drifts.iter().map(|drift| drift.field.as_str()).collect::<Vec<_>>(), ["cpu_shares", "pids"]);
    by_hand.pause_container(&id).await.unwrap();
    world.engine.stop(&id, Duration::from_secs(1)).await.unwrap();
    assert_eq!(world.look(&id).await.state, RunState::Exited);
}

async fn contract(world: &World) {
    an_image_is_found_by_reference_and_by_id(world).await;
    what_is_created_is_as_hardened_as_asked_for(world).await;
    a_name_is_taken_once_and_a_missing_image_is_refused(world).await;
    starting_stopping_and_killing_may_be_repeated(world).await;
    only_a_frozen_one_or_a_running_one_can_be_unfrozen(world).await;
    a_container_can_be_renamed_but_not_to_a_taken_name(world).await;
    what_is_gone_is_gone_and_asking_again_is_fine(world).await;
    no_more_lines_come_than_were_asked_for(world).await;
    events_tell_a_containers_life_in_order(world).await;
}

/// Runs the stories, then removes what they made, also when one fails.
async fn tidily(world: &World, stories: impl Future<Output = ()> + Send + 'static) -> Result<(), JoinError> {
    let mut running = tokio::task::JoinSet::new();
    running.spawn(stories);
    let outcome = running.join_next().await.unwrap();
    world.sweep().await;
    outcome
}

#[tokio::test]
async fn the_fake_engine_keeps_the_contract() {
    let world = Arc::new(World::new(Arc::new(Fake::default()), b"agent").await);
    let told = world.clone();
    tidily(&world, async move { contract(&told).await }).await.unwrap();
}

#[tokio::test]
async fn docker_keeps_the_contract() {
    let binary = std::fs::read(agentbot_tests::agent_binary()).unwrap();
    let engine = Arc::new(Docker::connect(Path::new(SOCKET), Timeouts::default(), 4));
    let world = Arc::new(World::new(engine, &binary).await);
    let told = world.clone();
    let outcome = tidily(&world, async move {
        contract(&told).await;
        a_workspace_that_is_missing_stops_the_start_and_says_so(&told).await;
        what_somebody_does_by_hand_is_seen(&told).await;
    })
    .await;
    let docker = bollard::Docker::connect_with_unix_defaults().unwrap();
    // Another test may use the same image: then the engine only drops this name of it.
    let _ = docker.remove_image(&world.image.reference, None::<RemoveImageOptions>, None).await;
    outcome.unwrap();
}
