//! What the engine's inspection says of a container, in our words. Pure.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;

use agentbot_wire::Code;
use bollard::models::{
    ContainerConfig, ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, HostConfig,
    Mount as ModelMount, MountPoint, RestartPolicy,
};
use jiff::Timestamp;
use serde::Serialize;

use super::docker_error::printable;
use super::docker_map::owner_labels;
use super::harden::{Hardening, Mount};
use super::{Exit, Observed, RunState};
use crate::error::{Error, Result};

const OUR_LABELS: &str = "io.agentbot.";

/// Reads an inspection. `default_runtime` is what the engine uses when a container names none.
///
/// # Errors
/// `engine_refused` when it has no id: then it says nothing about anything.
pub fn observed(reply: ContainerInspectResponse, default_runtime: &str) -> Result<Observed> {
    let risky = risky(&reply, default_runtime);
    let id = reply.id.filter(|id| !id.is_empty()).ok_or_else(|| {
        Error::new(Code::EngineRefused, "the engine answered nonsense: a container without an id")
            .hint("is it a Docker Engine that listens on `[engine] socket`?")
    })?;
    let config = reply.config.unwrap_or_default();
    let state = reply.state.unwrap_or_default();
    let run_state = run_state(&state);
    Ok(Observed {
        id,
        name: reply.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        labels: config.labels.as_ref().and_then(owner_labels),
        state: run_state,
        pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0),
        started_at: time(state.started_at.as_deref()),
        exit: exit(&state, run_state),
        hardening: hardening(reply.image.unwrap_or_default(), config, reply.host_config.unwrap_or_default()),
        risky,
    })
}

fn run_state(state: &ContainerState) -> RunState {
    match state.status {
        Some(ContainerStateStatusEnum::CREATED) => RunState::Created,
        Some(ContainerStateStatusEnum::RUNNING) => RunState::Running,
        Some(ContainerStateStatusEnum::PAUSED) => RunState::Paused,
        Some(ContainerStateStatusEnum::EXITED) => RunState::Exited,
        _ => RunState::Other,
    }
}

/// While it runs again, the engine has forgotten how it ended before; after a start that failed, it is still `created`
/// and has a code and an error.
fn exit(state: &ContainerState, run_state: RunState) -> Option<Exit> {
    let code = state.exit_code.unwrap_or_default();
    let finished_at = time(state.finished_at.as_deref());
    let error = state.error.as_deref().map(printable).filter(|error| !error.is_empty());
    let ended = finished_at.is_some() || code != 0 || error.is_some();
    (ended && !matches!(run_state, RunState::Running | RunState::Paused)).then(|| Exit {
        code,
        oom_killed: state.oom_killed == Some(true),
        finished_at,
        error,
    })
}

/// The engine writes the year 1 for "never".
fn time(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok().filter(|time: &Timestamp| time.as_second() > 0)
}

fn hardening(image_id: String, config: ContainerConfig, host: HostConfig) -> Hardening {
    let log = host.log_config.unwrap_or_default();
    Hardening {
        image_id,
        user: text(config.user),
        working_dir: text(config.working_dir),
        entrypoint: Some(list(config.entrypoint)),
        command: Some(list(config.cmd)),
        hostname: text(config.hostname),
        domainname: text(config.domainname),
        env: list(config.env),
        healthcheck: list(config.healthcheck.and_then(|check| check.test)),
        stop_signal: text(config.stop_signal),
        stop_timeout: number(config.stop_timeout),
        tty: flag(config.tty),
        open_stdin: flag(config.open_stdin),
        attach_stdin: flag(config.attach_stdin),
        labels: map(config.labels).into_iter().filter(|(name, _)| name.starts_with(OUR_LABELS)).collect(),
        volumes: list(config.volumes),
        privileged: flag(host.privileged),
        cap_add: list(host.cap_add),
        cap_drop: list(host.cap_drop),
        security_opt: list(host.security_opt),
        readonly_rootfs: flag(host.readonly_rootfs),
        tmpfs: map(host.tmpfs),
        mounts: list(host.mounts).into_iter().map(mount).collect(),
        pids: number(host.pids_limit).max(0),
        memory: number(host.memory),
        memory_swap: number(host.memory_swap),
        oom_kill_disable: flag(host.oom_kill_disable),
        oom_score_adj: number(host.oom_score_adj),
        nano_cpus: number(host.nano_cpus),
        cpu_shares: number(host.cpu_shares),
        shm_size: number(host.shm_size),
        ulimits: list(host.ulimits)
            .into_iter()
            .map(|limit| (text(limit.name), (number(limit.soft), number(limit.hard))))
            .collect(),
        network_mode: text(host.network_mode),
        ipc_mode: text(host.ipc_mode),
        pid_mode: text(host.pid_mode),
        uts_mode: text(host.uts_mode),
        userns_mode: text(host.userns_mode),
        cgroupns_mode: word(host.cgroupns_mode),
        cgroup_parent: text(host.cgroup_parent),
        init: flag(host.init),
        auto_remove: flag(host.auto_remove),
        restart_policy: restart_policy(host.restart_policy),
        log_driver: text(log.typ),
        log_options: map(log.config),
        binds: list(host.binds),
        devices: texts(host.devices),
        device_requests: texts(host.device_requests),
        device_cgroup_rules: list(host.device_cgroup_rules),
        volumes_from: list(host.volumes_from),
        group_add: list(host.group_add),
        extra_hosts: list(host.extra_hosts),
        sysctls: map(host.sysctls),
        port_bindings: list(host.port_bindings.map(|ports| ports.into_keys().collect())),
        publish_all_ports: flag(host.publish_all_ports),
        links: list(host.links),
    }
}

