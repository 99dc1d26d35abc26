//! The hardening table as a process inside the container sees it.

use agentbot_wire::Plan;
use serde_json::{Value, json};

const MIB: u64 = 1024 * 1024;
const SOCKET: &str = "/run/agentbot/agentbot.sock";

/// Where something may be mounted. What is below `/proc` and `/sys` comes from the engine's masks.
const MOUNT_TARGETS: &[&str] = &[
    "/",
    "/dev",
    "/dev/mqueue",
    "/dev/pts",
    "/dev/shm",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/proc",
    "/run",
    "/run/agentbot",
    "/sys",
    "/tmp",
    "/workspace",
];

const DEVICES: &[&str] = &[
    "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout",
    "tty", "urandom", "zero",
];

/// What a container of scratch has in its environment when nobody adds anything.
const VARIABLES: &[&str] = &["AGENTBOT_SOCKET", "HOME", "HOSTNAME", "PATH"];

struct Report<'a> {
    probe: &'a Value,
    found: Vec<String>,
}

impl Report<'_> {
    fn at(&self, pointer: &str) -> Value {
        self.probe.pointer(pointer).cloned().unwrap_or(Value::Null)
    }

    fn is(&mut self, pointer: &str, wanted: &Value) {
        self.wants(pointer, &format!("{wanted}"), |seen| seen == wanted);
    }

    fn wants(&mut self, pointer: &str, what: &str, holds: impl Fn(&Value) -> bool) {
        let seen = self.at(pointer);
        if !holds(&seen) {
            self.found.push(format!("{pointer}: {seen} instead of {what}"));
        }
    }

    /// Every value of a map or list, and there is at least one.
    fn every(&mut self, pointer: &str, what: &str, holds: impl Fn(&str, &Value) -> bool) {
        let all = match self.at(pointer) {
            Value::Object(map) => map.into_iter().collect(),
            Value::Array(list) => list.into_iter().map(|value| (String::new(), value)).collect(),
            _ => Vec::new(),
        };
        if all.is_empty() {
            self.found.push(format!("{pointer}: nothing was looked at"));
        }
        for (name, value) in all {
            if !holds(&name, &value) {
                self.found.push(format!("{pointer}/{name}: {value} instead of {what}"));
            }
        }
    }
}

fn among(list: &[&str], value: &Value) -> bool {
    value.as_str().is_some_and(|text| list.contains(&text))
}

/// Where what the agent's `probe` saw from inside differs from the hardening table, for these limits and this uid.
#[must_use]
pub fn probe_deviations(probe: &Value, limits: &Plan, uid: u32) -> Vec<String> {
    let mut report = Report { probe, found: Vec::new() };
    identity(&mut report, uid);
    cgroup(&mut report, limits);
    files(&mut report);
    outside(&mut report);
    report.found
}

fn identity(report: &mut Report<'_>, uid: u32) {
    // Real, effective, saved and file system id.
    report.every("/uid", "the slot's uid", |_, value| *value == json!(uid));
    report.every("/gid", "the slot's gid", |_, value| *value == json!(uid));
    report.wants("/groups", "no group but its own", |value| {
        value.as_array().is_some_and(|groups| groups.iter().all(|group| *group == json!(uid)))
    });
    report.every("/capabilities", "no capability", |_, value| {
        value.as_str().is_some_and(|mask| !mask.is_empty() && mask.bytes().all(|digit| digit == b'0'))
    });
    report.is("/no_new_privileges", &json!(true));
    report.is("/seccomp", &json!(2));
    report.is("/pid1_command", &json!("agentbot-agent"));
    report.is("/zombies", &json!(0));
    report.is("/oom_score_adj", &json!(500));
    // A runc built with a recent Go raises the soft limit of what is run by exec, as the probe is.
    report.is("/limits/nofile/hard", &json!(4096));
    report.wants("/limits/nofile/soft", "1024, or the hard limit", |value| {
        *value == json!(1024) || *value == json!(4096)
    });
    report.is("/limits/core", &json!({ "soft": 0, "hard": 0 }));
    report.is("/hostname", &json!("agent"));
    report.is("/working_directory", &json!("/workspace"));
    report.is("/environment/AGENTBOT_SOCKET", &json!(SOCKET));
    report.every("/environment", "one of the usual variables", |name, _| VARIABLES.contains(&name));
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
        let ours = std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("a process has namespaces");
        let ours = ours.display().to_string();
        report.wants(&format!("/namespaces/{kind}"), "a namespace of its own", |value| {
            value.as_str().is_some_and(|theirs| theirs.starts_with(kind) && theirs != ours)
        });
    }
}

