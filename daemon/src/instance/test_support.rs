//! Instances and containers for tests of what is pure.

use agentbot_wire::{SlotId, TenantId};
use jiff::Timestamp;

use super::plan::Container;
use crate::engine::{CgroupDriver, ContainerSpec, Exit, Facts, Observed, OwnerLabels, RunState, harden};
use crate::store::Slot;
use crate::store::instances::{Instance, NewInstance};

/// An engine like most.
pub fn facts() -> Facts {
    Facts {
        version: "28.0.0".to_owned(),
        api_version: "1.48".to_owned(),
        cgroup_version: 2,
        cgroup_driver: CgroupDriver::Systemd,
        remap_base: 0,
        cpus: 4,
        memory: 8 << 30,
        architecture: "amd64".to_owned(),
        limits_swap: true,
        limits_pids: true,
        limits_cpu: true,
        seccomp: true,
    }
}

/// What is decided of an agent.
pub fn a_new_instance() -> NewInstance {
    NewInstance {
        tenant: TenantId::local(),
        name: "helper".parse().unwrap(),
        plan: "small".to_owned(),
        memory: 256 << 20,
        nano_cpus: 500_000_000,
        pids: 128,
        disk: 1 << 30,
        model: "builtin/basic".to_owned(),
        image: None,
        config: "{}".to_owned(),
        token_salt: [0; 16],
    }
}

/// An agent as it is accepted.
pub fn an_instance() -> Instance {
    let slot = Slot {
        id: SlotId::mint(),
        uid: 20_000,
        container_gen: 1,
        workspace_gen: 1,
        container_id: None,
        image_id: Some("sha256:i".to_owned()),
        repo_digest: None,
        workspace_made: false,
    };
    a_new_instance().housed(slot, Timestamp::UNIX_EPOCH)
}

/// The instance's container in a state, with the row that knows it.
pub fn a_container(instance: &mut Instance, state: RunState) -> Container {
    let slot = &mut instance.slot;
    slot.container_id = Some(format!("container-{}", slot.container_gen));
    let labels = OwnerLabels {
        daemon: "d".to_owned(),
        slot: slot.id.clone(),
        generation: slot.container_gen,
        mac: "m".to_owned(),
    };
    let spec = ContainerSpec {
        name: slot.container_name(),
        image_id: "sha256:i".to_owned(),
        own_image: true,
        labels: labels.clone(),
        uid: slot.uid,
        workspace: "/state/work".into(),
        run_dir: "/state/run".into(),
        memory: instance.memory,
        nano_cpus: instance.nano_cpus,
        pids: instance.pids,
        stop_timeout: std::time::Duration::from_secs(10),
    };
    let exit = Exit { code: 1, oom_killed: false, finished_at: Some(Timestamp::UNIX_EPOCH), error: None };
    let observed = Observed {
        id: format!("container-{}", slot.container_gen),
        name: slot.container_name(),
        labels: Some(labels),
        state,
        pid: (state == RunState::Running).then_some(1),
        started_at: Some(Timestamp::UNIX_EPOCH),
        exit: (state == RunState::Exited).then_some(exit),
        hardening: harden::harden(&spec, &facts()),
        risky: Vec::new(),
    };
    Container::Ours { observed: Box::new(observed), drift: Vec::new() }
}
