#![allow(clippy::unwrap_used)]
use super::*;
use agentbot_wire::{MessageId, Platform, TurnView};
use proptest::prelude::*;
use serde_json::json;

/// A daemon's side of one conversation: what is stored, and the turns that run.
struct Daemon {
    agent: InstanceId,
    conversation: ConversationId,
    stored: Vec<Message>,
    running: Vec<TurnId>,
}

impl Daemon {
    fn new() -> Self {
        let (agent, conversation) = (InstanceId::mint(), ConversationId::mint());
        Self { agent, conversation, stored: Vec::new(), running: Vec::new() }
    }

    fn store(&mut self, sender: Sender, turn: &TurnId) -> Value {
        let seq = self.stored.len() as u64 + 1;
        let message = Message {
            id: MessageId::mint(),
            agent: self.agent.clone(),
            conversation: self.conversation.clone(),
            sender,
            content: format!("message {seq}"),
            timestamp: "2026-01-01T00:00:00Z".parse().unwrap(),
            platform: Platform::Ctl,
            seq,
            turn: Some(turn.clone()),
        };
        self.stored.push(message.clone());
        json!(message)
    }

    fn done(&self, turn: &TurnId) -> Value {
        let last = self.stored.last().unwrap();
        json!(end_of(last, turn))
    }

    fn delta(&self, turn: &TurnId, index: u64, text: &str, snapshot: bool) -> Value {
        let (agent, conversation, turn) = (self.agent.clone(), self.conversation.clone(), turn.clone());
        json!(ChatDelta { agent, conversation, turn, index, text: text.to_owned(), snapshot })
    }

    fn subscribed(&self) -> ChatSubscribed {
        let view = |turn: &TurnId| TurnView {
            turn: turn.clone(),
            conversation: self.conversation.clone(),
            message: self.stored[0].id.clone(),
            status: TurnStatus::Running,
            error: None,
        };
        ChatSubscribed {
            cursors: BTreeMap::from([(self.conversation.clone(), self.stored.len() as u64)]),
            turns: self.running.iter().map(view).collect(),
        }
    }

    /// What a subscription with these cursors is answered with, and what is sent at once.
    fn replay(&self, resume: &mut Resume) -> Vec<(&'static str, Value)> {
        let after = resume.cursors().map(|cursors| cursors.get(&self.conversation).copied().unwrap_or_default());
        resume.subscribed(&self.subscribed());
        let Some(after) = after else { return Vec::new() };
        let missed = self.stored.iter().filter(|message| message.seq > after);
        missed.map(|message| (event::CHAT_MESSAGE, json!(message))).collect()
    }

    fn sent(&self, turn: &TurnId) -> ChatSent {
        let first = self.stored.iter().find(|message| message.turn.as_ref() == Some(turn)).unwrap();
        let (message, conversation) = (first.id.clone(), self.conversation.clone());
        ChatSent { message, conversation, seq: first.seq, turn: turn.clone() }
    }
}

fn shown(step: Step) -> Option<Spoken> {
    match step {
        Step::Show(spoken) => Some(spoken),
        Step::Nothing => None,
        Step::Resync => panic!("nothing is missing"),
    }
}

#[test]
fn pieces_come_in_order_and_a_hole_is_healed_by_a_snapshot_only() {
    let daemon = Daemon::new();
    let mut resume = Resume::new(daemon.agent.clone());
    let turn = TurnId::mint();
    let mut text = String::new();
    for (index, piece, snapshot) in [
        (0, "a", false),
        (0, "a", false),
        (1, "b", false),
        (3, "d", false),
        (2, "c", false),
        (4, "abcde", true),
        (4, "e", false),
        (5, "f", false),
    ] {
        if let Some(Spoken::Delta(delta)) =
            shown(resume.event(event::CHAT_DELTA, &daemon.delta(&turn, index, piece, snapshot)))
        {
            text = if delta.snapshot { delta.text } else { text + &delta.text };
        }
    }
    assert_eq!(text, "abcdef");
}

#[test]
fn pieces_after_the_end_are_dropped_and_the_end_is_told_once() {
    let mut daemon = Daemon::new();
    let mut resume = Resume::new(daemon.agent.clone());
    let turn = TurnId::mint();
    daemon.store(Sender::User, &turn);
    resume.subscribed(&daemon.subscribed());
    resume.follow(&daemon.sent(&turn));
    let answer = daemon.store(Sender::Agent, &turn);
    assert!(shown(resume.event(event::CHAT_MESSAGE, &answer)).is_some());
    assert!(shown(resume.event(event::CHAT_DONE, &daemon.done(&turn))).is_some());
    assert!(shown(resume.event(event::CHAT_DONE, &daemon.done(&turn))).is_none());
    assert!(shown(resume.event(event::CHAT_DELTA, &daemon.delta(&turn, 9, "late", true))).is_none());
    assert!(resume.due().is_none());
}

