//! What signs of an agent mean for its turns.

mod property;

use agentbot_wire::{InstanceId, MessageId, ToolStatus};

use super::*;
use crate::chat::test_support::an_agent;

const LIMITS: Limits = Limits { idle: Duration::from_secs(60), total: Duration::from_secs(600) };

fn conversation(number: u8) -> ConversationId {
    let letter = char::from(b'0' + number);
    format!("cnv_01kak2m5v5e7qrf9v3n6m8t0z{letter}").parse().unwrap()
}

fn row(conversation_number: u8) -> Turn {
    let instance: InstanceId = an_agent();
    Turn {
        id: TurnId::mint(),
        conversation: conversation(conversation_number),
        instance,
        message: MessageId::mint(),
        status: TurnStatus::Queued,
        attempts: 0,
        boot: None,
        output: false,
        error: None,
    }
}

fn presence(connection: u64, boot: Option<&str>) -> Presence {
    let slot = "slt_01kak2m5v5e7qrf9v3n6m8t0zx".parse().unwrap();
    Presence { slot, connection, boot: boot.map(str::to_owned) }
}

fn error(code: Code) -> ApiError {
    ApiError { code, message: "so".to_owned(), hint: None }
}

fn ends(effects: &[Effect]) -> Vec<(TurnId, TurnStatus)> {
    let end = |effect: &Effect| match effect {
        Effect::End(end) => Some((end.turn.clone(), end.status)),
        _ => None,
    };
    effects.iter().filter_map(end).collect()
}

fn offers(effects: &[Effect]) -> Vec<(TurnId, u32)> {
    let offer = |effect: &Effect| match effect {
        Effect::Offer { turn, attempt, .. } => Some((turn.clone(), *attempt)),
        _ => None,
    };
    effects.iter().filter_map(offer).collect()
}

/// An agent that is there, in its first process, with one turn that it was offered.
fn offered() -> (Lanes, TurnId, Instant) {
    let (mut lanes, turn, now) = (Lanes::default(), row(0), Instant::now());
    lanes.joined(presence(1, Some("a")), now);
    assert_eq!(offers(&lanes.queue(&turn, now)), [(turn.id.clone(), 1)]);
    (lanes, turn.id, now)
}

#[test]
fn a_turn_waits_for_its_agent() {
    let (mut lanes, turn, now) = (Lanes::default(), row(0), Instant::now());
    assert_eq!(lanes.queue(&turn, now), []);
    assert_eq!(offers(&lanes.joined(presence(1, None), now)), [(turn.id, 1)]);
}

#[test]
fn a_conversation_has_one_turn_at_a_time_in_order() {
    let (mut lanes, first, now) = offered();
    let (second, third) = (row(0), row(0));
    assert_eq!(lanes.queue(&second, now), []);
    assert_eq!(lanes.queue(&third, now), []);
    let effects = lanes.done(&first, 1, "one".to_owned(), now).unwrap();
    assert_eq!(ends(&effects), [(first.clone(), TurnStatus::Done)]);
    assert_eq!(offers(&effects), [], "not before the end is written down");
    assert_eq!(offers(&lanes.ended(&first, now)), [(second.id.clone(), 1)]);
    lanes.done(&second.id, 1, "two".to_owned(), now).unwrap();
    assert_eq!(offers(&lanes.ended(&second.id, now)), [(third.id, 1)]);
}

#[test]
fn so_many_conversations_run_at_once_and_the_oldest_turn_is_next() {
    let (mut lanes, now) = (Lanes::default(), Instant::now());
    lanes.joined(presence(1, None), now);
    let turns: Vec<Turn> = (0..=u8::try_from(MAX_ACTIVE).unwrap() + 1).map(row).collect();
    let started: Vec<_> = turns.iter().flat_map(|turn| offers(&lanes.queue(turn, now))).collect();
    assert_eq!(started.len(), MAX_ACTIVE);
    lanes.done(&turns[0].id, 1, String::new(), now).unwrap();
    assert_eq!(offers(&lanes.ended(&turns[0].id, now)), [(turns[MAX_ACTIVE].id.clone(), 1)]);
}

