//! What is asked, and in which order it is answered.

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
