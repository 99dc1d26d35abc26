use futures_util::StreamExt;

use super::*;
use crate::engine::archive::agent_archive;
use crate::engine::{Engine, sample};

async fn ready() -> (Arc<Fake>, ContainerSpec) {
    let fake = Arc::new(Fake::default());
    let archive = agent_archive(b"agent", "1", "amd64");
    fake.load_image(archive.bytes).await.unwrap();
    (fake, ContainerSpec { image_id: archive.image_id, ..sample::spec() })
}

async fn running() -> (Arc<Fake>, String) {
    let (fake, spec) = ready().await;
    let id = fake.create(&spec, &fake.facts().await.unwrap()).await.unwrap();
    fake.start(&id).await.unwrap();
    (fake, id)
}

fn state(fake: &Fake, id: &str) -> Option<RunState> {
    fake.container(id).map(|container| container.observed.state)
}

#[tokio::test]
async fn a_lost_reply_has_acted_and_a_failure_before_has_not() {
    let (fake, spec) = ready().await;
    let facts = fake.facts().await.unwrap();
    let refused = Error::new(Code::EngineRefused, "no").to_api();
    fake.inject(Rule::once(Call::Create, Fault::Before(refused)));
    fake.inject(Rule::once(Call::Create, Fault::LoseReply));
    assert_eq!(fake.create(&spec, &facts).await.unwrap_err().code(), Code::EngineRefused);
    assert!(fake.containers().is_empty());
    assert_eq!(fake.create(&spec, &facts).await.unwrap_err().code(), Code::EngineUnavailable);
    assert_eq!(fake.containers().len(), 1);
    assert_eq!(fake.create(&spec, &facts).await.unwrap_err().code(), Code::Conflict);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_is_given_up_at_its_deadline() {
    let (fake, id) = running().await;
    fake.set_deadline(Duration::from_secs(7));
    fake.inject(Rule::about(&id, Fault::Hang));
    let began = Instant::now();
    assert_eq!(fake.kill(&id).await.unwrap_err().code(), Code::EngineUnavailable);
    assert_eq!(began.elapsed(), Duration::from_secs(7));
    assert_eq!(state(&fake, &id), Some(RunState::Running));
}

#[tokio::test(start_paused = true)]
async fn stopping_waits_for_the_process_and_kills_one_that_does_not_listen() {
    let (fake, id) = running().await;
    let grace = Duration::from_secs(10);
    for (on_stop, takes, code) in [
        (OnStop::Exits { after: Duration::from_secs(3), code: 5 }, 3, 5),
        (OnStop::Exits { after: Duration::from_secs(11), code: 5 }, 10, 137),
        (OnStop::Ignores, 10, 137),
    ] {
        fake.start(&id).await.unwrap();
        fake.disturb(&id, |container| container.on_stop = on_stop);
        let began = Instant::now();
        fake.stop(&id, grace).await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_secs(takes));
        assert_eq!(fake.container(&id).unwrap().observed.exit.unwrap().code, code);
    }
}

#[tokio::test(start_paused = true)]
async fn a_kill_ends_a_stop_that_waits() {
    let (fake, id) = running().await;
    fake.disturb(&id, |container| container.on_stop = OnStop::Ignores);
    let began = Instant::now();
    let (stopped, killed) = tokio::join!(fake.stop(&id, Duration::from_secs(60)), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        fake.kill(&id).await
    });
    stopped.unwrap();
    killed.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(1));
}

#[tokio::test]
async fn the_hook_plays_the_agent_and_may_ask_the_engine() {
    let (fake, spec) = ready().await;
    let again = Arc::downgrade(&fake);
    fake.on_start(move |container| again.upgrade().unwrap().exit(&container.observed.id, 3, true));
    let id = fake.create(&spec, &fake.facts().await.unwrap()).await.unwrap();
    fake.start(&id).await.unwrap();
    let exit = fake.inspect(&id).await.unwrap().unwrap().exit.unwrap();
    assert_eq!((exit.code, exit.oom_killed), (3, true));
}

#[tokio::test]
async fn an_engine_that_is_down_refuses_everything_and_says_when_it_is_back() {
    let (fake, id) = running().await;
    let mut events = fake.clone().events("dmn-1");
    assert_eq!(events.next().await, Some(EngineEvent::Connected));
    fake.go_down(false);
    assert_eq!(fake.list("dmn-1").await.unwrap_err().code(), Code::EngineUnavailable);
    fake.come_up();
    assert_eq!(events.next().await, Some(EngineEvent::Lost));
    assert_eq!(events.next().await, Some(EngineEvent::Connected));
    assert_eq!(state(&fake, &id), Some(RunState::Exited));
}

#[tokio::test]
async fn the_same_story_gives_the_same_ids_and_calls() {
    let ((one, first), (two, second)) = (running().await, running().await);
    assert_eq!(first, second);
    assert_eq!(one.calls(), two.calls());
}

#[tokio::test]
async fn a_foreign_container_is_never_listed_and_keeps_its_name() {
    let (fake, spec) = ready().await;
    fake.make_foreign(&spec.name, &spec);
    assert_eq!(fake.list("dmn-1").await.unwrap(), []);
    assert_eq!(fake.create(&spec, &fake.facts().await.unwrap()).await.unwrap_err().code(), Code::Conflict);
}

#[tokio::test]
async fn every_call_that_loses_its_reply_has_acted() {
    let (fake, spec) = ready().await;
    let id = fake.create(&spec, &fake.facts().await.unwrap()).await.unwrap();
    let played = Arc::new(Mutex::new(0));
    let count = played.clone();
    fake.on_start(move |_| *count.lock().unwrap() += 1);
    for call in Call::ALL {
        fake.inject(Rule::always(call, Fault::LoseReply));
    }
    fake.start(&id).await.unwrap_err();
    assert_eq!((state(&fake, &id), *played.lock().unwrap()), (Some(RunState::Running), 1));
    fake.stop(&id, Duration::ZERO).await.unwrap_err();
    assert_eq!(state(&fake, &id), Some(RunState::Exited));
    fake.start(&id).await.unwrap_err();
    fake.kill(&id).await.unwrap_err();
    assert_eq!(state(&fake, &id), Some(RunState::Exited));
    fake.rename(&id, "other").await.unwrap_err();
    assert!(fake.container("other").is_some());
    fake.remove(&id).await.unwrap_err();
    assert_eq!(state(&fake, &id), None);
    fake.heal();
    fake.remove(&id).await.unwrap();
}
