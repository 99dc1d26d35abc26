//! The first frame.

use super::*;

#[tokio::test(start_paused = true)]
async fn connect_is_answered_with_who_one_is_and_the_rules() {
    let mut scene = scene();
    scene.request("c", "connect", json!({"version": 99, "client": "test/1"})).await;
    let Frame::Res { id, ok: true, payload: Some(payload), .. } = scene.frame().await else { panic!() };
    let said: Connected = serde_json::from_value(payload).unwrap();
    assert_eq!((id.as_str(), said.version, said.policy.max_frame), ("c", PROTOCOL_VERSION, MAX_FRAME));
    assert_eq!(said.actor, format!("gateway:{}", said.agent.unwrap()));
    assert_eq!(said.policy.beat_ms, 30_000);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_connect_in_time_is_closed() {
    let silent = scene();
    silent.say(Inbound::Life).await;
    let (code, after) = silent.closed().await;
    assert_eq!((code, after.as_secs()), (CLOSE_IDLE, 10));
}

#[tokio::test(start_paused = true)]
async fn a_first_frame_that_is_no_connect_is_answered_and_closed() {
    let mut wrong = scene();
    wrong.request("1", "chat.send", json!({"text": "hi"})).await;
    assert!(matches!(wrong.frame().await, Frame::Res { ok: false, .. }));
    assert_eq!(wrong.closed().await.0, CLOSE_PROTOCOL);

    let noise = scene();
    noise.say(Inbound::Text("noise".to_owned().into())).await;
    assert_eq!(noise.closed().await.0, CLOSE_SHAPE);
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_is_replaced_before_connect_closes_too() {
    let scene = scene();
    tokio::task::yield_now().await;
    scene.leases.revoke(&HASH);
    assert_eq!(scene.closed().await.0, CLOSE_REVOKED);
}
