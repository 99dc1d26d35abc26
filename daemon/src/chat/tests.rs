//! Conversations on a real store, with agents that say what the test has them say.

mod scene;

use std::sync::Arc;
use std::time::Duration;

use agentbot_wire::{
    ChatDelta, ChatSend, ChatSubscribe, Code, HistoryParams, InstanceId, Platform, Sender, TurnId, TurnStatus,
};
use serde_json::json;
use tokio::time::timeout;

use super::*;
use crate::link::Ears;
use crate::store::{instances, messages};
use scene::*;

#[tokio::test]
async fn a_message_is_stored_then_answered_and_everybody_hears_the_same() {
    let scene = scene().await;
    scene.chat.joined(&scene.agent);
    let mut one = scene.feed(ChatSubscribe::default()).await;
    let mut other = scene.feed(ChatSubscribe::default()).await;
    let sent = scene.send("hello").await;
    assert_eq!(sent.seq, 1);
    scene.delta(&sent.turn, "he");
    scene.delta(&sent.turn, "llo\x1b[31m");
    scene.done(&sent.turn, "hello you");
    let heard = until_done(&mut one, &sent.turn).await;
    assert_eq!(names(&heard), ["chat.message", "chat.delta", "chat.delta", "chat.message", "chat.done"]);
    assert_eq!(heard, until_done(&mut other, &sent.turn).await);
    assert!(matches!(heard[2].body(), Body::Delta(delta) if delta.text == "llo[31m"));
    let said = scene.history(&sent.conversation).await;
    let lines: Vec<_> = said.iter().map(|message| (message.seq, message.sender, message.content.as_str())).collect();
    assert_eq!(lines, [(1, Sender::User, "hello"), (2, Sender::Agent, "hello you")]);
}

#[tokio::test]
async fn places_have_no_gaps_however_many_send_at_once() {
    let scene = scene().await;
    let chat = &scene.chat;
    let mut feed = scene.feed(ChatSubscribe::default()).await;
    let sends = (0..40).map(|n| {
        let topic = Some(format!("t{}", n % 4));
        async move { chat.send(&OPERATOR, &ChatSend { topic, ..say("x") }, Platform::Ws).await.unwrap() }
    });
    let sent = futures_util::future::join_all(sends).await;
    let mut heard = std::collections::HashMap::new();
    for _ in 0..40 {
        let event = next(&mut feed).await;
        let last = heard.entry(event.conversation().unwrap().clone()).or_insert(0);
        assert_eq!(event.seq(), Some(*last + 1), "published in the order of the places");
        *last += 1;
    }
    assert_eq!(heard.values().copied().collect::<Vec<u64>>(), [10; 4]);
    assert_eq!(sent.iter().map(|sent| &sent.turn).collect::<std::collections::HashSet<_>>().len(), 40);
}

#[tokio::test]
async fn one_who_was_away_misses_nothing_and_hears_nothing_twice() {
    let scene = scene().await;
    scene.chat.joined(&scene.agent);
    let mut away = scene.feed(ChatSubscribe::default()).await;
    let first = scene.send("one").await;
    scene.delta(&first.turn, "a");
    assert_eq!(next(&mut away).await.seq(), Some(1));
    let cursors = away.cursors().clone();
    drop(away);
    scene.done(&first.turn, "answer");
    let elsewhere = ChatSend { topic: Some("new".to_owned()), ..say("two") };
    let second = scene.chat.send(&OPERATOR, &elsewhere, Platform::Ws).await.unwrap();
    scene.delta(&second.turn, "half");
    scene.ended(&first.turn).await;
    let subscribe = ChatSubscribe { agent: Some("helper".to_owned()), cursors: Some(cursors), ..Default::default() };
    let mut back = scene.feed(subscribe).await;
    let mut heard = [next(&mut back).await, next(&mut back).await, next(&mut back).await];
    heard.sort_by_key(|event| event.name());
    assert!(matches!(heard[0].body(), Body::Delta(delta) if delta.snapshot && delta.text == "half"));
    let messages: std::collections::HashSet<_> = heard[1..].iter().map(|event| event.seq().unwrap()).collect();
    assert_eq!(messages, [1, 2].into(), "the answer of one conversation, and the other from its beginning");
    scene.done(&second.turn, "half and half");
    assert_eq!(names(&until_done(&mut back, &second.turn).await), ["chat.message", "chat.done"]);
}

