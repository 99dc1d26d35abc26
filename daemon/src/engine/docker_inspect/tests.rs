use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::harden::{drift, harden};
use super::super::sample;
use super::*;

fn recorded() -> Value {
    let mut reply: Value = serde_json::from_str(include_str!("../samples/inspect.json")).unwrap();
    reply["HostConfig"]["SecurityOpt"][1] = format!("seccomp={}", *super::super::seccomp::SECCOMP).into();
    reply
}

fn read(reply: Value) -> Observed {
    observed(serde_json::from_value(reply).unwrap(), "runc").unwrap()
}

fn spec_of_record() -> super::super::ContainerSpec {
    let reply = recorded();
    super::super::ContainerSpec {
        image_id: reply["Image"].as_str().unwrap().to_owned(),
        workspace: "/srv/sample/work".into(),
        run_dir: "/srv/sample/run".into(),
        ..sample::spec()
    }
}

#[test]
fn a_container_recorded_from_docker_20_10_agrees_with_what_was_asked_for() {
    let got = read(recorded());
    let wanted = harden(&spec_of_record(), &sample::facts());
    assert_eq!(drift(&wanted, &got.hardening, &sample::facts()), []);
    assert_eq!(got.risky, Vec::<String>::new());
    assert_eq!((got.name.as_str(), got.state, got.exit), ("sample", RunState::Running, None));
    assert_eq!(got.labels, Some(sample::labels()));
    assert!(got.pid.is_some() && got.started_at.is_some());
}

#[test]
fn on_cgroup_v2_the_engine_leaves_out_what_does_not_exist_there() {
    let mut reply = recorded();
    reply["HostConfig"]["OomKillDisable"] = Value::Null;
    reply["HostConfig"]["MemorySwappiness"] = Value::Null;
    reply["HostConfig"]["CgroupParent"] = "agentbot.slice".into();
    let facts = super::super::Facts {
        cgroup_version: 2,
        cgroup_driver: super::super::CgroupDriver::Systemd,
        ..sample::facts()
    };
    assert_eq!(drift(&harden(&spec_of_record(), &facts), &read(reply).hardening, &facts), []);
}

#[test]
fn power_given_beside_the_compared_fields_is_named() {
    let cases: [(&[&str], Value, &str); 11] = [
        (&["HostConfig", "Runtime"], json!("other"), "Runtime: other"),
        (&["HostConfig", "MaskedPaths"], json!([]), "MaskedPaths: none"),
        (&["HostConfig", "ReadonlyPaths"], json!([]), "ReadonlyPaths: none"),
        (&["HostConfig", "VolumeDriver"], json!("x"), "VolumeDriver: x"),
        (&["HostConfig", "Cgroup"], json!("container:x"), "Cgroup: container:x"),
        (&["HostConfig", "StorageOpt"], json!({"size": "1"}), "StorageOpt: size"),
        (&["HostConfig", "Annotations"], json!({"a": "b"}), "Annotations: a"),
        (&["HostConfig", "CpuRealtimeRuntime"], json!(5), "CpuRealtimeRuntime: 5"),
        (&["AppArmorProfile"], json!("unconfined"), "AppArmorProfile: unconfined"),
        (&["NetworkSettings", "Networks"], json!({"none": {}, "bridge": {}}), "Networks: bridge"),
        (&["Mounts"], json!([{"Type": "volume", "Source": "/v", "Destination": "/data", "RW": true}]), "Mounts: /data"),
    ];
    for (path, value, expected) in cases {
        let mut reply = recorded();
        let mut at = &mut reply;
        for key in path {
            at = &mut at[*key];
        }
        *at = value;
        assert_eq!(read(reply).risky, [expected]);
    }
}

#[test]
fn a_read_only_mount_that_is_writable_in_truth_is_named() {
    let mut reply = recorded();
    for point in reply["Mounts"].as_array_mut().unwrap() {
        point["RW"] = true.into();
    }
    assert_eq!(read(reply).risky, ["Mounts: /run/agentbot"]);
}

fn exit_of(state: &Value) -> Option<Exit> {
    read(json!({"Id": "1", "State": state})).exit
}

#[test]
fn how_it_ended_is_told_only_when_it_has_ended() {
    let never = "0001-01-01T00:00:00Z";
    let once = "2026-01-01T00:00:00Z";
    assert_eq!(exit_of(&json!({"Status": "created", "ExitCode": 0, "FinishedAt": never})), None);
    assert_eq!(exit_of(&json!({"Status": "running", "ExitCode": 0, "FinishedAt": once})), None);
    let killed = exit_of(&json!({"Status": "exited", "ExitCode": 137, "OOMKilled": true, "FinishedAt": once}));
    assert!(killed.is_some_and(|exit| exit.code == 137 && exit.oom_killed && exit.finished_at.is_some()));
    let failed = exit_of(&json!({"Status": "created", "ExitCode": 127, "Error": "no\nsuch", "FinishedAt": never}));
    assert_eq!(failed.and_then(|exit| exit.error).as_deref(), Some("no such"));
}

#[test]
fn a_container_without_an_id_is_nonsense() {
    let error = observed(ContainerInspectResponse::default(), "runc").unwrap_err();
    assert_eq!(error.code(), Code::EngineRefused);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[A-Za-z]{1,10}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn places(value: &Value, at: &str, into: &mut Vec<String>) {
    if let Value::Object(map) = value {
        for (key, value) in map {
            let here = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
            places(value, &here, into);
            into.push(here);
        }
    }
}

proptest! {
    #[test]
    fn whatever_stands_in_any_field_nothing_panics(junk in any_json(), pick in any::<prop::sample::Index>()) {
        let mut reply = recorded();
        let mut all = Vec::new();
        places(&reply, "", &mut all);
        *reply.pointer_mut(pick.get(all.as_slice()).as_str()).unwrap() = junk.clone();
        if let Ok(reply) = serde_json::from_value::<ContainerInspectResponse>(reply)
            && let Ok(got) = observed(reply, "runc") {
            let _ = drift(&harden(&sample::spec(), &sample::facts()), &got.hardening, &sample::facts());
        }
        if let Ok(summary) = serde_json::from_value(junk.clone()) {
            let _ = super::super::docker_map::listed(summary);
        }
        if let Ok(event) = serde_json::from_value(junk) {
            let _ = super::super::docker_map::event(event);
        }
    }
}
