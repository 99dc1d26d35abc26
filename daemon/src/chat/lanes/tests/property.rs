//! Whatever happens in whatever order.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

/// What may happen, with small numbers for which turn and which process.
#[derive(Clone, Debug)]
enum Act {
    Queue(u8),
    Join(u8),
    Leave,
    Ack(usize),
    Refuse(usize),
    Late(usize),
    Delta(usize),
    Done(usize),
    Fail(usize),
    Abort(usize),
    Written,
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0..6_u8).prop_map(Act::Queue),
        (0..3_u8).prop_map(Act::Join),
        Just(Act::Leave),
        (0..9_usize).prop_map(Act::Ack),
        (0..9_usize).prop_map(Act::Refuse),
        (0..9_usize).prop_map(Act::Late),
        (0..9_usize).prop_map(Act::Delta),
        (0..9_usize).prop_map(Act::Done),
        (0..9_usize).prop_map(Act::Fail),
        (0..9_usize).prop_map(Act::Abort),
        Just(Act::Written),
        (0..90_u64).prop_map(Act::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn every_turn_ends_once_and_no_conversation_has_two(acts in prop::collection::vec(act(), 0..80)) {
        let (mut lanes, mut now) = (Lanes::default(), Instant::now());
        let mut turns: Vec<Turn> = Vec::new();
        let mut ended = HashSet::new();
        let mut running: HashMap<TurnId, ConversationId> = HashMap::new();
        let mut unwritten: Vec<TurnId> = Vec::new();
        let mut connection = 0;
        let finish = [Act::Join(9), Act::Written, Act::Wait(9_999)].into_iter().cycle().take(600);
        for act in acts.into_iter().chain(finish) {
            let turn = |at: usize| turns.get(at).map_or_else(TurnId::mint, |turn| turn.id.clone());
            let effects = match act {
                Act::Queue(lane) => {
                    let queued = row(lane);
                    turns.push(queued.clone());
                    lanes.queue(&queued, now)
                }
                Act::Join(boot) => {
                    connection += 1;
                    lanes.joined(presence(connection, Some(&boot.to_string())), now)
                }
                Act::Leave => {
                    lanes.left(connection);
                    Vec::new()
                }
                Act::Ack(at) => lanes.acked(&turn(at), connection, now).unwrap_or_default(),
                Act::Refuse(at) => lanes.refused(&turn(at), connection, error(Code::Busy), now),
                Act::Late(at) => lanes.unanswered(&turn(at), connection, error(Code::AgentUnresponsive)),
                Act::Delta(at) => lanes.delta(&turn(at), connection, "x", false, now).unwrap_or_default(),
                Act::Done(at) => lanes.done(&turn(at), connection, "x".to_owned(), now).unwrap_or_default(),
                Act::Fail(at) => {
                    lanes.failed(&turn(at), connection, error(Code::ModelFailed), now).unwrap_or_default()
                }
                Act::Abort(at) => lanes.abort(&turn(at), error(Code::Cancelled)).unwrap_or_default(),
                Act::Written => match unwritten.pop() {
                    Some(turn) => {
                        running.remove(&turn);
                        lanes.ended(&turn, now)
                    }
                    None => Vec::new(),
                },
                Act::Wait(seconds) => {
                    now += Duration::from_secs(seconds);
                    lanes.tick(LIMITS, now)
                }
            };
            for effect in effects {
                match effect {
                    Effect::Offer { turn, attempt, .. } => {
                        prop_assert!(!ended.contains(&turn), "offered after its end");
                        prop_assert!(attempt <= MAX_ATTEMPTS);
                        let lane = turns.iter().find(|row| row.id == turn).unwrap().conversation.clone();
                        running.insert(turn, lane);
                        let lanes: HashSet<_> = running.values().collect();
                        prop_assert_eq!(lanes.len(), running.len(), "two turns of a conversation");
                        prop_assert!(running.len() <= MAX_ACTIVE);
                    }
                    Effect::Delta { turn, .. } => prop_assert!(!ended.contains(&turn), "output after the end"),
                    Effect::End(end) => {
                        prop_assert!(ended.insert(end.turn.clone()), "ended twice");
                        unwritten.push(end.turn);
                    }
                    _ => {}
                }
            }
        }
        // An agent that takes nothing loses its turns to the deadline only once it has them; the rest waits.
        for turn in lanes.open() {
            prop_assert!(!ended.contains(&turn) || unwritten.contains(&turn));
        }
        prop_assert_eq!(lanes.open().iter().collect::<HashSet<_>>().len() + ended.len() - unwritten.len(), turns.len());
    }
}
