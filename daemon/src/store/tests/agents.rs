//! Agents, their crashes and operations, each in the schema as it is.

use agentbot_wire::{InstanceId, Operation, OperationId, OperationKind, OperationStatus, Phase, TenantId};
use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;

use crate::store::crashes::{self, Crash};
use crate::store::events::TRIM_BATCH;
use crate::store::idempotency::Began;
use crate::store::instances::{self, Instance, NewInstance};
use crate::store::{Desired, Wish, file, idempotency, migrate, now, operations, slots, summaries};

fn database() -> (tempfile::TempDir, Connection) {
    let dir = tempfile::tempdir().unwrap();
    let conn = file::open(&dir.path().join("agentbot.db"), &migrate::runner(), Default::default(), 3).unwrap().0;
    (dir, conn)
}

fn later(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

fn an_agent(conn: &Connection) -> Instance {
    named(conn, "helper")
}

fn named(conn: &Connection, name: &str) -> Instance {
    let (tenant, at) = (TenantId::local(), now());
    let slot = slots::allocate(conn, &tenant, (20_000, 20_009), 10, at).unwrap();
    let new = NewInstance {
        tenant,
        name: name.parse().unwrap(),
        plan: "small".to_owned(),
        memory: 256 << 20,
        nano_cpus: 500_000_000,
        pids: 128,
        disk: 1 << 30,
        model: "builtin/basic".to_owned(),
        image: None,
        config: "{}".to_owned(),
        token_salt: [0; 16],
    };
    let instance = new.housed(slot, at);
    instances::insert(conn, &instance).unwrap();
    instance
}

fn read(conn: &Connection, agent: &Instance) -> Instance {
    instances::get(conn, &agent.id).unwrap().unwrap()
}

fn a_crash(lines: &str) -> Crash {
    Crash { cause: "exited with code 1".to_owned(), last_lines: lines.to_owned(), next_start_at: later(60) }
}

#[test]
fn a_crash_is_counted_and_pauses_the_next_start() {
    let (_dir, conn) = database();
    let agent = an_agent(&conn);
    assert_eq!(crashes::last_lines(&conn, &agent.id).unwrap(), None);
    for (lines, streak) in [("first", 1), ("second", 2)] {
        crashes::note_exit(&conn, &read(&conn, &agent), lines, Some(&a_crash(lines)), now()).unwrap();
        let seen = read(&conn, &agent);
        assert_eq!((seen.crashes, seen.crash_streak, seen.exit_seen.as_deref()), (streak, streak, Some(lines)));
        assert!(seen.next_start_at.is_some());
        assert_eq!(crashes::last_lines(&conn, &agent.id).unwrap().as_deref(), Some(lines));
    }
}

#[test]
fn a_wish_since_the_look_outlives_the_exit_that_was_seen() {
    let (_dir, conn) = database();
    let seen = an_agent(&conn);
    let start = Wish { desired: Desired::Running, restart: true, rebuild: false, phase: Phase::Starting };
    instances::wish(&conn, &seen, &start, now()).unwrap();
    crashes::note_exit(&conn, &seen, "exit", Some(&a_crash("words")), now()).unwrap();
    let after = read(&conn, &seen);
    assert_eq!((after.crash_streak, after.next_start_at), (0, None), "no pause: somebody asked");
    assert_eq!((after.crashes, after.exit_seen.as_deref()), (1, Some("exit")), "the exit is accounted for");
    assert!(after.restart.is_due(), "the restart was asked for after the look");
}

#[test]
fn a_list_has_the_living_by_name_or_the_deleted_with_the_newest_first() {
    let (_dir, conn) = database();
    let delete = Wish { desired: Desired::Deleted, restart: false, rebuild: false, phase: Phase::Deleting };
    let [scout, helper, old, older] = ["scout", "helper", "old", "older"].map(|name| named(&conn, name));
    instances::wish(&conn, &older, &delete, later(-20)).unwrap();
    instances::wish(&conn, &old, &delete, later(-10)).unwrap();
    let names = |deleted| -> Vec<_> {
        let list = summaries::list(&conn, &TenantId::local(), deleted).unwrap();
        list.into_iter().map(|found| (found.id, found.name, found.deleted_at.is_some())).collect()
    };
    assert_eq!(names(false), [helper, scout].map(|it| (it.id, it.name, false)));
    assert_eq!(names(true), [old, older].map(|it| (it.id, it.name, true)));
    assert!(summaries::list(&conn, &TenantId::from_stored("ten_b"), false).unwrap().is_empty());
}

#[test]
fn a_token_is_its_agents_until_another_takes_its_place_or_the_agent_goes() {
    let (_dir, conn) = database();
    let [one, two] = ["one", "two"].map(|name| named(&conn, name));
    let token = |byte| instances::TokenRow { salt: [byte; 16], hash: [byte; 32] };
    let holder = |byte| instances::token_holder(&conn, &[byte; 32]).unwrap();
    assert_eq!(instances::without_token_hash(&conn).unwrap().len(), 2);
    instances::set_token(&conn, &one.id, &token(1)).unwrap();
    instances::set_token(&conn, &two.id, &token(2)).unwrap();
    assert!(instances::without_token_hash(&conn).unwrap().is_empty());
    assert_eq!((holder(1), holder(2), holder(3)), (Some(one.id.clone()), Some(two.id.clone()), None));
    assert!(instances::token_is_current(&conn, &one.id, &[1; 32]).unwrap());
    assert!(!instances::token_is_current(&conn, &two.id, &[1; 32]).unwrap(), "another agent's");

    instances::set_token(&conn, &one.id, &token(3)).unwrap();
    assert_eq!((holder(1), holder(3)), (None, Some(one.id.clone())), "it was rotated");
    assert_eq!(read(&conn, &one).token_salt, [3; 16]);

    let delete = Wish { desired: Desired::Deleted, restart: false, rebuild: false, phase: Phase::Deleting };
    instances::wish(&conn, &one, &delete, now()).unwrap();
    assert_eq!(holder(3), None, "a deleted agent's token opens nothing");
    instances::revive(&conn, &one.id, &one.name).unwrap();
    let start = Wish { desired: Desired::Running, restart: false, rebuild: false, phase: Phase::Starting };
    instances::wish(&conn, &read(&conn, &one), &start, now()).unwrap();
    assert_eq!((holder(3), instances::token_hash(&conn, &one.id).unwrap()), (None, None), "nor does it afterwards");
}

#[test]
fn an_image_is_kept_with_the_name_it_was_pulled_by() {
    let (_dir, conn) = database();
    let agent = an_agent(&conn);
    slots::set_image(&conn, &agent.slot.id, "sha256:i", Some("my/agent@sha256:d")).unwrap();
    let slot = read(&conn, &agent).slot;
    assert_eq!((slot.image_id.as_deref(), slot.repo_digest.as_deref()), (Some("sha256:i"), Some("my/agent@sha256:d")));
    slots::set_image(&conn, &agent.slot.id, "sha256:j", None).unwrap();
    assert_eq!(read(&conn, &agent).slot.repo_digest, None);
}

fn operation(conn: &Connection, status: OperationStatus, at: Timestamp) -> OperationId {
    let operation = Operation {
        id: OperationId::mint(),
        kind: OperationKind::Start,
        agent: InstanceId::mint(),
        agent_name: "helper".to_owned(),
        status,
        steps: Vec::new(),
        progress: 1.0,
        actor: "operator:0".to_owned(),
        result: None,
        error: None,
        created_at: at,
        updated_at: at,
    };
    operations::insert(conn, &TenantId::local(), &operation).unwrap();
    operation.id
}

#[test]
fn ended_operations_go_after_their_time_and_open_ones_never() {
    let (_dir, conn) = database();
    let old = operation(&conn, OperationStatus::Failed, later(-60));
    let new = operation(&conn, OperationStatus::Succeeded, later(0));
    let open = operation(&conn, OperationStatus::Running, later(-60));
    assert_eq!(operations::trim(&conn, later(-61)).unwrap(), 0);
    assert_eq!(operations::trim(&conn, later(-30)).unwrap(), 1);
    let find = |id| operations::find(&conn, &TenantId::local(), id);
    assert!(find(&old).is_err() && find(&new).is_ok() && find(&open).is_ok());
}

#[test]
fn an_operation_that_a_key_names_stays_until_the_key_goes() {
    let (_dir, conn) = database();
    let tenant = TenantId::local();
    let named = operation(&conn, OperationStatus::Succeeded, later(-60));
    idempotency::insert(&conn, &tenant, "operator:0", "k", &[1], &Began::Operation(named.clone())).unwrap();
    assert_eq!(operations::trim(&conn, later(0)).unwrap(), 0);
    idempotency::trim(&conn, later(60)).unwrap();
    assert_eq!(operations::trim(&conn, later(0)).unwrap(), 1);
}

#[test]
fn ended_operations_go_a_batch_at_a_time_by_an_index() {
    let (_dir, mut conn) = database();
    let insert = conn.transaction().unwrap();
    for _ in 0..=TRIM_BATCH {
        operation(&insert, OperationStatus::Succeeded, later(-60));
    }
    insert.commit().unwrap();
    assert_eq!(operations::trim(&conn, later(0)).unwrap(), TRIM_BATCH);
    assert_eq!(operations::trim(&conn, later(0)).unwrap(), 1);
    let plan: String = conn
        .query_row("EXPLAIN QUERY PLAN SELECT id FROM operations WHERE ended_at < 5 ORDER BY ended_at", [], |row| {
            row.get(3)
        })
        .unwrap();
    assert!(plan.contains("operations_by_end"), "{plan}");
}
