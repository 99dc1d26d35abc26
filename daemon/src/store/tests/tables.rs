//! Meta, events and idempotency keys, each in the schema as it is.

use agentbot_wire::{InstanceId, OperationId, TenantId};
use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;
use serde_json::json;

use crate::store::events::{self, NewEvent, TRIM_BATCH};
use crate::store::idempotency::Began;
use crate::store::{file, idempotency, meta, migrate, unique_violation};

fn database() -> (tempfile::TempDir, Connection) {
    let dir = tempfile::tempdir().unwrap();
    let conn = file::open(&dir.path().join("agentbot.db"), &migrate::runner(), Default::default(), 3).unwrap().0;
    (dir, conn)
}

fn event() -> NewEvent {
    NewEvent {
        kind: "instance.created".to_owned(),
        tenant: TenantId::local(),
        instance: Some(InstanceId::mint()),
        operation: None,
        actor: Some("operator:0".to_owned()),
        payload: json!({"name": "a"}),
    }
}

fn later(seconds: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(seconds)
}

#[test]
fn a_value_is_set_and_set_again() {
    let (_dir, conn) = database();
    assert_eq!(meta::get(&conn, "a").unwrap(), None);
    meta::set(&conn, "a", "1").unwrap();
    meta::set(&conn, "a", "2").unwrap();
    assert_eq!(meta::get(&conn, "a").unwrap().as_deref(), Some("2"));
}

#[test]
fn each_daemon_has_its_own_id() {
    let ((_one, one), (_two, two)) = (database(), database());
    assert_ne!(meta::daemon_id(&one).unwrap(), meta::daemon_id(&two).unwrap());
    meta::set(&one, "daemon_id", "not one").unwrap();
    assert!(meta::daemon_id(&one).is_err());
}

#[test]
fn events_read_back_as_stored_in_order_and_in_pages() {
    let (_dir, conn) = database();
    let stored: Vec<_> = (0..5).map(|_| events::append(&conn, &event()).unwrap()).collect();
    assert_eq!(events::since(&conn, 0, 10).unwrap(), stored);
    assert_eq!(events::since(&conn, stored[1].seq, 2).unwrap(), stored[2..4]);
    assert!(events::since(&conn, stored[4].seq, 10).unwrap().is_empty());
    assert!(events::since(&conn, 0, 0).unwrap().is_empty());
}

#[test]
fn trimming_takes_the_oldest_a_batch_at_a_time_and_no_number_comes_again() {
    let (_dir, mut conn) = database();
    let insert = conn.transaction().unwrap();
    let mut last = 0;
    for _ in 0..=TRIM_BATCH {
        last = events::append(&insert, &event()).unwrap().seq;
    }
    insert.commit().unwrap();
    assert_eq!(events::trim(&conn, later(-60)).unwrap(), 0);
    assert_eq!(events::trim(&conn, later(60)).unwrap(), TRIM_BATCH);
    assert_eq!(events::since(&conn, 0, 10).unwrap()[0].seq, last);
    assert_eq!(events::trim(&conn, later(60)).unwrap(), 1);
    assert_eq!(events::append(&conn, &event()).unwrap().seq, last + 1);
}

#[test]
fn only_events_before_the_time_go() {
    let (_dir, conn) = database();
    let (old, new) = (events::append(&conn, &event()).unwrap(), events::append(&conn, &event()).unwrap());
    conn.execute("UPDATE events SET at = at - 10000 WHERE seq = ?1", [old.seq]).unwrap();
    assert_eq!(events::trim(&conn, new.at).unwrap(), 1);
    assert_eq!(events::since(&conn, 0, 10).unwrap(), [new]);
}

#[test]
fn a_damaged_event_says_what_is_wrong() {
    let (_dir, conn) = database();
    events::append(&conn, &event()).unwrap();
    conn.execute("UPDATE events SET payload = '{'", []).unwrap();
    assert!(events::since(&conn, 0, 1).unwrap_err().message().contains("payload"));
}

#[test]
fn a_key_belongs_to_one_actor_and_to_what_it_began() {
    let (_dir, conn) = database();
    let (tenant, operation) = (TenantId::local(), Began::Operation(OperationId::mint()));
    idempotency::insert(&conn, &tenant, "operator:0", "k", &[1, 2], &operation).unwrap();
    let seen = idempotency::find(&conn, &tenant, "operator:0", "k").unwrap().unwrap();
    assert_eq!((seen.request_hash.as_slice(), &seen.began), ([1, 2].as_slice(), &operation));
    assert_eq!(idempotency::find(&conn, &tenant, "operator:1", "k").unwrap(), None);
    assert_eq!(idempotency::find(&conn, &TenantId::from_stored("ten_b"), "operator:0", "k").unwrap(), None);
    assert!(idempotency::insert(&conn, &tenant, "operator:0", "k", &[3], &operation).is_err());
    idempotency::insert(&conn, &tenant, "operator:1", "k", &[4], &Began::Rotation).unwrap();
    let seen = idempotency::find(&conn, &tenant, "operator:1", "k").unwrap().unwrap();
    assert_eq!((seen.request_hash.as_slice(), seen.began), ([4].as_slice(), Began::Rotation));
}

#[test]
fn a_key_is_forgotten_after_its_time() {
    let (_dir, conn) = database();
    let tenant = TenantId::local();
    idempotency::insert(&conn, &tenant, "system", "k", &[1], &Began::Operation(OperationId::mint())).unwrap();
    assert_eq!(idempotency::trim(&conn, later(-60)).unwrap(), 0);
    assert_eq!(idempotency::trim(&conn, later(60)).unwrap(), 1);
    assert_eq!(idempotency::find(&conn, &tenant, "system", "k").unwrap(), None);
}

#[test]
fn a_taken_name_is_told_from_a_taken_slot() {
    let (_dir, conn) = database();
    conn.execute_batch(
        "INSERT INTO slots (id, tenant_id, uid, created_at) VALUES ('s1', 't', 1, 0), ('s2', 't', 2, 0);",
    )
    .unwrap();
    let add = |id: &str, name: &str, slot: &str| {
        conn.execute(
            "INSERT INTO instances (id, tenant_id, name, slot, plan, memory, nano_cpus, pids, disk, model, token_salt,
             desired, phase, phase_since, created_at, updated_at)
             VALUES (?1, 't', ?2, ?3, 'small', 1, 1, 1, 1, 'm', x'00', 'running', 'provisioning', 0, 0, 0)",
            [id, name, slot],
        )
    };
    add("i1", "a", "s1").unwrap();
    let name = add("i2", "a", "s2").unwrap_err();
    assert_eq!(unique_violation(&name), Some("instances.tenant_id, instances.name"));
    let slot = add("i3", "b", "s1").unwrap_err();
    assert_eq!(unique_violation(&slot), Some("instances.slot"));
    let dangling = add("i4", "c", "s9").unwrap_err();
    assert_eq!(unique_violation(&dangling), None);
}