#[tokio::test]
async fn cursors_beyond_what_there_is_are_refused() {
    let scene = scene().await;
    let sent = scene.send("one").await;
    let mut feed = scene.chat.feed(&OPERATOR);
    let beyond = |after_seq| ChatSubscribe {
        conversation: Some(sent.conversation.clone()),
        after_seq: Some(after_seq),
        ..Default::default()
    };
    assert_eq!(feed.subscribe(&beyond(2)).await.unwrap_err().code(), Code::Invalid);
    assert!(feed.subscribe(&beyond(1)).await.is_ok());
}

#[tokio::test]
async fn one_key_sends_once() {
    let scene = scene().await;
    let send = ChatSend { idempotency_key: Some("k".to_owned()), ..say("once") };
    let sends = (0..16).map(|_| scene.chat.send(&OPERATOR, &send, Platform::Ws));
    let sent = futures_util::future::try_join_all(sends).await.unwrap();
    assert!(sent.iter().all(|one| *one == sent[0]));
    assert_eq!(scene.history(&sent[0].conversation).await.len(), 1);
    for other in [
        ChatSend { text: "twice".to_owned(), ..send.clone() },
        ChatSend { topic: Some("t".to_owned()), ..send.clone() },
    ] {
        let refused = scene.chat.send(&OPERATOR, &other, Platform::Ws).await.unwrap_err();
        assert_eq!(refused.code(), Code::IdempotencyMismatch);
    }
    let somebody_else = Actor::Operator { uid: 7 };
    assert_ne!(scene.chat.send(&somebody_else, &send, Platform::Ws).await.unwrap(), sent[0]);
}

#[tokio::test]
async fn an_aborted_turn_keeps_what_was_shown_and_can_be_asked_again() {
    let scene = scene().await;
    scene.chat.joined(&scene.agent);
    let sent = scene.send("tell me").await;
    let early = scene.chat.retry(&OPERATOR, &sent.turn).await.unwrap_err();
    assert_eq!(early.code(), Code::Conflict);
    scene.delta(&sent.turn, "once upon");
    let aborted = scene.chat.abort(&OPERATOR, &sent.turn).await.unwrap();
    assert_eq!(aborted.status, TurnStatus::Cancelled);
    assert_eq!(scene.chat.abort(&OPERATOR, &sent.turn).await.unwrap(), aborted, "twice is once");
    scene.done(&sent.turn, "too late");
    let said = scene.history(&sent.conversation).await;
    let senders: Vec<_> = said.iter().map(|message| message.sender).collect();
    assert_eq!(senders, [Sender::User, Sender::Agent, Sender::System]);
    assert_eq!(said[1].content, "once upon");

    let again = scene.chat.retry(&OPERATOR, &sent.turn).await.unwrap();
    assert_eq!(scene.chat.retry(&OPERATOR, &sent.turn).await.unwrap().turn, again.turn, "while it is open");
    assert_eq!(again.message, sent.message);
    scene.done(&again.turn, "once upon a time");
    scene.ended(&again.turn).await;
    assert_eq!(scene.history(&sent.conversation).await.len(), 4);
    for turn in [&again.turn, &sent.turn] {
        let refused = scene.chat.retry(&OPERATOR, turn).await.unwrap_err();
        assert_eq!(refused.code(), Code::Conflict, "a retry whose answer was lost asks nothing again");
    }
}

