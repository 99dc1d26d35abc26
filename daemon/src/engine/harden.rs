//! Every security-relevant field of a container, decided by one function for every path that makes one.
//!
//! A [`ContainerSpec`] carries bounded numbers, ids and two directories of ours, so nothing an agent's owner types can
//! loosen what stands here. The adapter turns a [`Hardening`] into a request, and an inspection back into a
//! [`Hardening`]; [`drift`] tells the two apart.

use std::collections::BTreeMap;
use std::time::Duration;

use agentbot_wire::Code;
use serde::Serialize;

pub use super::drift::{Drift, drift};
use super::seccomp::SECCOMP;
use super::{CgroupDriver, ContainerSpec, Facts, OwnerLabels, label};
use crate::error::{Error, Result};

/// Where the agent's binary lies in our image; the image's config names it as its Entrypoint.
pub const AGENT_PATH: &str = "/agentbot-agent";
/// Where an agent finds the socket directory.
pub const RUN_TARGET: &str = "/run/agentbot";
/// Where an agent finds its workspace.
pub const WORKSPACE_TARGET: &str = "/workspace";

const MIB: i64 = 1024 * 1024;
const LONGEST_STOP: Duration = Duration::from_secs(3600);

/// What the engine is told, and what it says, of one container. Lists without an order are sorted, absent ones empty.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct Hardening {
    /// The image by id.
    pub image_id: String,
    /// `uid:gid` inside the container.
    pub user: String,
    /// Where its process starts: an image could point it at a file descriptor of the runtime.
    pub working_dir: String,
    /// The image's Entrypoint as it must be; `None` where the image is free to choose. Never sent.
    pub entrypoint: Option<Vec<String>>,
    /// The image's arguments as they must be; `None` where the image is free to choose. Never sent.
    pub command: Option<Vec<String>>,
    /// Its host name.
    pub hostname: String,
    /// Its domain name.
    pub domainname: String,
    /// `NAME=value` each.
    pub env: Vec<String>,
    /// The health check's command; `["NONE"]` switches off what the image brings.
    pub healthcheck: Vec<String>,
    /// The signal of a stop.
    pub stop_signal: String,
    /// Seconds between that signal and SIGKILL.
    pub stop_timeout: i64,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its standard input stays open.
    pub open_stdin: bool,
    /// Whether somebody may attach to its standard input.
    pub attach_stdin: bool,
    /// Labels whose names are ours.
    pub labels: BTreeMap<String, String>,
    /// Volumes the image declares: each would become an anonymous one.
    pub volumes: Vec<String>,
    /// Whether it is hardly a container.
    pub privileged: bool,
    /// Capabilities added.
    pub cap_add: Vec<String>,
    /// Capabilities taken away.
    pub cap_drop: Vec<String>,
    /// Privilege and system call rules.
    pub security_opt: Vec<String>,
    /// Whether the image's files cannot be written.
    pub readonly_rootfs: bool,
    /// Memory file systems: target to options.
    pub tmpfs: BTreeMap<String, String>,
    /// Mounts, by target.
    pub mounts: Vec<Mount>,
    /// Processes and threads.
    pub pids: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of memory and swap together; -1 is no limit.
    pub memory_swap: i64,
    /// Whether the kernel may not kill it for memory.
    pub oom_kill_disable: bool,
    /// How readily the kernel kills it: above 0 is sooner than others.
    pub oom_score_adj: i64,
    /// Billionths of a core.
    pub nano_cpus: i64,
    /// Its weight when cores are short; 1024 is usual.
    pub cpu_shares: i64,
    /// Bytes of `/dev/shm`.
    pub shm_size: i64,
    /// Limits of each process: name to soft and hard.
    pub ulimits: BTreeMap<String, (i64, i64)>,
    /// Network namespace.
    pub network_mode: String,
    /// IPC namespace.
    pub ipc_mode: String,
    /// PID namespace.
    pub pid_mode: String,
    /// Host name namespace.
    pub uts_mode: String,
    /// User namespace: empty is the engine's own mapping, if it has one.
    pub userns_mode: String,
    /// Cgroup namespace.
    pub cgroupns_mode: String,
    /// The cgroup it is put under.
    pub cgroup_parent: String,
    /// Whether the engine puts an init before its process.
    pub init: bool,
    /// Whether the engine removes it when it ends.
    pub auto_remove: bool,
    /// `no`, `always`, …, `on-failure:<times>`.
    pub restart_policy: String,
    /// Where its output goes.
    pub log_driver: String,
    /// Options of that.
    pub log_options: BTreeMap<String, String>,
    /// Host directories mounted the old way.
    pub binds: Vec<String>,
    /// Devices.
    pub devices: Vec<String>,
    /// Devices by driver.
    pub device_requests: Vec<String>,
    /// Devices by rule.
    pub device_cgroup_rules: Vec<String>,
    /// Containers whose volumes it gets.
    pub volumes_from: Vec<String>,
    /// Further groups of its user.
    pub group_add: Vec<String>,
    /// Names added to its hosts file.
    pub extra_hosts: Vec<String>,
    /// Kernel settings.
    pub sysctls: BTreeMap<String, String>,
    /// Ports of the host that lead to it.
    pub port_bindings: Vec<String>,
    /// Whether every port it declares is opened on the host.
    pub publish_all_ports: bool,
    /// Containers it is linked with.
    pub links: Vec<String>,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct Mount {
    /// Where in the container.
    pub target: String,
    /// What of the host.
    pub source: String,
    /// `bind`, `volume`, ….
    pub kind: String,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// How mounts below it spread.
    pub propagation: String,
}

