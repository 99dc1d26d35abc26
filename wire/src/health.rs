//! The daemon and its host, as `GET /api/health` and `GET /api/status` show them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How the host does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// Processor and memory at 70 % or less, engine answers.
    Healthy,
    /// One of them at 85 % or less, or the engine away.
    Degraded,
    /// Above.
    Unhealthy,
}

/// `GET /api/health`: 200 whenever the daemon can serve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Always `ok`.
    pub status: String,
    /// How the host does.
    pub health: Grade,
    /// Now.
    pub timestamp: Timestamp,
    /// Processors.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Memory,
    /// Seconds since the daemon started.
    pub uptime: u64,
    /// The engine.
    pub engine: EngineStatus,
    /// The daemon's version.
    pub version: String,
}

/// Processors of the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// Percent over all cores; null until two samples are taken.
    pub usage: Option<f64>,
    /// How many there are.
    pub cores: usize,
}

/// Memory of the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Percent; null until measured.
    pub usage: Option<f64>,
    /// Bytes.
    pub total: u64,
    /// Bytes in use that could not be given back.
    pub used: u64,
    /// Bytes available.
    pub free: u64,
}

/// The engine as the daemon sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineStatus {
    /// Whether it answers.
    pub available: bool,
    /// Since when it does, or does not.
    pub since: Timestamp,
    /// Its version; null until it answered once.
    pub version: Option<String>,
    /// The API version spoken with it.
    pub api_version: Option<String>,
    /// Why it does not answer.
    pub error: Option<String>,
}

/// What a background task of the daemon last did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// Its name.
    pub name: String,
    /// Whether it is at work now.
    pub running: bool,
    /// Why it last ran: `period`, `signal`, `start`.
    pub reason: Option<String>,
    /// When it last began.
    pub started_at: Option<Timestamp>,
    /// How long that took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// What it says of it.
    pub result: Option<String>,
    /// Times it ran.
    pub runs: u64,
    /// Times it ended in an error or a panic.
    #[serde(default)]
    pub failures: u64,
}

/// `GET /api/status`: the whole daemon on one page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// The daemon's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub started_at: Timestamp,
    /// Where its state is.
    pub state_dir: String,
    /// Its id, as on the labels of its containers.
    pub daemon_id: String,
    /// The engine.
    pub engine: EngineStatus,
    /// Agents by phase.
    pub agents: BTreeMap<String, usize>,
    /// Operations that have not ended.
    pub operations_open: usize,
    /// Containers that carry our labels but are not ours: reported, never touched.
    pub unknown_containers: Vec<String>,
    /// Background tasks.
    pub tasks: Vec<TaskStatus>,
    /// What a person should look at.
    pub warnings: Vec<String>,
    /// Why nothing is changed on the engine; null in normal work.
    pub safe_mode: Option<String>,
    /// What was refused, dropped or closed since the start, by kind, each with how often.
    #[serde(default)]
    pub drops: BTreeMap<String, u64>,
}