#[tokio::test]
async fn so_many_messages_may_wait_in_a_conversation() {
    let scene = scene().await;
    let mut turns = Vec::new();
    for _ in 0..MAX_WAITING {
        turns.push(scene.send("wait").await.turn);
    }
    let refused = scene.chat.send(&OPERATOR, &say("one more"), Platform::Ws).await.unwrap_err();
    assert_eq!(refused.code(), Code::Busy);
    let elsewhere = ChatSend { topic: Some("other".to_owned()), ..say("x") };
    assert!(scene.chat.send(&OPERATOR, &elsewhere, Platform::Ws).await.is_ok());
    scene.chat.abort(&OPERATOR, &turns[0]).await.unwrap();
    assert!(scene.chat.send(&OPERATOR, &say("one more"), Platform::Ws).await.is_ok());
}

#[tokio::test]
async fn so_many_messages_may_wait_for_an_agent() {
    let scene = scene().await;
    for at in 0..MAX_OPEN {
        let send = ChatSend { topic: Some(format!("t{}", at / MAX_WAITING)), ..say("wait") };
        scene.chat.send(&OPERATOR, &send, Platform::Ws).await.unwrap();
    }
    let elsewhere = ChatSend { topic: Some("other".to_owned()), ..say("x") };
    let refused = scene.chat.send(&OPERATOR, &elsewhere, Platform::Ws).await.unwrap_err();
    assert_eq!(refused.code(), Code::Busy);
}