fn cgroup(report: &mut Report<'_>, limits: &Plan) {
    report.is("/cgroup/pids", &json!(limits.pids));
    report.is("/cgroup/memory", &json!(limits.memory));
    // Hosts without swap accounting have no such file.
    report.wants("/cgroup/memory_and_swap", "no swap", |value| {
        value.is_null() || *value == json!(limits.memory) || *value == json!(0)
    });
    let period = report.at("/cgroup/cpu_period_us").as_u64().unwrap_or_default();
    report.wants("/cgroup/cpu_quota_us", &format!("{} cores of {period} us", limits.cpus), |value| {
        value.as_f64().is_some_and(|quota| (quota - limits.cpus * period as f64).abs() < 1.0)
    });
}

fn files(report: &mut Report<'_>) {
    report.is("/root_write", &json!("EROFS"));
    report.is("/workspace/write", &json!("ok"));
    report.is("/run_directory/write", &json!("EROFS"));
    report.is("/socket/present", &json!(true));
    report.is("/sockets/found", &json!([SOCKET]));
    report.is("/sockets/engine", &json!([]));
    report.is("/sockets/complete", &json!(true));
    for (name, size) in [("tmp", 64 * MIB), ("run", 8 * MIB)] {
        report.is(&format!("/{name}/fstype"), &json!("tmpfs"));
        report.is(&format!("/{name}/size_bytes"), &json!(size));
        for flag in ["noexec", "nosuid", "nodev"] {
            report.is(&format!("/{name}/{flag}"), &json!(true));
        }
    }
    report.is("/shm/size_bytes", &json!(16 * MIB));
    let known =
        |target: &str| MOUNT_TARGETS.contains(&target) || target.starts_with("/proc/") || target.starts_with("/sys/");
    report.every("/mounts", "a mount that belongs there", |_, mount| {
        let target = mount["target"].as_str().unwrap_or_default();
        let bound = target == "/workspace" || target == "/run/agentbot";
        let private = mount["propagation"].as_str().is_none_or(|kind| !kind.contains("shared:"));
        known(target) && (!bound || private) && (target != "/run/agentbot" || mount["read_only"] == true)
    });
    report.every("/devices", "a harmless device", |_, name| among(DEVICES, name));
    report.every("/masked_paths", "nothing to read", |_, seen| *seen != json!("readable") && *seen != json!("ok"));
    report.every("/read_only_paths", "read-only", |_, seen| {
        let absent = seen["write"] == json!("ENOENT");
        absent || (seen["write"] != json!("ok") && seen["read_only"] != json!(false))
    });
}

fn outside(report: &mut Report<'_>) {
    report.is("/interfaces", &json!(["lo"]));
    report.is("/routes", &json!(0));
    report.every("/connects", "no way there", |_, seen| among(&["ENETUNREACH", "EADDRNOTAVAIL", "EAFNOSUPPORT"], seen));
    report.every("/attempts", "a refusal", |name, seen| match name {
        "exec_from_tmp" => among(&["EACCES", "EPERM"], seen),
        "alg_socket" | "vsock_socket" => among(&["EPERM", "EACCES", "ENOSYS", "EAFNOSUPPORT"], seen),
        _ => among(&["EPERM", "EACCES", "ENOSYS"], seen),
    });
}
