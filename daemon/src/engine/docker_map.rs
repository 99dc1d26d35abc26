//! Between our words and the engine's: requests, lists, events and facts. Pure.
//!
//! Replies are input like any other: what is absent or absurd becomes "unknown", never a panic.

use std::collections::{BTreeMap, HashMap};

use agentbot_wire::Code;
use bollard::models::{
    ContainerCreateBody, ContainerSummary, ContainerSummaryStateEnum, EventMessage, HealthConfig, HostConfig,
    HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount as ModelMount, MountBindOptions,
    MountBindOptionsPropagationEnum, MountType, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum, SystemInfo,
    SystemInfoCgroupDriverEnum, SystemInfoCgroupVersionEnum, SystemVersion,
};

use super::docker_error::printable;
use super::harden::Hardening;
use super::{CgroupDriver, EngineEvent, Facts, Listed, OwnerLabels, RunState, label};
use crate::error::{Error, Result};

/// The oldest API spoken: Docker Engine 20.10.
pub const OLDEST_API: (usize, usize) = (1, 41);

/// Reads `1.41` as two numbers.
#[must_use]
pub fn api_version(text: &str) -> Option<(usize, usize)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// What the engine and its host are.
///
/// # Errors
/// `unsupported` for an engine whose containers cannot be kept as promised; `engine_refused` for nonsense.
pub fn facts(info: &SystemInfo, version: &SystemVersion, api: &str) -> Result<Facts> {
    let options = info.security_options.as_deref().unwrap_or_default();
    let option = |name: &str| options.iter().any(|option| option.split(',').any(|part| part == format!("name={name}")));
    if option("rootless") {
        return Err(Error::new(Code::Unsupported, "the engine is rootless: it cannot give every agent an own uid")
            .hint("use the system's Docker Engine; `[engine] socket` names its socket"));
    }
    let cgroup_driver = match info.cgroup_driver {
        Some(SystemInfoCgroupDriverEnum::CGROUPFS) => CgroupDriver::Cgroupfs,
        Some(SystemInfoCgroupDriverEnum::SYSTEMD) => CgroupDriver::Systemd,
        _ => {
            return Err(Error::new(
                Code::Unsupported,
                "the engine cannot limit its containers: it has no cgroup driver",
            )
            .hint("`docker info` must name the cgroup driver cgroupfs or systemd"));
        }
    };
    let remap_base = if option("userns") {
        let root = info.docker_root_dir.as_deref().unwrap_or_default();
        remap_base(root).ok_or_else(|| {
            Error::new(Code::Unsupported, "the engine maps users, but its root directory does not say to which uid")
                .hint("`docker info` must show a root directory that ends in /<uid>.<gid>")
        })?
    } else {
        0
    };
    let engine = version.version.as_deref().or(info.server_version.as_deref()).unwrap_or_default();
    Ok(Facts {
        version: printable(engine),
        api_version: api.to_owned(),
        // Engines before cgroup v2 do not say.
        cgroup_version: if info.cgroup_version == Some(SystemInfoCgroupVersionEnum::_2) { 2 } else { 1 },
        cgroup_driver,
        remap_base,
        cpus: info.ncpu.and_then(|cpus| u32::try_from(cpus).ok()).ok_or_else(|| absurd("number of cores"))?,
        memory: info.mem_total.and_then(|bytes| u64::try_from(bytes).ok()).ok_or_else(|| absurd("memory"))?,
        architecture: architecture(info, version)?,
        limits_swap: info.swap_limit == Some(true),
        limits_pids: info.pids_limit == Some(true),
        limits_cpu: info.cpu_cfs_quota == Some(true) && info.cpu_shares == Some(true),
        seccomp: option("seccomp"),
    })
}

fn absurd(what: &str) -> Error {
    Error::new(Code::EngineRefused, format!("the engine answered nonsense: it does not know its {what}"))
        .hint("is it a Docker Engine that listens on `[engine] socket`?")
}

fn architecture(info: &SystemInfo, version: &SystemVersion) -> Result<String> {
    match version.arch.as_deref().or(info.architecture.as_deref()) {
        Some("amd64" | "x86_64") => Ok("amd64".to_owned()),
        Some("arm64" | "aarch64") => Ok("arm64".to_owned()),
        other => Err(Error::new(
            Code::Unsupported,
            format!("the engine's processor is of a kind unknown here: {}", printable(other.unwrap_or("not said"))),
        )
        .hint("agents run on amd64 and arm64")),
    }
}