#[test]
fn the_first_sign_of_a_turn_is_written_down_and_so_is_its_first_output() {
    let (mut lanes, turn, now) = offered();
    let taken = Effect::Taken { turn: turn.clone(), attempt: 1, boot: Some("a".to_owned()) };
    let shown = Effect::Shown { turn: turn.clone() };
    let effects = lanes.delta(&turn, 1, "he", false, now).unwrap();
    assert_eq!(effects[..2], [taken, shown], "a piece before the answer to the offer says that the agent has it");
    assert_eq!(lanes.acked(&turn, 1, now), Some(Vec::new()), "the answer comes late");
    let effects = lanes.delta(&turn, 1, "llo", false, now).unwrap();
    assert!(matches!(&effects[..], [Effect::Delta { index: 1, text, snapshot: false, .. }] if text == "llo"));
    let partial = &lanes.partials(None)[0];
    assert_eq!((partial.index, partial.text.as_str()), (1, "hello"));
}

#[test]
fn a_snapshot_takes_the_place_of_all_earlier_pieces() {
    let (mut lanes, turn, now) = offered();
    lanes.delta(&turn, 1, "old", false, now).unwrap();
    lanes.delta(&turn, 1, "new", true, now).unwrap();
    lanes.delta(&turn, 1, "er", false, now).unwrap();
    let partial = &lanes.partials(None)[0];
    assert_eq!((partial.index, partial.text.as_str()), (2, "newer"));
}

#[test]
fn what_a_former_connection_or_a_stranger_says_of_a_turn_is_not_heard() {
    let (mut lanes, turn, now) = offered();
    lanes.joined(presence(2, Some("a")), now);
    assert_eq!(lanes.delta(&turn, 1, "x", false, now), None);
    assert_eq!(lanes.done(&TurnId::mint(), 2, "x".to_owned(), now), None);
    lanes.left(1);
    assert!(lanes.done(&turn, 2, "x".to_owned(), now).is_some(), "the newer connection is still there");
    assert_eq!(lanes.done(&turn, 2, "twice".to_owned(), now), None);
}

#[test]
fn a_turn_that_was_not_taken_is_offered_again_and_counts_no_attempt() {
    let (mut lanes, turn, now) = offered();
    for connection in 2..90 {
        lanes.left(connection - 1);
        let process = connection.to_string();
        assert_eq!(offers(&lanes.joined(presence(connection, Some(&process)), now)), [(turn.clone(), 1)]);
    }
}

#[test]
fn a_turn_that_waited_a_night_to_be_taken_has_its_whole_time_then() {
    let (mut lanes, turn, now) = offered();
    lanes.refused(&turn, 1, error(Code::ShuttingDown), now);
    lanes.left(1);
    let morning = now + 9 * LIMITS.total;
    assert_eq!(offers(&lanes.joined(presence(2, Some("b")), morning)), [(turn.clone(), 1)]);
    assert_eq!(lanes.tick(LIMITS, morning), []);
    lanes.acked(&turn, 2, morning).unwrap();
    assert_eq!(lanes.tick(LIMITS, morning + LIMITS.idle / 2), []);
}

#[test]
fn of_two_connections_that_join_in_the_wrong_order_the_newer_one_counts() {
    let (mut lanes, turn, now) = offered();
    lanes.joined(presence(3, Some("a")), now);
    assert_eq!(lanes.joined(presence(2, Some("a")), now), []);
    lanes.left(2);
    assert!(lanes.done(&turn, 3, "x".to_owned(), now).is_some());
}

#[test]
fn an_agent_that_takes_a_stopped_turn_is_known_to_do_so() {
    let (mut lanes, turn, now) = offered();
    assert!(lanes.acked(&turn, 1, now).is_some());
    lanes.abort(&turn, error(Code::Cancelled)).unwrap();
    assert_eq!(lanes.acked(&turn, 1, now), None);
}

