//! Values that several test modules start from.

use std::path::PathBuf;
use std::time::Duration;

use super::{CgroupDriver, ContainerSpec, Facts, OwnerLabels};

/// An engine that can do everything: cgroup v1, cgroupfs, no remap.
pub fn facts() -> Facts {
    Facts {
        version: "20.10.24".to_owned(),
        api_version: "1.41".to_owned(),
        cgroup_version: 1,
        cgroup_driver: CgroupDriver::Cgroupfs,
        remap_base: 0,
        cpus: 2,
        memory: 8 << 30,
        architecture: "amd64".to_owned(),
        limits_swap: true,
        limits_pids: true,
        limits_cpu: true,
        seccomp: true,
    }
}

/// An agent of the smallest plan.
pub fn spec() -> ContainerSpec {
    ContainerSpec {
        name: "ab-slt_01kak2m5v5e7qrf9v3n6m8t0zx-1".to_owned(),
        image_id: format!("sha256:{}", "5e".repeat(32)),
        own_image: true,
        labels: labels(),
        uid: 20001,
        workspace: PathBuf::from("/var/lib/agentbot/slots/s/work/1"),
        run_dir: PathBuf::from("/var/lib/agentbot/slots/s/run"),
        memory: 256 << 20,
        nano_cpus: 500_000_000,
        pids: 128,
        stop_timeout: Duration::from_secs(10),
    }
}

/// Labels of ours.
pub fn labels() -> OwnerLabels {
    OwnerLabels {
        daemon: "dmn-1".to_owned(),
        slot: "slt_01kak2m5v5e7qrf9v3n6m8t0zx".parse().unwrap(),
        generation: 1,
        mac: "ab".repeat(32),
    }
}