#[tokio::test]
async fn whoever_waits_for_a_purged_agent_is_told() {
    let scene = scene().await;
    scene.chat.joined(&scene.agent);
    let waiting = scene.chat.converse(&OPERATOR, &say("hello"), Platform::Http).await.unwrap();
    let (turn, gone) = (waiting.turn().clone(), scene.agent.instance.clone());
    scene.delta(&turn, "half");
    let of = gone.clone();
    scene
        .store
        .write(move |conn| {
            while messages::remove_some(conn, &of)? > 0 {}
            instances::remove(conn, &of)
        })
        .await
        .unwrap();
    scene.chat.live.clear(&gone);
    assert_eq!(waiting.reply(SOON).await.unwrap_err().code(), Code::Cancelled);
    assert_eq!(scene.chat.turn(&OPERATOR, &turn).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn one_who_asks_with_the_same_key_in_the_middle_hears_the_beginning() {
    let scene = scene().await;
    scene.chat.joined(&scene.agent);
    let send = ChatSend { idempotency_key: Some("k".to_owned()), ..say("hello") };
    let first = scene.chat.converse(&OPERATOR, &send, Platform::Http).await.unwrap();
    scene.delta(first.turn(), "he");
    let mut second = scene.chat.converse(&OPERATOR, &send, Platform::Http).await.unwrap();
    scene.delta(first.turn(), "llo");
    scene.done(first.turn(), "hello");
    let mut pieces = Vec::new();
    while let Some(event) = second.next().await.unwrap() {
        if let Body::Delta(delta) = event.body() {
            pieces.push((delta.text.clone(), delta.snapshot));
        }
    }
    assert_eq!(pieces, [("he".to_owned(), true), ("llo".to_owned(), false)]);
}

#[tokio::test]
async fn a_refused_subscription_hears_nothing() {
    let scene = scene().await;
    let sent = scene.send("one").await;
    let mut feed = scene.chat.feed(&OPERATOR);
    let cursors = Some([(sent.conversation.clone(), 9)].into());
    let ahead = ChatSubscribe { agent: Some("helper".to_owned()), cursors, ..Default::default() };
    assert!(feed.subscribe(&ahead).await.is_err());
    scene.send("two").await;
    assert!(timeout(Duration::from_millis(50), feed.next()).await.is_err());
    assert!(feed.cursors().is_empty());
}

#[tokio::test]
async fn somebody_elses_conversation_is_answered_like_a_missing_one() {
    let scene = scene().await;
    let other = an_agent(&scene.store, "other").await;
    let own = Actor::Agent { slot: other.slot.clone(), instance: other.instance.clone() };
    let named = ChatSend { agent: Some("helper".to_owned()), ..say("x") };
    let sent = scene.chat.send(&OPERATOR, &named, Platform::Ws).await.unwrap();
    let missing: TurnId = TurnId::mint();
    let (seen, gone) =
        (scene.chat.turn(&own, &sent.turn).await.unwrap_err(), scene.chat.turn(&own, &missing).await.unwrap_err());
    assert_eq!((seen.code(), gone.code()), (Code::NotFound, Code::NotFound));
    let params = HistoryParams { conversation: sent.conversation, before_seq: None, after_seq: None, limit: None };
    assert_eq!(scene.chat.history(&own, &params).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(scene.chat.send(&own, &named, Platform::Ws).await.unwrap_err().code(), Code::NotFound);
    let unnamed = scene.chat.send(&OPERATOR, &say("x"), Platform::Ws).await.unwrap_err();
    assert_eq!(unnamed.code(), Code::Invalid);
    assert!(unnamed.to_api().hint.unwrap().contains("helper, other"));
}

#[tokio::test]
async fn a_token_that_was_replaced_sends_nothing() {
    let scene = scene().await;
    let instance: InstanceId = scene.agent.instance.clone();
    let (of, hash) = (instance.clone(), [7; 32]);
    let row = instances::TokenRow { salt: [1; 16], hash };
    scene.store.write(move |conn| instances::set_token(conn, &of, &row)).await.unwrap();
    let holder = |token| Actor::Gateway { instance: instance.clone(), token };
    assert!(scene.chat.send(&holder(hash), &say("x"), Platform::Ws).await.is_ok());
    let refused = scene.chat.send(&holder([8; 32]), &say("x"), Platform::Ws).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn an_exchange_hears_its_own_turn_also_when_the_key_was_used_before() {
    let scene = scene().await;
    scene.chat.joined(&scene.agent);
    let send = ChatSend { idempotency_key: Some("k".to_owned()), ..say("hello") };
    let first = scene.chat.converse(&OPERATOR, &send, Platform::Http).await.unwrap();
    let turn = first.turn().clone();
    let second = scene.chat.converse(&OPERATOR, &send, Platform::Http).await.unwrap();
    scene.done(&turn, "hi");
    let (first, second) = tokio::join!(first.reply(SOON), second.reply(SOON));
    let third = scene.chat.converse(&OPERATOR, &send, Platform::Http).await.unwrap().reply(SOON).await;
    let replies = [first.unwrap(), second.unwrap(), third.unwrap()];
    assert!(replies.iter().all(|reply| reply.content == "hi" && *reply == replies[0]));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_names_the_turn_that_goes_on() {
    let scene = scene().await;
    let waiting = scene.chat.converse(&OPERATOR, &say("hello"), Platform::Http).await.unwrap();
    let turn = waiting.turn().clone();
    let error = waiting.reply(Duration::from_secs(120)).await.unwrap_err();
    assert_eq!(error.code(), Code::TimedOut);
    assert!(error.message().contains(turn.as_str()));
}

#[tokio::test]
async fn open_turns_are_taken_up_by_the_next_daemon() {
    let scene = scene().await;
    let first = scene.send("first").await;
    let second = scene.send("second").await;
    let chat = chat_on(&scene.store);
    assert_eq!(chat.resume().await.unwrap(), 2);
    chat.joined(&scene.agent);
    let mut feed = chat.feed(&OPERATOR);
    feed.subscribe(&ChatSubscribe::default()).await.unwrap();
    for turn in [&first.turn, &second.turn] {
        // An agent answers what it was given: the second turn only after the end of the first is written down.
        let given = async {
            loop {
                let before = chat.dropped();
                chat.event(&scene.agent, "turn.done", json!({"turn": turn, "text": "answered"}));
                if chat.dropped() == before {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, given).await.unwrap();
        until_done(&mut feed, turn).await;
    }
    assert_eq!(scene.history(&first.conversation).await.len(), 4);
    assert_eq!(chat_on(&scene.store).resume().await.unwrap(), 0);
}

#[tokio::test]
async fn what_makes_no_sense_of_an_agents_is_counted_and_nothing_else() {
    let scene = scene().await;
    scene.chat.joined(&scene.agent);
    let sent = scene.send("x").await;
    for (event, payload) in [
        ("turn.delta", json!({"turn": TurnId::mint(), "text": "x"})),
        ("turn.delta", json!({"turn": sent.turn})),
        ("turn.done", json!(7)),
        ("turn.failed", json!({"turn": sent.turn, "error": "no"})),
        ("turn.surprise", json!({})),
    ] {
        scene.chat.event(&scene.agent, event, payload);
    }
    assert_eq!(scene.chat.dropped(), (0, 5));
    scene.chat.event(
        &scene.agent,
        "turn.failed",
        json!({"turn": sent.turn, "error": {"code": "internal", "message": "a\u{1b}b"}}),
    );
    scene.ended(&sent.turn).await;
    let error = scene.chat.turn(&OPERATOR, &sent.turn).await.unwrap().error.unwrap();
    assert_eq!((error.code, error.message.as_str()), (Code::AgentFailed, "a b"), "only the daemon can say internal");
}

#[tokio::test]
async fn the_history_comes_in_pages_that_fit_a_frame() {
    let scene = scene().await;
    let conversation = scene.send("0").await.conversation;
    let long = "\"".repeat(40_000);
    for _ in 0..5 {
        scene.send(&long).await;
    }
    let mut params = HistoryParams { conversation, before_seq: None, after_seq: None, limit: None };
    let mut seen = Vec::new();
    loop {
        let page = scene.chat.history(&OPERATOR, &params).await.unwrap();
        assert!(serde_json::to_string(&page).unwrap().len() < agentbot_wire::MAX_FRAME);
        params.before_seq = page.messages.first().map(|message| message.seq);
        seen.extend(page.messages.iter().rev().map(|message| message.seq));
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, [6, 5, 4, 3, 2, 1]);
}

#[tokio::test]
async fn a_piece_is_given_behind_its_forerunners_or_not_at_all() {
    let scene = scene().await;
    let mut feed = scene.feed(ChatSubscribe::default()).await;
    for (index, snapshot) in [(1, false), (0, false), (2, false), (1, false), (1, true), (4, true), (5, false)] {
        let agent = scene.agent.instance.clone();
        let delta = ChatDelta { agent, text: "x".to_owned(), index, snapshot, ..test_support::a_delta(index, "x") };
        scene.chat.live.hub().publish(&Arc::new(Event::delta(delta)));
    }
    for wanted in [0, 1, 4, 5] {
        let event = next(&mut feed).await;
        assert!(matches!(event.body(), Body::Delta(delta) if delta.index == wanted), "{wanted}: {event:?}");
    }
}

#[tokio::test]
async fn an_agent_may_ask_so_often() {
    let scene = scene().await;
    let params = json!({"conversation": scene.send("x").await.conversation});
    let (mut asked, mut refused) = (0, None);
    while refused.is_none() && asked < 10 * REQUESTS_AT_ONCE {
        asked += 1;
        refused = scene.chat.request(&scene.agent, "chat.history", params.clone()).await.err();
    }
    assert!(asked > REQUESTS_AT_ONCE, "{asked}");
    assert_eq!(refused.unwrap().code(), Code::RateLimited);
    let other = an_agent(&scene.store, "other").await;
    let own = scene.chat.request(&other, "memory.get", json!({})).await;
    assert!(own.is_ok(), "another agent has a pace of its own");
}