/// Decides every field of a container.
#[must_use]
pub fn harden(spec: &ContainerSpec, facts: &Facts) -> Hardening {
    let own = spec.own_image;
    let memory = i64::try_from(spec.memory).unwrap_or(i64::MAX);
    Hardening {
        image_id: spec.image_id.clone(),
        user: format!("{0}:{0}", spec.uid),
        working_dir: WORKSPACE_TARGET.to_owned(),
        entrypoint: own.then(|| vec![AGENT_PATH.to_owned()]),
        command: own.then(Vec::new),
        hostname: "agent".to_owned(),
        domainname: String::new(),
        env: vec![format!("AGENTBOT_SOCKET={RUN_TARGET}/agentbot.sock")],
        healthcheck: vec!["NONE".to_owned()],
        stop_signal: "SIGTERM".to_owned(),
        stop_timeout: i64::try_from(spec.stop_timeout.min(LONGEST_STOP).as_secs()).unwrap_or_default(),
        tty: false,
        open_stdin: false,
        attach_stdin: false,
        labels: label_map(&spec.labels),
        volumes: Vec::new(),
        privileged: false,
        cap_add: Vec::new(),
        cap_drop: vec!["ALL".to_owned()],
        security_opt: vec!["no-new-privileges:true".to_owned(), format!("seccomp={}", *SECCOMP)],
        readonly_rootfs: true,
        tmpfs: pairs(&[
            ("/tmp", "rw,noexec,nosuid,nodev,size=64m,mode=1777"),
            ("/run", "rw,noexec,nosuid,nodev,size=8m,mode=0755"),
        ]),
        mounts: vec![
            bind(&spec.run_dir.to_string_lossy(), RUN_TARGET, true),
            bind(&spec.workspace.to_string_lossy(), WORKSPACE_TARGET, false),
        ],
        pids: i64::from(spec.pids),
        memory,
        memory_swap: memory,
        oom_kill_disable: false,
        oom_score_adj: 500,
        nano_cpus: i64::try_from(spec.nano_cpus).unwrap_or(i64::MAX),
        cpu_shares: 512,
        shm_size: 16 * MIB,
        ulimits: BTreeMap::from([("nofile".to_owned(), (1024, 4096)), ("core".to_owned(), (0, 0))]),
        network_mode: "none".to_owned(),
        ipc_mode: "private".to_owned(),
        pid_mode: String::new(),
        uts_mode: String::new(),
        userns_mode: String::new(),
        cgroupns_mode: "private".to_owned(),
        cgroup_parent: match facts.cgroup_driver {
            CgroupDriver::Cgroupfs => "/agentbot".to_owned(),
            CgroupDriver::Systemd => "agentbot.slice".to_owned(),
        },
        init: !own,
        auto_remove: false,
        restart_policy: "no".to_owned(),
        log_driver: "local".to_owned(),
        log_options: pairs(&[
            ("max-size", "10m"),
            ("max-file", "3"),
            ("mode", "non-blocking"),
            ("max-buffer-size", "1m"),
        ]),
        binds: Vec::new(),
        devices: Vec::new(),
        device_requests: Vec::new(),
        device_cgroup_rules: Vec::new(),
        volumes_from: Vec::new(),
        group_add: Vec::new(),
        extra_hosts: Vec::new(),
        sysctls: BTreeMap::new(),
        port_bindings: Vec::new(),
        publish_all_ports: false,
        links: Vec::new(),
    }
    .for_engine(facts)
}