#[test]
fn a_place_that_was_passed_over_asks_for_it_once() {
    let mut daemon = Daemon::new();
    let mut resume = Resume::new(daemon.agent.clone());
    let turn = TurnId::mint();
    daemon.store(Sender::User, &turn);
    resume.subscribed(&daemon.subscribed());
    daemon.store(Sender::User, &turn);
    let third = daemon.store(Sender::User, &turn);
    assert_eq!(resume.event(event::CHAT_MESSAGE, &third), Step::Resync);
    assert_eq!(daemon.replay(&mut resume).len(), 2);
    // A daemon that never gives it does not hold the talk up for ever.
    assert!(matches!(resume.event(event::CHAT_MESSAGE, &third), Step::Show(_)));
}

#[test]
fn an_end_that_nobody_heard_is_told_after_all_that_was_stored() {
    let mut daemon = Daemon::new();
    let mut resume = Resume::new(daemon.agent.clone());
    let turn = TurnId::mint();
    daemon.store(Sender::User, &turn);
    daemon.running.push(turn.clone());
    resume.subscribed(&daemon.subscribed());
    resume.follow(&daemon.sent(&turn));
    // The connection goes; meanwhile the agent leaves half an answer and the daemon says why.
    daemon.store(Sender::Agent, &turn);
    daemon.store(Sender::System, &turn);
    daemon.running.clear();
    let replay = daemon.replay(&mut resume);
    assert!(resume.due().is_none());
    for (name, payload) in replay {
        assert!(shown(resume.event(name, &payload)).is_some());
    }
    let done = resume.due().unwrap();
    assert_eq!((done.status, done.last_seq), (TurnStatus::Failed, 3));
    assert!(resume.due().is_none());
}

#[test]
fn a_turn_that_was_over_before_listening_began_is_made_up_for() {
    let mut daemon = Daemon::new();
    let mut resume = Resume::new(daemon.agent.clone());
    let turn = TurnId::mint();
    daemon.store(Sender::User, &turn);
    daemon.store(Sender::Agent, &turn);
    resume.subscribed(&daemon.subscribed());
    let sent = daemon.sent(&turn);
    resume.follow(&sent);
    assert!(resume.missed(&sent));
    // Meanwhile the connection goes and comes back.
    assert!(daemon.replay(&mut resume).is_empty());
    assert!(resume.due().is_none());
    assert_eq!(resume.make_up(&sent, daemon.stored.clone()).len(), 1);
    assert_eq!(resume.due().unwrap().status, TurnStatus::Done);
}

proptest! {
    #[test]
    fn every_stored_message_is_heard_once_in_order_however_often_the_connection_is_cut(
        cuts in prop::collection::vec(0_usize..40, 0..8),
        ack_late: bool,
    ) {
        let mut daemon = Daemon::new();
        let mut resume = Resume::new(daemon.agent.clone());
        resume.subscribed(&ChatSubscribed::default());
        let (mut seen, mut ends) = (Vec::new(), Vec::new());
        let mut clock = 0;
        let mut link = true;
        let mut hear = |resume: &mut Resume, name: &str, payload: &Value, ends: &mut Vec<TurnId>| {
            match shown(resume.event(name, payload)) {
                Some(Spoken::Message(message)) => seen.push(message.seq),
                Some(Spoken::Done(done)) => ends.push(done.turn),
                _ => {}
            }
            while let Some(done) = resume.due() {
                ends.push(done.turn);
            }
        };
        let mut turns = Vec::new();
        for _ in 0..5 {
            let turn = TurnId::mint();
            turns.push(turn.clone());
            let mut events = vec![(event::CHAT_MESSAGE, daemon.store(Sender::User, &turn))];
            daemon.running.push(turn.clone());
            let mut acked = !ack_late;
            if acked {
                resume.follow(&daemon.sent(&turn));
            }
            for index in 0..3 {
                events.push((event::CHAT_DELTA, daemon.delta(&turn, index, "x", false)));
            }
            for step in 0..6 {
                if step == 4 {
                    events.push((event::CHAT_MESSAGE, daemon.store(Sender::Agent, &turn)));
                    daemon.running.clear();
                    events.push((event::CHAT_DONE, daemon.done(&turn)));
                }
                let next: Vec<_> =
                    if step <= 4 { events.drain(..1).collect() } else { std::mem::take(&mut events) };
                clock += 1;
                if cuts.contains(&clock) {
                    // What was under way is lost; the next event finds a new connection.
                    link = false;
                    continue;
                }
                if !link {
                    link = true;
                    for (name, payload) in daemon.replay(&mut resume) {
                        hear(&mut resume, name, &payload, &mut ends);
                    }
                    if !acked {
                        acked = true;
                        resume.follow(&daemon.sent(&turn));
                    }
                    while let Some(done) = resume.due() {
                        ends.push(done.turn);
                    }
                }
                for (name, payload) in next {
                    hear(&mut resume, name, &payload, &mut ends);
                }
            }
            if !acked {
                resume.follow(&daemon.sent(&turn));
            }
        }
        for (name, payload) in daemon.replay(&mut resume) {
            hear(&mut resume, name, &payload, &mut ends);
        }
        while let Some(done) = resume.due() {
            ends.push(done.turn);
        }
        prop_assert_eq!(seen, (1..=daemon.stored.len() as u64).collect::<Vec<_>>());
        let mut once = ends.clone();
        once.dedup();
        prop_assert_eq!(&once, &ends);
        for turn in turns {
            prop_assert!(ends.contains(&turn), "an end is missing");
        }
    }
}
