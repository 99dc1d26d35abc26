//! Agents as the API shows and takes them: dialect B's shapes with our fields added.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{AgentName, InstanceId, Operation, Phase, SlotId};

/// A named set of limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Memory in bytes, swap included.
    pub memory: u64,
    /// Processor cores, in steps of 0.01.
    pub cpus: f64,
    /// Processes and threads.
    pub pids: u32,
    /// Workspace size in bytes.
    pub disk: u64,
}

/// Body of `POST /api/agents/provision`. Fields that dialect B does not know are ignored there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProvisionRequest {
    /// The agent's name; required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The model to talk to: `<provider>/<model>` or an alias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The plan's name; `small` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Dialect B's older word for `plan`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Memory in bytes instead of the plan's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Cores instead of the plan's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Processes instead of the plan's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// A local image other than our own, by reference or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The agent's free-form configuration; an object of at most 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Value>,
}

/// An agent in the answer to a provision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProvisionedAgent {
    /// Its id.
    pub id: InstanceId,
    /// Its name.
    pub name: AgentName,
    /// Its phase.
    pub status: Phase,
    /// Where clients chat with it.
    #[serde(rename = "websocketUrl")]
    pub websocket_url: String,
    /// Its model.
    pub model: String,
    /// When it was accepted.
    #[serde(rename = "createdAt")]
    pub created_at: Timestamp,
}

/// Answer of `POST /api/agents/provision`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProvisionReply {
    /// Always true.
    pub success: bool,
    /// The new agent.
    pub agent: ProvisionedAgent,
    /// The operation that brings it to `running`.
    pub operation: Operation,
}

/// One row of `GET /api/agents`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentEntry {
    /// Its id.
    pub id: InstanceId,
    /// Its name.
    pub name: AgentName,
    /// Its model.
    pub model: String,
    /// Its phase.
    pub status: Phase,
    /// Where clients chat with it.
    #[serde(rename = "websocketUrl")]
    pub websocket_url: String,
    /// When it was accepted.
    #[serde(rename = "createdAt")]
    pub created_at: Timestamp,
    /// When it last changed.
    #[serde(rename = "updatedAt")]
    pub updated_at: Timestamp,
    /// Its plan.
    pub plan: String,
    /// Since when it is in its phase.
    pub phase_since: Timestamp,
    /// Why it is in its phase, where there is more to say.
    pub reason: Option<String>,
    /// When it was deleted; absent while it lives.
    pub deleted_at: Option<Timestamp>,
}

/// `GET /api/agents` and `GET /api/agents/provision`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentList {
    /// By name.
    pub agents: Vec<AgentEntry>,
    /// How many are listed.
    pub count: usize,
}

/// What the daemon knows of an agent's health.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceHealth {
    /// Whether the container's process runs; absent when the engine does not answer.
    pub process: Option<bool>,
    /// Whether the agent is connected and said hello.
    pub link: bool,
    /// When it last gave a sign of life.
    pub last_beat: Option<Timestamp>,
    /// Times it ended unasked since it was made.
    pub crashes: u64,
    /// Why it last ended unasked: exit code, signal, out of memory.
    pub last_crash: Option<String>,
    /// What it wrote before that: at most five lines and 1 KiB, without control characters.
    #[serde(default)]
    pub last_lines: Option<String>,
    /// When the next start is due while restarts are paused.
    pub next_start: Option<Timestamp>,
}

/// An agent's container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerView {
    /// The engine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The id of its image.
    pub image: String,
}

/// `GET /api/instance/:id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceView {
    /// Dialect B's word for the id.
    #[serde(rename = "userId")]
    pub user_id: InstanceId,
    /// Dialect B's word for the phase.
    pub status: Phase,
    /// When its container was last started.
    #[serde(rename = "startedAt")]
    pub started_at: Option<Timestamp>,
    /// Nothing here: agents have no address of their own.
    pub subdomain: Option<String>,
    /// Nothing here.
    pub url: Option<String>,
    /// Its plan.
    pub plan: String,
    /// The runtime version that the agent said.
    #[serde(rename = "openclawVersion")]
    pub openclaw_version: Option<String>,
    /// Its id.
    pub id: InstanceId,
    /// Its name.
    pub name: AgentName,
    /// Its model.
    pub model: String,
    /// Its phase.
    pub phase: Phase,
    /// Since when.
    pub phase_since: Timestamp,
    /// Why, where there is more to say.
    pub reason: Option<String>,
    /// Its limits.
    pub limits: Plan,
    /// Signs of life.
    pub health: InstanceHealth,
    /// Where it lives.
    pub slot: SlotId,
    /// Its container, where one is known.
    pub container: Option<ContainerView>,
    /// Containers it has had, this one included.
    pub generation: u32,
    /// The operation under way.
    pub operation: Option<Operation>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it was deleted; absent while it lives.
    pub deleted_at: Option<Timestamp>,
}

/// Answer of start, stop, restart, delete, undelete; and of every lifecycle call that goes on (202).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LifecycleReply {
    /// Always true: failures have another shape.
    pub success: bool,
    /// The agent's phase.
    pub status: Phase,
    /// What was or is being done.
    pub operation: Operation,
}

/// What a repair found, did and left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairReport {
    /// What was wrong, in the order it was seen.
    pub findings: Vec<String>,
    /// What was done about it.
    pub actions: Vec<String>,
    /// What is left for the owner to do.
    pub left: Vec<String>,
}

/// Answer of `GET /api/instance/:id/token`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenReply {
    /// The gateway token: 64 hexadecimal characters.
    pub token: String,
}

/// Body of `POST /api/instance/:id/undelete`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndeleteRequest {
    /// Another name, for when the old one is taken.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub new_name: Option<String>,
}
