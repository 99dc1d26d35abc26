//! What is said last, and what a client that comes back has missed.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_client_that_lags_is_told_its_cursors() {
    let mut scene = scene().connected().await;
    let conversation = ConversationId::mint();
    scene.request("s", "chat.subscribe", json!({"conversation": conversation, "after_seq": 4})).await;
    scene.frame().await;
    scene.events.send(Ok(event(1))).await.unwrap();
    scene.events.send(Err(Lagged)).await.unwrap();
    assert!(matches!(scene.frame().await, Frame::Event { event, .. } if event == "chat.delta"));
    let Frame::Event { event, payload, .. } = scene.frame().await else { panic!() };
    assert_eq!((event.as_str(), payload["cursors"][conversation.as_str()].as_u64()), ("bye", Some(4)));
    assert_eq!(scene.closed().await.0, CLOSE_SLOW);
}

#[tokio::test(start_paused = true)]
async fn the_daemons_end_is_said_after_the_answer_that_is_under_way() {
    let mut scene = scene().connected().await;
    scene.request("1", "chat.send", json!({"text": "x"})).await;
    while scene.core.asked.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    scene.stop.cancel();
    tokio::task::yield_now().await;
    scene.core.permits.add_permits(1);
    assert!(matches!(scene.frame().await, Frame::Res { ok: true, .. }), "what was stored is acknowledged");
    assert!(matches!(scene.frame().await, Frame::Event { event, .. } if event == "bye"));
    assert_eq!(scene.closed().await.0, CLOSE_GOING);
}

/// Reads to the end: the messages that came, and the places that `bye` gave.
async fn to_the_end(scene: &mut Scene) -> (Vec<u64>, BTreeMap<ConversationId, u64>, u16) {
    let (mut seen, mut places) = (Vec::new(), None);
    loop {
        match scene.next().await {
            Outbound::Close(code, why) => return (seen, places.unwrap_or_else(|| panic!("no bye: {why}")), code),
            Outbound::Ping => {}
            Outbound::Text(text) => match Frame::parse(&text).unwrap() {
                Frame::Event { event, payload, .. } if event == "bye" => {
                    places = Some(serde_json::from_value::<agentbot_wire::Bye>(payload).unwrap().cursors);
                }
                Frame::Event { payload, .. } => seen.push(payload["seq"].as_u64().unwrap()),
                other => panic!("{other:?}"),
            },
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_and_is_closed_misses_nothing_and_sees_nothing_twice() {
    const STORED: u64 = 200;
    let conversation = ConversationId::mint();
    for (reads_late, wanted) in [(false, CLOSE_GOING), (true, CLOSE_SLOW)] {
        let (mut after, mut seen) = (0, Vec::new());
        let mut rounds = 0;
        while after < STORED {
            rounds += 1;
            let mut scene = scene_with(8).connected().await;
            scene.request("s", "chat.subscribe", json!({"conversation": conversation, "after_seq": after})).await;
            assert!(matches!(scene.frame().await, Frame::Res { ok: true, .. }));
            for seq in after + 1..=STORED {
                scene.events.send(Ok(message(&conversation, seq))).await.unwrap();
            }
            let pause = if reads_late { SEND_TIMEOUT + Duration::from_millis(1) } else { Duration::from_secs(1) };
            tokio::time::sleep(pause).await;
            scene.stop.cancel();
            tokio::task::yield_now().await;
            let (came, places, code) = to_the_end(&mut scene).await;
            assert!(came.len() < 64, "a batch was cut short: {}", came.len());
            seen.extend(came);
            after = places[&conversation];
            assert!(code == wanted || after == STORED, "{code}");
        }
        assert!(rounds > 3);
        assert_eq!(seen, (1..=STORED).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_heard_nothing_comes_back_to_where_it_was() {
    let conversation = ConversationId::mint();
    let mut scene = scene_with(1).connected().await;
    scene.request("s", "chat.subscribe", json!({"conversation": conversation, "after_seq": 4})).await;
    scene.frame().await;
    scene.stop.cancel();
    let (seen, places, _) = to_the_end(&mut scene).await;
    assert_eq!((seen, places), (Vec::new(), BTreeMap::from([(conversation, 4)])));
}
