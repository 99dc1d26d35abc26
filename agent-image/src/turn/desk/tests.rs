use agentbot_wire::{AgentPolicy, MAX_FRAME, MemoryFound, MemoryGet};
use futures_util::FutureExt;

use super::*;

fn welcome() -> Welcome {
    let policy = AgentPolicy { max_frame: MAX_FRAME, beat_ms: 5000 };
    Welcome { protocol: 1, instance: None, name: None, model: None, config: json!({}), policy }
}

fn turn(number: u32) -> TurnId {
    format!("trn_{number:026}").parse().unwrap()
}

fn run(number: u32) -> Value {
    json!({"turn": turn(number), "attempt": 1, "message": {
        "id": "msg_01kak2m5v5e7qrf9v3n6m8t0zx", "agentId": "ins_01kak2m5v5e7qrf9v3n6m8t0zx",
        "conversation": "cnv_01kak2m5v5e7qrf9v3n6m8t0zx", "sender": "user", "content": "hi", "platform": "ws",
        "timestamp": "2026-01-02T03:04:05Z", "seq": 1, "turn": turn(number)}})
}

fn taken(desk: &Desk) -> Vec<String> {
    let mut frames = Vec::new();
    desk.take(&mut frames);
    let name = |frame: Frame| match frame {
        Frame::Req { method, .. } => method,
        Frame::Res { id, .. } => id,
        Frame::Event { event, .. } => event,
    };
    frames.into_iter().map(name).collect()
}

