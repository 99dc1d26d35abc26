//! Why a connection ends, and how soon.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_the_protocol_has_no_use_for_closes_with_its_code() {
    for (inbound, code) in [
        (Inbound::Unfit(1009, "too long"), 1009),
        (Inbound::Text("[]".to_owned().into()), CLOSE_SHAPE),
        (Inbound::Text(Frame::event("x", Value::Null).to_text().into()), CLOSE_SHAPE),
        (Inbound::Text(Frame::answer("1", Value::Null).to_text().into()), CLOSE_SHAPE),
    ] {
        let scene = scene().connected().await;
        scene.say(inbound).await;
        let counts = Arc::clone(&scene.counts);
        assert_eq!(scene.closed().await.0, code);
        assert_eq!(counts.unfit.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replaced_credential_closes_at_once_and_no_frame_is_taken_after_it() {
    let scene = scene().connected().await;
    scene.core.permits.add_permits(9);
    // What came before the revocation and what comes after it wait side by side.
    scene.leases.revoke(&HASH);
    for _ in 0..5 {
        scene.request("1", "chat.send", json!({"text": "x"})).await;
    }
    let (core, counts) = (Arc::clone(&scene.core), Arc::clone(&scene.counts));
    let (code, after) = scene.closed().await;
    assert_eq!((code, after), (CLOSE_REVOKED, Duration::ZERO));
    assert_eq!(core.asked.load(Ordering::Relaxed), 0);
    assert_eq!(counts.revoked.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_closed_also_by_a_replaced_credential() {
    // There is room for the answer to connect, and for nothing more.
    let mut scene = scene_with(1).connected().await;
    for number in 0..9 {
        scene.events.send(Ok(event(number))).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    scene.leases.revoke(&HASH);
    scene.session.join_next().await.unwrap().unwrap();
    assert!(begun.elapsed() <= 2 * CLOSE_TIMEOUT, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_too_slow() {
    let mut scene = scene_with(1).connected().await;
    for number in 0..9 {
        scene.events.send(Ok(event(number))).await.unwrap();
    }
    let begun = Instant::now();
    scene.session.join_next().await.unwrap().unwrap();
    assert!(begun.elapsed() >= SEND_TIMEOUT && begun.elapsed() <= SEND_TIMEOUT + 2 * CLOSE_TIMEOUT);
    assert_eq!(scene.counts.slow.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_no_ping_is_closed_after_the_third() {
    let mute = scene().connected().await;
    let (code, after) = mute.closed().await;
    assert_eq!((code, after.as_secs()), (CLOSE_IDLE, 4 * 30));

    let mut alive = scene().connected().await;
    for _ in 0..20 {
        assert_eq!(alive.next().await, Outbound::Ping);
        alive.say(Inbound::Life).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_closed_and_counted() {
    let mut scene = scene().connected().await;
    scene.core.permits.add_permits(10_000);
    for _ in 0..FRAMES.burst {
        scene.request("1", "chat.send", json!({"text": "x"})).await;
        assert!(matches!(scene.frame().await, Frame::Res { .. }), "within the burst each is answered");
    }
    scene.say(Inbound::Life).await;
    let counts = Arc::clone(&scene.counts);
    assert_eq!(scene.closed().await.0, CLOSE_FLOOD);
    assert_eq!(counts.flood.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_ends_its_session() {
    let mut scene = scene().connected().await;
    scene.say = None;
    scene.session.join_next().await.unwrap().unwrap();
    assert_eq!(scene.counts.drops().iter().map(|(_, count)| count).sum::<u64>(), 0);
}