impl Hardening {
    /// Leaves out the limits that this engine cannot set: asked for, it would refuse the container or drop them.
    fn for_engine(mut self, facts: &Facts) -> Self {
        if !facts.limits_swap {
            self.memory_swap = -1;
        }
        if !facts.limits_pids {
            self.pids = 0;
        }
        if !facts.limits_cpu {
            self.nano_cpus = 0;
            self.cpu_shares = 0;
        }
        self
    }
}

/// Refuses an engine that cannot give what no container of ours goes without.
///
/// # Errors
/// `unsupported` where system call filters do not work.
pub fn require(facts: &Facts) -> Result<()> {
    if facts.seccomp {
        return Ok(());
    }
    Err(Error::new(Code::Unsupported, "the engine runs containers without system call filters")
        .hint("use a kernel and a Docker Engine with seccomp; `docker info` lists it under Security Options"))
}

/// The labels of a container of ours.
#[must_use]
pub fn label_map(labels: &OwnerLabels) -> BTreeMap<String, String> {
    BTreeMap::from([
        (label::DAEMON.to_owned(), labels.daemon.clone()),
        (label::SLOT.to_owned(), labels.slot.to_string()),
        (label::GENERATION.to_owned(), labels.generation.to_string()),
        (label::MAC.to_owned(), labels.mac.clone()),
    ])
}

fn bind(source: &str, target: &str, read_only: bool) -> Mount {
    Mount {
        target: target.to_owned(),
        source: source.to_owned(),
        kind: "bind".to_owned(),
        read_only,
        propagation: "rprivate".to_owned(),
    }
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn an_agent_of_ours_is_its_own_first_process_and_another_image_gets_an_init() {
        let own = harden(&sample::spec(), &sample::facts());
        assert_eq!((own.init, own.entrypoint.as_deref()), (false, Some(&[AGENT_PATH.to_owned()][..])));
        let foreign = harden(&ContainerSpec { own_image: false, ..sample::spec() }, &sample::facts());
        assert_eq!((foreign.init, foreign.entrypoint), (true, None));
        assert_eq!((foreign.user, foreign.working_dir), (own.user, own.working_dir));
        assert_eq!(foreign.healthcheck, ["NONE"]);
    }

    #[test]
    fn the_cgroup_parent_follows_the_engines_driver() {
        let parent = |cgroup_driver| {
            harden(&sample::spec(), &Facts { cgroup_driver, cgroup_version: 2, ..sample::facts() }).cgroup_parent
        };
        assert_eq!(parent(CgroupDriver::Cgroupfs), "/agentbot");
        assert_eq!(parent(CgroupDriver::Systemd), "agentbot.slice");
    }

    #[test]
    fn limits_the_engine_cannot_set_are_not_asked_for() {
        let facts = Facts { limits_swap: false, limits_pids: false, limits_cpu: false, ..sample::facts() };
        let got = harden(&sample::spec(), &facts);
        assert_eq!((got.memory_swap, got.pids, got.nano_cpus, got.cpu_shares), (-1, 0, 0, 0));
        assert_eq!(got.memory, 256 * MIB);
    }

    #[test]
    fn figures_beyond_what_the_engine_counts_in_stay_positive() {
        let spec = ContainerSpec {
            memory: u64::MAX,
            nano_cpus: u64::MAX,
            stop_timeout: Duration::from_secs(u64::MAX),
            ..sample::spec()
        };
        let got = harden(&spec, &sample::facts());
        assert_eq!((got.memory, got.nano_cpus, got.stop_timeout), (i64::MAX, i64::MAX, 3600));
    }

    #[test]
    fn an_engine_without_system_call_filters_is_refused() {
        assert!(require(&sample::facts()).is_ok());
        let error = require(&Facts { seccomp: false, ..sample::facts() }).unwrap_err();
        assert_eq!(error.code(), Code::Unsupported);
    }
}