fn mount(mount: ModelMount) -> Mount {
    Mount {
        target: text(mount.target),
        source: text(mount.source),
        kind: word(mount.typ),
        read_only: flag(mount.read_only),
        propagation: word(mount.bind_options.and_then(|options| options.propagation)),
    }
}

fn restart_policy(policy: Option<RestartPolicy>) -> String {
    let policy = policy.unwrap_or_default();
    let name = word(policy.name);
    match policy.maximum_retry_count {
        None | Some(0) => name,
        Some(times) => format!("{name}:{times}"),
    }
}

/// What gives power beside the fields that are compared: each must be empty, or the engine's own default.
fn risky(reply: &ContainerInspectResponse, default_runtime: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut note = |field: &str, value: &dyn Display| found.push(format!("{field}: {}", printable(&value.to_string())));
    let empty = HostConfig::default();
    let host = reply.host_config.as_ref().unwrap_or(&empty);
    let named = [("VolumeDriver", &host.volume_driver), ("Cgroup", &host.cgroup)];
    for (field, value) in named.into_iter().filter_map(|(field, value)| Some((field, value.as_ref()?))) {
        if !value.is_empty() {
            note(field, value);
        }
    }
    if let Some(runtime) = host.runtime.as_deref().filter(|runtime| !runtime.is_empty() && *runtime != default_runtime)
    {
        note("Runtime", &runtime);
    }
    for (field, paths) in [("MaskedPaths", &host.masked_paths), ("ReadonlyPaths", &host.readonly_paths)] {
        if paths.as_ref().is_some_and(Vec::is_empty) {
            note(field, &"none");
        }
    }
    for (field, map) in [("StorageOpt", &host.storage_opt), ("Annotations", &host.annotations)] {
        for key in map.iter().flatten().map(|(key, _)| key) {
            note(field, key);
        }
    }
    if host.cpu_realtime_runtime.is_some_and(|runtime| runtime != 0) {
        note("CpuRealtimeRuntime", &number(host.cpu_realtime_runtime));
    }
    if reply.app_armor_profile.as_deref() == Some("unconfined") {
        note("AppArmorProfile", &"unconfined");
    }
    let networks = reply.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    for network in networks.into_iter().flat_map(HashMap::keys).filter(|network| *network != "none") {
        note("Networks", network);
    }
    let declared = host.mounts.as_deref().unwrap_or_default();
    for declared in declared {
        let options = declared.bind_options.as_ref();
        if options.is_some_and(|options| options.read_only_non_recursive == Some(true)) {
            note("Mounts", &format!("{}: only its top is read-only", declared.target.as_deref().unwrap_or_default()));
        }
    }
    for point in reply.mounts.iter().flatten().filter(|point| !declared.iter().any(|mount| is_of(point, mount))) {
        note("Mounts", &point.destination.as_deref().unwrap_or("somewhere"));
    }
    found.sort();
    found
}

fn is_of(point: &MountPoint, mount: &ModelMount) -> bool {
    point.destination == mount.target
        && point.source == mount.source
        && point.typ.as_ref().map(ToString::to_string) == mount.typ.as_ref().map(ToString::to_string)
        && point.rw == Some(!flag(mount.read_only))
}

fn text(value: Option<String>) -> String {
    value.unwrap_or_default()
}

fn number(value: Option<i64>) -> i64 {
    value.unwrap_or_default()
}

fn flag(value: Option<bool>) -> bool {
    value.unwrap_or_default()
}

fn list<T>(value: Option<Vec<T>>) -> Vec<T> {
    value.unwrap_or_default()
}

fn map(value: Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    value.unwrap_or_default().into_iter().collect()
}

fn word(value: Option<impl Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn texts(value: Option<Vec<impl Serialize>>) -> Vec<String> {
    list(value).iter().map(|value| serde_json::to_string(value).unwrap_or_else(|_| "unreadable".to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::harden::{drift, harden};
    use super::super::sample;
    use super::*;

    fn recorded() -> Value {
        let mut reply: Value = serde_json::from_str(include_str!("samples/inspect.json")).unwrap();
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
            (
                &["Mounts"],
                json!([{"Type": "volume", "Source": "/v", "Destination": "/data", "RW": true}]),
                "Mounts: /data",
            ),
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
}