#[tokio::test(start_paused = true)]
async fn as_many_turns_as_possible_are_taken_and_one_more_is_refused() {
    let (desk, mut jobs) = Desk::new();
    for number in 0..4 {
        desk.run(run(number)).unwrap();
        jobs.try_recv().unwrap();
    }
    assert_eq!(desk.run(run(4)).unwrap_err().code, Code::Busy);
    assert!(desk.run(run(3)).is_ok(), "a repeat takes no room");
    assert!(jobs.try_recv().is_err(), "and is no second job");
    desk.end(&turn(0), Outcome::Done("a".to_owned()));
    assert!(desk.run(run(4)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_ended_turn_is_told_again_when_it_is_asked_for_again() {
    let (desk, _jobs) = Desk::new();
    desk.joined(&welcome());
    desk.run(run(1)).unwrap();
    desk.end(&turn(1), Outcome::Done("a".to_owned()));
    assert_eq!(taken(&desk), ["turn.done"]);
    assert!(taken(&desk).is_empty());
    desk.run(run(1)).unwrap();
    assert_eq!(taken(&desk), ["turn.done"]);
}

#[tokio::test(start_paused = true)]
async fn an_end_without_a_link_waits_until_the_daemon_asks() {
    let (desk, _jobs) = Desk::new();
    desk.joined(&welcome());
    desk.run(run(1)).unwrap();
    desk.left();
    desk.end(&turn(1), Outcome::Done("a".to_owned()));
    desk.joined(&welcome());
    assert!(taken(&desk).is_empty());
    desk.run(run(1)).unwrap();
    assert_eq!(taken(&desk), ["turn.done"]);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_turn_says_nothing_more_and_is_known_as_cancelled() {
    let (desk, mut jobs) = Desk::new();
    desk.run(run(1)).unwrap();
    let job = jobs.try_recv().unwrap();
    desk.cancel(json!({"turn": turn(1)})).unwrap();
    assert_eq!(job.cancelled.now_or_never(), Some(Ok(())));
    desk.end(&turn(1), Outcome::Done("late".to_owned()));
    assert!(taken(&desk).is_empty());
    desk.run(run(1)).unwrap();
    assert_eq!(taken(&desk), ["turn.failed"]);
    assert!(desk.cancel(json!({"turn": turn(9)})).is_ok(), "one that is not known is no fault");
    assert_eq!(desk.cancel(json!({"turn": 9})).unwrap_err().code, Code::Invalid);
}

#[tokio::test(start_paused = true)]
async fn a_drain_is_answered_when_nothing_is_under_way_and_new_turns_are_refused() {
    let (desk, _jobs) = Desk::new();
    desk.joined(&welcome());
    desk.run(run(1)).unwrap();
    desk.drain("d".to_owned());
    assert!(taken(&desk).is_empty());
    assert_eq!(desk.run(run(2)).unwrap_err().code, Code::ShuttingDown);
    assert!(desk.run(run(1)).is_ok(), "what is under way may be asked for");
    desk.end(&turn(1), Outcome::Done("a".to_owned()));
    assert_eq!(taken(&desk), ["turn.done", "d"]);
    desk.left();
    desk.joined(&welcome());
    assert!(desk.run(run(2)).is_ok(), "a daemon that is back changed its mind");
}

#[tokio::test(start_paused = true)]
async fn finishing_waits_for_the_last_word() {
    let (desk, _jobs) = Desk::new();
    desk.joined(&welcome());
    desk.run(run(1)).unwrap();
    let finish = desk.finish();
    tokio::pin!(finish);
    assert!(finish.as_mut().now_or_never().is_none());
    desk.end(&turn(1), Outcome::Done("a".to_owned()));
    assert!(finish.as_mut().now_or_never().is_none());
    taken(&desk);
    assert!(finish.as_mut().now_or_never().is_none(), "taken is not yet sent");
    desk.flushed();
    assert!(finish.as_mut().now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_request_is_repeated_on_a_new_link_and_its_deadline_begins_again() {
    let (desk, _jobs) = Desk::new();
    let params = MemoryGet { key: None };
    let asked = desk.ask::<MemoryFound>("memory.get", &params);
    let story = async {
        tokio::time::sleep(ASK_LIMIT * 3).await;
        for _ in 0..2 {
            desk.joined(&welcome());
            assert_eq!(taken(&desk), ["memory.get"]);
            assert!(taken(&desk).is_empty());
            tokio::time::sleep(ASK_LIMIT - Duration::from_secs(1)).await;
            desk.left();
        }
        desk.joined(&welcome());
        desk.answered("q1", Ok(json!({"memory": {"a": 1}, "more": false})));
    };
    let (found, ()) = tokio::join!(asked, story);
    assert_eq!(found.unwrap().memory["a"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_the_daemon_does_not_answer_is_given_up_and_taken_back() {
    let (desk, _jobs) = Desk::new();
    desk.joined(&welcome());
    let begun = Instant::now();
    let error = desk.ask::<MemoryFound>("memory.get", &MemoryGet { key: None }).await.unwrap_err();
    assert_eq!((error.code, begun.elapsed()), (Code::TimedOut, ASK_LIMIT));
    assert_eq!(desk.state.borrow().asks.len(), 0);
    desk.answered("q1", Ok(json!({})));
    desk.answered("nonsense", Ok(json!({})));
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_nobody_asks_for_again_is_given_up() {
    let (desk, mut jobs) = Desk::new();
    desk.joined(&welcome());
    for number in 1..=2 {
        desk.run(run(number)).unwrap();
    }
    desk.left();
    desk.joined(&welcome());
    desk.run(run(1)).unwrap();
    tokio::time::advance(FORSAKEN_AFTER - Duration::from_millis(1)).await;
    desk.forsake();
    assert_eq!(desk.turns(), 2);
    tokio::time::advance(Duration::from_millis(1)).await;
    desk.forsake();
    assert_eq!(desk.turns(), 1);
    let (mut first, mut second) = (jobs.try_recv().unwrap(), jobs.try_recv().unwrap());
    assert!(first.cancelled.try_recv().is_err() && second.cancelled.try_recv().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_changed_configuration_counts_at_once_and_nonsense_does_not() {
    let (desk, _jobs) = Desk::new();
    desk.changed(&json!({"config": {"max_turns": 3}}));
    assert_eq!(desk.about().max_turns, 3);
    for payload in [Value::Null, json!({}), json!({"config": 7}), json!([])] {
        desk.changed(&payload);
    }
    assert_eq!(desk.about().max_turns, 3);
}
