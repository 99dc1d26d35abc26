//! What is asked, and in which order it is answered.

use agentbot_wire::MAX_MESSAGE;

use super::*;

#[tokio::test(start_paused = true)]
async fn requests_are_carried_out_one_after_another_and_events_go_past_them() {
    let mut scene = scene().connected().await;
    for id in ["1", "2", "3"] {
        scene.request(id, "chat.send", json!({"text": id})).await;
    }
    scene.events.send(Ok(event(1))).await.unwrap();
    assert!(matches!(scene.frame().await, Frame::Event { .. }), "a slow request holds no event up");
    assert_eq!(scene.core.asked.load(Ordering::Relaxed), 1, "the others wait for their turn");
    scene.core.permits.add_permits(3);
    for wanted in ["1", "2", "3"] {
        let Frame::Res { id, ok: true, payload, .. } = scene.frame().await else { panic!() };
        assert_eq!((id.as_str(), payload), (wanted, Some(json!(wanted))));
    }
}

#[tokio::test(start_paused = true)]
async fn so_many_requests_wait_and_one_more_is_told_that_it_is_busy() {
    let mut scene = scene().connected().await;
    // One is at work, the others wait.
    for number in 0..=MAX_REQUESTS {
        scene.request(&number.to_string(), "chat.send", json!({"text": "x"})).await;
    }
    tokio::task::yield_now().await;
    scene.request("extra", "chat.send", json!({"text": "x"})).await;
    let Frame::Res { id, ok: false, error: Some(error), .. } = scene.frame().await else { panic!() };
    assert_eq!((id.as_str(), error.code), ("extra", Code::Busy));
    scene.core.permits.add_permits(MAX_REQUESTS + 1);
    for _ in 0..=MAX_REQUESTS {
        assert!(matches!(scene.frame().await, Frame::Res { ok: true, .. }));
    }
    assert_eq!(scene.counts.busy.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn messages_of_one_token_are_counted_over_all_its_sockets() {
    let quotas = Quotas::new(&Http { token_messages: 4, ..Http::default() });
    let mut scenes = [scene_of(64, &quotas).connected().await, scene_of(64, &quotas).connected().await];
    for scene in &mut scenes {
        scene.core.permits.add_permits(9);
        let turn = agentbot_wire::TurnId::mint();
        scene.request("1", "chat.send", json!({"text": "x"})).await;
        scene.request("2", "chat.retry", json!({"turn": turn})).await;
        assert!(matches!(scene.frame().await, Frame::Res { ok: true, .. }));
        assert!(matches!(scene.frame().await, Frame::Res { error: Some(error), .. } if error.code == Code::NotFound));
    }
    for scene in &mut scenes {
        scene.request("3", "chat.send", json!({"text": "x"})).await;
        let Frame::Res { error: Some(error), .. } = scene.frame().await else { panic!() };
        assert_eq!((error.code, error.hint.as_deref()), (Code::RateLimited, Some("send it again in 60 s")));
        scene.request("4", "chat.abort", json!({"turn": agentbot_wire::TurnId::mint()})).await;
        assert!(matches!(scene.frame().await, Frame::Res { error: Some(error), .. } if error.code == Code::NotFound));
        assert_eq!(scene.counts.hasty.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_long_is_refused_before_it_waits() {
    let mut scene = scene().connected().await;
    // Nothing is carried out here: whatever waited would not be answered.
    scene.request("1", "chat.send", json!({"text": "x"})).await;
    for (text, topic) in [("x".repeat(MAX_MESSAGE + 1), "t".to_owned()), ("x".to_owned(), "t".repeat(MAX_MESSAGE))] {
        scene.request("2", "chat.send", json!({"text": text, "topic": topic})).await;
        assert!(matches!(scene.frame().await, Frame::Res { id, ok: false, .. } if id == "2"));
    }
    scene.core.permits.add_permits(1);
    assert!(matches!(scene.frame().await, Frame::Res { id, ok: true, .. } if id == "1"));
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_have_so_many_bytes_and_one_more_is_told_that_it_is_busy() {
    let mut scene = scene().connected().await;
    let text = "x".repeat(MAX_MESSAGE);
    // One is at work, three wait: a fourth does not fit beside them.
    for number in 0..5 {
        scene.request(&number.to_string(), "chat.send", json!({"text": text})).await;
        tokio::task::yield_now().await;
    }
    let Frame::Res { id, error: Some(error), .. } = scene.frame().await else { panic!() };
    assert_eq!((id.as_str(), error.code), ("4", Code::Busy));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_request_is_answered_and_the_connection_stays() {
    let mut scene = scene().connected().await;
    scene.core.permits.add_permits(9);
    for (method, params, code) in [
        ("chat.fly", json!({}), Code::Unsupported),
        ("chat.send", json!({"text": 7}), Code::Invalid),
        ("connect", json!({}), Code::Invalid),
        ("chat.abort", json!({"turn": agentbot_wire::TurnId::mint()}), Code::NotFound),
    ] {
        scene.request("1", method, params).await;
        let Frame::Res { ok: false, error: Some(error), .. } = scene.frame().await else { panic!() };
        assert_eq!(error.code, code, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_a_subscription_comes_before_its_events() {
    let mut scene = scene().connected().await;
    let conversation = ConversationId::mint();
    scene.request("s", "chat.subscribe", json!({"conversation": conversation, "after_seq": 3})).await;
    let Frame::Res { ok: true, payload: Some(payload), .. } = scene.frame().await else { panic!() };
    assert_eq!(payload["cursors"][conversation.as_str()], 3);
    scene.events.send(Ok(event(1))).await.unwrap();
    assert!(matches!(scene.frame().await, Frame::Event { .. }));
}

#[test]
fn an_answer_that_fits_no_frame_is_an_error() {
    let said = |length: usize| match answer("1", Ok(json!("x".repeat(length)))) {
        Outbound::Text(text) => Frame::parse(&text).unwrap(),
        other => panic!("{other:?}"),
    };
    let room = MAX_FRAME - answer_length(0);
    assert!(matches!(said(room), Frame::Res { ok: true, .. }));
    let Frame::Res { ok: false, error: Some(error), .. } = said(room + 1) else { panic!() };
    assert_eq!(error.code, Code::TooLarge);
}

fn answer_length(length: usize) -> usize {
    Frame::answer("1", json!("x".repeat(length))).to_text().len()
}

#[tokio::test(start_paused = true)]
async fn what_the_sockets_of_one_token_send_too_much_together_is_put_off() {
    let quotas = Quotas::new(&Http::default());
    let mut scene = scene_of(64, &quotas).connected().await;
    scene.core.permits.add_permits(9);
    // Other sockets of the same token.
    let others = Quota::of(&quotas, HASH);
    let sent = (0..9_999).take_while(|_| others.frame()).count();
    assert!(sent > 900, "{sent}");
    scene.request("1", "chat.send", json!({"text": "x"})).await;
    let Frame::Res { error: Some(error), .. } = scene.frame().await else { panic!() };
    assert_eq!(error.code, Code::RateLimited);
    // A pong is nobody's fault, and the socket stays open.
    scene.say(Inbound::Life).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    scene.request("2", "chat.send", json!({"text": "x"})).await;
    assert!(matches!(scene.frame().await, Frame::Res { ok: true, .. }));
}
