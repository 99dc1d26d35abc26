//! An agent as a row.

use agentbot_wire::{AgentName, InstanceId, Phase, TenantId};
use jiff::Timestamp;

use crate::store::{Desired, Owed, Slot};

/// A row of `instances` with its slot.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name.
    pub name: AgentName,
    /// What it runs in.
    pub slot: Slot,
    /// Its plan's name.
    pub plan: String,
    /// Memory in bytes.
    pub memory: u64,
    /// Billionths of a core.
    pub nano_cpus: u64,
    /// Processes and threads.
    pub pids: u32,
    /// Workspace bytes.
    pub disk: u64,
    /// Its model.
    pub model: String,
    /// A foreign image's reference; absent for the agent image of this daemon.
    pub image: Option<String>,
    /// Its free-form configuration, a JSON object.
    pub config: String,
    /// Salt of its gateway token.
    pub token_salt: [u8; 16],
    /// What is wanted.
    pub desired: Desired,
    /// What was wanted before it was deleted.
    pub desired_before: Desired,
    /// Restarts.
    pub restart: Owed,
    /// New containers around the same workspace.
    pub rebuild: Owed,
    /// Its phase.
    pub phase: Phase,
    /// Since when.
    pub phase_since: Timestamp,
    /// Why.
    pub reason: Option<String>,
    /// The runtime version the agent said.
    pub runtime_version: Option<String>,
    /// When its container was last started.
    pub started_at: Option<Timestamp>,
    /// Unasked ends since it was made.
    pub crashes: u32,
    /// Unasked ends since the last long healthy time.
    pub crash_streak: u32,
    /// Cause of the last one.
    pub last_crash: Option<String>,
    /// Fingerprint of the last exit that was accounted for.
    pub exit_seen: Option<String>,
    /// When the next start is due.
    pub next_start_at: Option<Timestamp>,
    /// Grows with every change of what is wanted: a writer that saw another one must look again.
    pub revision: u32,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was given up.
    pub deleted_at: Option<Timestamp>,
}

/// What is decided of an agent when it is accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct NewInstance {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name.
    pub name: AgentName,
    /// Its plan's name.
    pub plan: String,
    /// Memory in bytes.
    pub memory: u64,
    /// Billionths of a core.
    pub nano_cpus: u64,
    /// Processes and threads.
    pub pids: u32,
    /// Workspace bytes.
    pub disk: u64,
    /// Its model.
    pub model: String,
    /// A foreign image's reference.
    pub image: Option<String>,
    /// Its free-form configuration, a JSON object.
    pub config: String,
    /// Salt of its gateway token.
    pub token_salt: [u8; 16],
}

impl NewInstance {
    /// The agent in its slot: wanted running, and nothing has happened yet.
    #[must_use]
    pub fn housed(self, slot: Slot, now: Timestamp) -> Instance {
        Instance {
            id: InstanceId::mint(),
            tenant: self.tenant,
            name: self.name,
            slot,
            plan: self.plan,
            memory: self.memory,
            nano_cpus: self.nano_cpus,
            pids: self.pids,
            disk: self.disk,
            model: self.model,
            image: self.image,
            config: self.config,
            token_salt: self.token_salt,
            desired: Desired::Running,
            desired_before: Desired::Running,
            restart: Owed::default(),
            rebuild: Owed::default(),
            phase: Phase::Provisioning,
            phase_since: now,
            reason: None,
            runtime_version: None,
            started_at: None,
            crashes: 0,
            crash_streak: 0,
            last_crash: None,
            exit_seen: None,
            next_start_at: None,
            revision: 0,
            created_at: now,
            updated_at: now,
            deleted_at: None,
        }
    }
}