/// `/var/lib/docker/100000.100000` is 100000.
fn remap_base(root: &str) -> Option<u32> {
    let (uid, gid) = root.trim_end_matches('/').rsplit('/').next()?.split_once('.')?;
    let (uid, gid): (u32, u32) = (uid.parse().ok()?, gid.parse().ok()?);
    (uid > 0 && gid > 0).then_some(uid)
}

/// The request that makes a container. What it does not name is the engine's default, and checked afterwards.
#[must_use]
pub fn create_body(wanted: &Hardening) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(wanted.image_id.clone()),
        user: Some(wanted.user.clone()),
        working_dir: Some(wanted.working_dir.clone()),
        hostname: Some(wanted.hostname.clone()),
        env: Some(wanted.env.clone()),
        healthcheck: Some(HealthConfig { test: Some(wanted.healthcheck.clone()), ..Default::default() }),
        stop_signal: Some(wanted.stop_signal.clone()),
        stop_timeout: Some(wanted.stop_timeout),
        tty: Some(wanted.tty),
        open_stdin: Some(wanted.open_stdin),
        attach_stdin: Some(wanted.attach_stdin),
        labels: Some(hash_map(&wanted.labels)),
        host_config: Some(host_config(wanted)),
        ..Default::default()
    }
}

fn host_config(wanted: &Hardening) -> HostConfig {
    HostConfig {
        privileged: Some(wanted.privileged),
        cap_drop: Some(wanted.cap_drop.clone()),
        security_opt: Some(wanted.security_opt.clone()),
        readonly_rootfs: Some(wanted.readonly_rootfs),
        tmpfs: Some(hash_map(&wanted.tmpfs)),
        mounts: Some(wanted.mounts.iter().map(mount).collect()),
        pids_limit: (wanted.pids > 0).then_some(wanted.pids),
        memory: Some(wanted.memory),
        memory_swap: Some(wanted.memory_swap),
        oom_kill_disable: Some(wanted.oom_kill_disable),
        oom_score_adj: Some(wanted.oom_score_adj),
        nano_cpus: (wanted.nano_cpus > 0).then_some(wanted.nano_cpus),
        cpu_shares: (wanted.cpu_shares > 0).then_some(wanted.cpu_shares),
        shm_size: Some(wanted.shm_size),
        ulimits: Some(wanted.ulimits.iter().map(ulimit).collect()),
        network_mode: Some(wanted.network_mode.clone()),
        ipc_mode: Some(wanted.ipc_mode.clone()),
        pid_mode: Some(wanted.pid_mode.clone()),
        uts_mode: Some(wanted.uts_mode.clone()),
        userns_mode: Some(wanted.userns_mode.clone()),
        cgroupns_mode: wanted.cgroupns_mode.parse::<HostConfigCgroupnsModeEnum>().ok(),
        cgroup_parent: Some(wanted.cgroup_parent.clone()),
        init: Some(wanted.init),
        auto_remove: Some(wanted.auto_remove),
        restart_policy: Some(RestartPolicy {
            name: wanted.restart_policy.parse::<RestartPolicyNameEnum>().ok(),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some(wanted.log_driver.clone()),
            config: Some(hash_map(&wanted.log_options)),
        }),
        publish_all_ports: Some(wanted.publish_all_ports),
        ..Default::default()
    }
}

