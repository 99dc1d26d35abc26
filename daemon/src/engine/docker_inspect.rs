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
        Some(ContainerStateStatusEnum::DEAD) => RunState::Dead,
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
mod tests;