#[test]
fn a_turn_goes_on_when_only_the_connection_was_lost() {
    let (mut lanes, turn, now) = offered();
    lanes.delta(&turn, 1, "half", false, now).unwrap();
    lanes.left(1);
    assert_eq!(offers(&lanes.joined(presence(2, Some("a")), now)), [(turn.clone(), 1)]);
    assert!(lanes.done(&turn, 2, "half and half".to_owned(), now).is_some());
}

#[test]
fn a_turn_that_showed_nothing_is_given_to_a_second_process_and_not_to_a_third() {
    let (mut lanes, turn, now) = offered();
    lanes.acked(&turn, 1, now);
    lanes.left(1);
    assert_eq!(offers(&lanes.joined(presence(2, Some("b")), now)), [(turn.clone(), 2)]);
    lanes.acked(&turn, 2, now);
    lanes.left(2);
    assert_eq!(ends(&lanes.joined(presence(3, Some("c")), now)), [(turn, TurnStatus::Interrupted)]);
}

#[test]
fn output_or_a_tool_that_died_with_its_agent_is_interrupted() {
    let call = || ToolCall { id: "1".to_owned(), name: "files".to_owned(), status: ToolStatus::Started, detail: None };
    for boot in [Some("b"), None] {
        let (mut lanes, turn, now) = offered();
        lanes.delta(&turn, 1, "half", false, now).unwrap();
        lanes.left(1);
        let effects = lanes.joined(presence(2, boot), now);
        assert_eq!(ends(&effects), [(turn, TurnStatus::Interrupted)]);
        assert!(matches!(&effects[0], Effect::End(end) if end.answer == "half"), "what was shown is kept");

        let (mut lanes, turn, now) = offered();
        lanes.tool(&turn, 1, call(), now).unwrap();
        lanes.left(1);
        assert_eq!(ends(&lanes.joined(presence(2, boot), now)), [(turn, TurnStatus::Interrupted)]);
    }
}

#[test]
fn a_turn_left_open_by_the_daemon_goes_on_in_the_process_that_has_it() {
    let left_open =
        Turn { status: TurnStatus::Running, attempts: 1, boot: Some("a".to_owned()), output: true, ..row(0) };
    let now = Instant::now();
    for (boot, lives) in [("a", true), ("b", false)] {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.queue(&left_open, now), []);
        let effects = lanes.joined(presence(1, Some(boot)), now);
        assert_eq!(offers(&effects).len() == 1, lives);
        assert_eq!(ends(&effects).len() == 1, !lives);
    }
}

#[test]
fn an_answer_has_a_longest_length_in_pieces_and_whole() {
    let longest = "x".repeat(MAX_MESSAGE);
    let (mut lanes, turn, now) = offered();
    assert_eq!(ends(&lanes.delta(&turn, 1, &longest, false, now).unwrap()), []);
    let effects = lanes.delta(&turn, 1, "y", false, now).unwrap();
    assert_eq!(ends(&effects), [(turn, TurnStatus::Failed)]);
    assert!(matches!(&effects[0], Effect::End(end) if end.answer == longest));
    assert!(matches!(&effects[1], Effect::Cancel { .. }));

    let (mut lanes, turn, now) = offered();
    assert_eq!(ends(&lanes.done(&turn, 1, longest.clone(), now).unwrap()), [(turn, TurnStatus::Done)]);
    let (mut lanes, turn, now) = offered();
    let effects = lanes.done(&turn, 1, longest.clone() + "y", now).unwrap();
    assert_eq!(ends(&effects), [(turn, TurnStatus::Failed)]);
}