fn mount(mount: &super::harden::Mount) -> ModelMount {
    ModelMount {
        target: Some(mount.target.clone()),
        source: Some(mount.source.clone()),
        typ: mount.kind.parse::<MountType>().ok(),
        read_only: Some(mount.read_only),
        bind_options: Some(MountBindOptions {
            propagation: mount.propagation.parse::<MountBindOptionsPropagationEnum>().ok(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn ulimit((name, (soft, hard)): (&String, &(i64, i64))) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(name.clone()), soft: Some(*soft), hard: Some(*hard) }
}

fn hash_map(map: &BTreeMap<String, String>) -> HashMap<String, String> {
    map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// One line of the engine's list; `None` when it has no id.
#[must_use]
pub fn listed(summary: ContainerSummary) -> Option<Listed> {
    let state = match summary.state {
        Some(ContainerSummaryStateEnum::CREATED) => RunState::Created,
        Some(ContainerSummaryStateEnum::RUNNING) => RunState::Running,
        Some(ContainerSummaryStateEnum::PAUSED) => RunState::Paused,
        Some(ContainerSummaryStateEnum::EXITED) => RunState::Exited,
        Some(ContainerSummaryStateEnum::DEAD) => RunState::Dead,
        _ => RunState::Other,
    };
    Some(Listed {
        id: summary.id.filter(|id| !id.is_empty())?,
        // A link's alias has a second slash; the container's own name has one.
        name: summary
            .names
            .unwrap_or_default()
            .iter()
            .map(|name| name.trim_start_matches('/'))
            .find(|name| !name.contains('/'))
            .unwrap_or_default()
            .to_owned(),
        labels: summary.labels.as_ref().and_then(owner_labels),
        state,
    })
}

/// The four labels that say whose a container is; `None` when one is missing or has not the form of ours.
#[must_use]
pub fn owner_labels(labels: &HashMap<String, String>) -> Option<OwnerLabels> {
    let generation = labels.get(label::GENERATION)?;
    let parsed: u32 = generation.parse().ok()?;
    Some(OwnerLabels {
        daemon: labels.get(label::DAEMON)?.clone(),
        slot: labels.get(label::SLOT)?.parse().ok()?,
        // Only one spelling of a number is ours: `+1` and `01` are not 1.
        generation: (parsed.to_string() == *generation).then_some(parsed)?,
        mac: labels.get(label::MAC)?.clone(),
    })
}

/// An event of a container; `None` for any other.
#[must_use]
pub fn event(message: EventMessage) -> Option<EngineEvent> {
    let actor = message.actor?;
    Some(EngineEvent::Container {
        id: actor.id.filter(|id| !id.is_empty())?,
        slot: actor.attributes.and_then(|labels| labels.get(label::SLOT)?.parse().ok()),
        action: printable(&message.action?),
    })
}

#[cfg(test)]
mod tests {
    use super::super::docker_inspect::observed;
    use super::super::harden::{drift, harden};
    use super::super::{ContainerSpec, sample};
    use super::*;
    use bollard::models::ContainerInspectResponse;
    use serde_json::{Value, json};

    fn info(change: &Value) -> SystemInfo {
        let mut info: Value = serde_json::from_str(include_str!("samples/info.json")).unwrap();
        for (key, value) in change.as_object().unwrap() {
            info[key] = value.clone();
        }
        serde_json::from_value(info).unwrap()
    }

    fn version() -> SystemVersion {
        serde_json::from_str(include_str!("samples/version.json")).unwrap()
    }

    fn of(change: &Value) -> Result<Facts> {
        facts(&info(change), &version(), "1.41")
    }

    #[test]
    fn the_recorded_engine_is_understood() {
        let got = of(&json!({})).unwrap();
        assert_eq!(got.version, "20.10.24+dfsg1");
        assert_eq!((got.cgroup_version, got.cgroup_driver, got.remap_base), (1, CgroupDriver::Cgroupfs, 0));
        assert_eq!((got.architecture.as_str(), got.cpus, got.memory), ("amd64", 2, 25_276_510_208));
        assert!(got.limits_swap && got.limits_pids && got.limits_cpu && got.seccomp);
    }

    #[test]
    fn cgroup_v2_with_systemd_and_mapped_users_is_understood() {
        let got = of(&json!({
            "CgroupVersion": "2", "CgroupDriver": "systemd", "SwapLimit": false,
            "DockerRootDir": "/var/lib/docker/100000.100000",
            "SecurityOptions": ["name=apparmor", "name=seccomp,profile=builtin", "name=userns", "name=cgroupns"],
        }))
        .unwrap();
        assert_eq!((got.cgroup_version, got.cgroup_driver, got.remap_base), (2, CgroupDriver::Systemd, 100_000));
        assert!(got.seccomp && !got.limits_swap);
    }

    #[test]
    fn mapped_users_without_a_readable_base_are_refused() {
        for root in ["/var/lib/docker", "/var/lib/docker/100000", "/d/x.y", "/d/0.0", "/d/99999999999.1", ""] {
            let error = of(&json!({"DockerRootDir": root, "SecurityOptions": ["name=userns"]})).unwrap_err();
            assert_eq!(error.code(), Code::Unsupported, "{root}");
        }
    }

    #[test]
    fn an_engine_that_cannot_keep_our_promises_is_refused_with_a_hint() {
        for change in [
            json!({"SecurityOptions": ["name=seccomp", "name=rootless"]}),
            json!({"CgroupDriver": "none"}),
            json!({"NCPU": -1}),
            json!({"MemTotal": null}),
        ] {
            assert!(of(&change).unwrap_err().to_api().hint.is_some());
        }
        let odd = SystemVersion { arch: Some("riscv64".to_owned()), ..version() };
        assert_eq!(facts(&info(&json!({})), &odd, "1.41").unwrap_err().code(), Code::Unsupported);
    }

    #[test]
    fn api_versions_compare_as_numbers() {
        assert!(api_version("1.9").unwrap() < OLDEST_API);
        assert!(api_version("1.40").unwrap() < OLDEST_API);
        assert_eq!(api_version("1.41"), Some(OLDEST_API));
        assert!(api_version("2.0").unwrap() > OLDEST_API);
        assert!(["", "1", "x.1", "1.x", "-1.2"].iter().all(|text| api_version(text).is_none()));
    }

    #[test]
    fn what_is_asked_for_reads_back_without_drift_whatever_the_engine_can_do() {
        for own_image in [true, false] {
            for able in [true, false] {
                let facts = Facts { limits_swap: able, limits_pids: able, limits_cpu: able, ..sample::facts() };
                let wanted = harden(&ContainerSpec { own_image, ..sample::spec() }, &facts);
                let body = serde_json::to_value(create_body(&wanted)).unwrap();
                let mut config = body.clone();
                if own_image {
                    config["Entrypoint"] = json!([super::super::harden::AGENT_PATH]);
                }
                let reply = json!({"Id": "1", "Name": "/n", "Image": body["Image"],
                    "HostConfig": body["HostConfig"], "Config": config});
                let reply: ContainerInspectResponse = serde_json::from_value(reply).unwrap();
                let got = observed(reply, "runc").unwrap();
                assert_eq!(drift(&wanted, &got.hardening, &facts), []);
                assert_eq!(got.risky, Vec::<String>::new());
            }
        }
    }

    #[test]
    fn the_request_mounts_by_mount_alone_and_leaves_program_and_masks_to_others() {
        let body = create_body(&harden(&sample::spec(), &sample::facts()));
        assert!(body.entrypoint.is_none() && body.cmd.is_none());
        let host = body.host_config.unwrap();
        assert!(host.binds.is_none() && host.masked_paths.is_none() && host.readonly_paths.is_none());
        assert_eq!(host.mounts.unwrap().len(), 2);
    }

    fn labels(change: &[(&str, &str)]) -> HashMap<String, String> {
        let mut labels = hash_map(&super::super::harden::label_map(&sample::labels()));
        for (key, value) in change {
            labels.insert((*key).to_owned(), (*value).to_owned());
        }
        labels
    }

    #[test]
    fn labels_of_another_form_are_not_ours() {
        assert_eq!(owner_labels(&labels(&[])), Some(sample::labels()));
        for (key, value) in
            [(label::SLOT, "slt_x"), (label::GENERATION, "-1"), (label::GENERATION, "+1"), (label::GENERATION, "01")]
        {
            assert_eq!(owner_labels(&labels(&[(key, value)])), None, "{key}={value}");
        }
        let mut short = labels(&[]);
        short.remove(label::MAC);
        assert_eq!(owner_labels(&short), None);
    }

    #[test]
    fn the_recorded_list_is_understood() {
        let list: Vec<ContainerSummary> = serde_json::from_str(include_str!("samples/list.json")).unwrap();
        let got: Vec<_> = list.into_iter().filter_map(listed).collect();
        assert_eq!((got[0].name.as_str(), got[0].state, got[0].labels.clone()), ("sample", RunState::Running, None));
    }

    #[test]
    fn a_links_alias_is_not_a_name() {
        let names = Some(vec!["/other/alias".to_owned(), "/own".to_owned()]);
        let summary = ContainerSummary { id: Some("1".to_owned()), names, ..Default::default() };
        assert_eq!(listed(summary).unwrap().name, "own");
    }
}