#[test]
fn an_agent_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
    let (mut lanes, turn, now) = offered();
    assert_eq!(lanes.refused(&turn, 1, error(Code::Busy), now), []);
    assert_eq!(lanes.tick(LIMITS, now), []);
    assert_eq!(offers(&lanes.tick(LIMITS, now + BUSY_PAUSE)), [(turn.clone(), 1)]);
    let effects = lanes.refused(&turn, 1, error(Code::Unsupported), now);
    assert_eq!(ends(&effects), [(turn, TurnStatus::Failed)]);

    let (mut lanes, turn, now) = offered();
    lanes.refused(&turn, 1, error(Code::Busy), now);
    assert_eq!(ends(&lanes.tick(LIMITS, now + LIMITS.total)), [(turn, TurnStatus::Failed)], "not for ever");
}

#[test]
fn an_agent_that_hangs_is_given_so_long_and_no_longer() {
    let second = Duration::from_secs(1);
    let (mut lanes, turn, _) = offered();
    let silent = error(Code::AgentUnresponsive);
    assert_eq!(ends(&lanes.unanswered(&turn, 1, silent)), [(turn, TurnStatus::Failed)]);

    let (mut lanes, turn, begun) = offered();
    lanes.acked(&turn, 1, begun);
    assert_eq!(lanes.tick(LIMITS, begun + LIMITS.idle - second), []);
    let mut now = begun;
    while now + LIMITS.idle < begun + LIMITS.total {
        now += LIMITS.idle - second;
        lanes.delta(&turn, 1, "x", false, now).unwrap();
        assert_eq!(lanes.tick(LIMITS, now), []);
    }
    assert_eq!(ends(&lanes.tick(LIMITS, begun + LIMITS.total)), [(turn, TurnStatus::Failed)]);

    let (mut lanes, turn, now) = offered();
    lanes.acked(&turn, 1, now);
    let effects = lanes.tick(LIMITS, now + LIMITS.idle);
    assert_eq!(ends(&effects), [(turn.clone(), TurnStatus::Failed)]);
    assert!(matches!(&effects[1], Effect::Cancel { turn: cancelled, .. } if *cancelled == turn));
}

#[test]
fn a_turn_that_waits_for_an_absent_agent_has_no_deadline() {
    let (mut lanes, turn, now) = offered();
    lanes.acked(&turn, 1, now);
    lanes.left(1);
    assert!(!lanes.needs_clock());
    assert_eq!(lanes.tick(LIMITS, now + LIMITS.total * 9), []);
}

#[test]
fn an_abort_ends_what_runs_and_what_waits_and_nothing_twice() {
    let (mut lanes, turn, now) = offered();
    let waiting = row(0);
    lanes.queue(&waiting, now);
    let effects = lanes.abort(&waiting.id, error(Code::Cancelled)).unwrap();
    assert_eq!(ends(&effects), [(waiting.id.clone(), TurnStatus::Cancelled)]);
    assert_eq!(lanes.abort(&waiting.id, error(Code::Cancelled)), None);
    lanes.delta(&turn, 1, "half", false, now).unwrap();
    let effects = lanes.abort(&turn, error(Code::Cancelled)).unwrap();
    assert!(matches!(&effects[..], [Effect::End(end), Effect::Cancel { .. }] if end.answer == "half"));
    assert_eq!(lanes.abort(&turn, error(Code::Cancelled)), None);
    assert_eq!(lanes.done(&turn, 1, "late".to_owned(), now), None);
    lanes.ended(&turn, now);
    lanes.left(1);
    assert!(lanes.is_idle());
}

#[test]
fn an_agents_reason_says_how_its_turn_ended() {
    for (code, status) in [
        (Code::ModelFailed, TurnStatus::Failed),
        (Code::Interrupted, TurnStatus::Interrupted),
        (Code::Cancelled, TurnStatus::Cancelled),
    ] {
        let (mut lanes, turn, now) = offered();
        assert_eq!(ends(&lanes.failed(&turn, 1, error(code), now).unwrap()), [(turn, status)]);
    }
}
