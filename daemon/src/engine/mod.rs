//! The container engine: what the daemon asks of it, in words of our own.
//!
//! [`Engine`] is narrow on purpose: nothing unsafe can be expressed in a [`ContainerSpec`], and there is no way through
//! to the engine's own API. [`harden`] turns a spec into every field the engine is given; what the engine then says of
//! the container is compared with it field by field before anything starts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agentbot_wire::SlotId;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use jiff::Timestamp;

use crate::error::Result;

/// What is known of the engine and its host, from `/info` and `/version`.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The engine's version, for example `20.10.24`.
    pub version: String,
    /// The API version spoken with it.
    pub api_version: String,
    /// 1 or 2.
    pub cgroup_version: u8,
    /// Who makes the cgroups.
    pub cgroup_driver: CgroupDriver,
    /// First host uid of the remapped range; 0 without userns-remap.
    pub remap_base: u32,
    /// Cores of the engine's host.
    pub cpus: u32,
    /// Memory of the engine's host in bytes.
    pub memory: u64,
    /// `amd64` or `arm64`, as images name it.
    pub architecture: String,
    /// Whether the engine can limit swap; without it `MemorySwap` reads back changed.
    pub limits_swap: bool,
    /// Whether it can limit processes.
    pub limits_pids: bool,
    /// Whether it can limit cpu time.
    pub limits_cpu: bool,
    /// Whether seccomp profiles work.
    pub seccomp: bool,
}

/// Who makes the cgroups of containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupDriver {
    /// The engine itself: parents are paths.
    Cgroupfs,
    /// systemd: parents are slices.
    Systemd,
}

/// Everything that differs from one agent's container to another. All else is decided by [`harden`].
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerSpec {
    /// Its deterministic name, `ab-<slot>-<generation>`.
    pub name: String,
    /// The image by id, `sha256:…`.
    pub image_id: String,
    /// Whether the image is ours: then its binary is PID 1 itself.
    pub own_image: bool,
    /// Whose container this is.
    pub labels: OwnerLabels,
    /// uid and gid inside the container.
    pub uid: u32,
    /// Host directory mounted at `/workspace`.
    pub workspace: PathBuf,
    /// Host directory mounted read-only at `/run/agentbot`.
    pub run_dir: PathBuf,
    /// Bytes, swap included.
    pub memory: u64,
    /// Billionths of a core.
    pub nano_cpus: u64,
    /// Processes and threads.
    pub pids: u32,
    /// Grace between SIGTERM and SIGKILL, whole seconds.
    pub stop_timeout: Duration,
}

/// The labels that say whose a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerLabels {
    /// `io.agentbot.daemon`.
    pub daemon: String,
    /// `io.agentbot.slot`.
    pub slot: SlotId,
    /// `io.agentbot.gen`.
    pub generation: u32,
    /// `io.agentbot.mac`, hexadecimal.
    pub mac: String,
}

/// Label names.
pub mod label {
    /// The daemon's id.
    pub const DAEMON: &str = "io.agentbot.daemon";
    /// The slot's id.
    pub const SLOT: &str = "io.agentbot.slot";
    /// The container generation.
    pub const GENERATION: &str = "io.agentbot.gen";
    /// HMAC over the others and the container's name.
    pub const MAC: &str = "io.agentbot.mac";
}

/// A container as the engine's list shows it. Labels are what the engine says, not yet believed.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// The engine's id.
    pub id: String,
    /// Its name, without the leading slash.
    pub name: String,
    /// Its labels, where they have the form of ours.
    pub labels: Option<OwnerLabels>,
    /// Its state.
    pub state: RunState,
}

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Made, never started.
    Created,
    /// Its process runs.
    Running,
    /// Frozen.
    Paused,
    /// Its process ended.
    Exited,
    /// The engine gave it up: it can be removed, nothing else.
    Dead,
    /// The engine is at it: restarting or removing.
    Other,
}

/// A container as the engine's inspection shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// The engine's id.
    pub id: String,
    /// Its name, without the leading slash.
    pub name: String,
    /// Its labels, where they have the form of ours.
    pub labels: Option<OwnerLabels>,
    /// Its state.
    pub state: RunState,
    /// PID of its first process on the engine's host, while it runs.
    pub pid: Option<u32>,
    /// When it was last started.
    pub started_at: Option<Timestamp>,
    /// How it last ended, or why it could not start; `None` before that and while it runs: then the engine has
    /// forgotten.
    pub exit: Option<Exit>,
    /// Every security-relevant field as the engine holds it.
    pub hardening: harden::Hardening,
    /// Fields outside [`harden::Hardening`] that give power and must be empty: their names and values.
    pub risky: Vec<String>,
}

/// A local image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its id, `sha256:…`.
    pub id: String,
    /// The name with digest by which a registry has it; `None` for one that was built or loaded here.
    pub repo_digest: Option<String>,
}

/// How a container's process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code; 128 + n when signal n ended it.
    pub code: i64,
    /// Whether the kernel killed it for memory.
    pub oom_killed: bool,
    /// When.
    pub finished_at: Option<Timestamp>,
    /// What the engine says went wrong, mostly at a start.
    pub error: Option<String>,
}

/// Something that happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineEvent {
    /// The stream is open (again): whatever happened before must be listed.
    Connected,
    /// The stream broke; it is being opened again.
    Lost,
    /// A container with our labels changed.
    Container {
        /// The engine's id.
        id: String,
        /// From its labels.
        slot: Option<SlotId>,
        /// `create`, `start`, `die`, `oom`, `destroy`, `pause`, `unpause`, `rename`, `update`, ….
        action: String,
    },
}

/// What the daemon asks of an engine. Every call has a deadline of its own; past it the answer is an error, and whether
/// the engine acted is unknown: look before acting again.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Asks who it is and what it can do. Negotiates the API version anew.
    ///
    /// # Errors
    /// `engine_unavailable` when it does not answer, `unsupported` when it is older than API 1.41.
    async fn facts(&self) -> Result<Facts>;

    /// A local image by reference, with or without a digest, or by id; `None` when there is none.
    ///
    /// # Errors
    /// `invalid` for what can be neither; when the engine does not answer.
    async fn image(&self, reference: &str) -> Result<Option<Image>>;

    /// The id of a local image, as [`Self::image`].
    ///
    /// # Errors
    /// As [`Self::image`].
    async fn image_id(&self, reference: &str) -> Result<Option<String>> {
        Ok(self.image(reference).await?.map(|image| image.id))
    }

    /// Loads an image archive.
    ///
    /// # Errors
    /// When the engine does not answer or refuses the archive.
    async fn load_image(&self, archive: Bytes) -> Result<()>;

    /// Removes an image and its tags; one that is gone is fine.
    ///
    /// # Errors
    /// `conflict` while a container uses it; when the engine will not or does not answer.
    async fn remove_image(&self, id: &str) -> Result<()>;

    /// Lists every container, in any state, that carries the daemon label with this value.
    ///
    /// # Errors
    /// When the engine does not answer.
    async fn list(&self, daemon: &str) -> Result<Vec<Listed>>;

    /// Inspects one container by id or name; `None` when there is none.
    ///
    /// # Errors
    /// When the engine does not answer, or answers nonsense.
    async fn inspect(&self, id_or_name: &str) -> Result<Option<Observed>>;

    /// Creates a hardened container and gives its id.
    ///
    /// # Errors
    /// `conflict` when the name is in use, `engine_refused` when the engine will not.
    async fn create(&self, spec: &ContainerSpec, facts: &Facts) -> Result<String>;

    /// Starts it; one that runs already is fine.
    ///
    /// # Errors
    /// When the engine will not or does not answer.
    async fn start(&self, id: &str) -> Result<()>;

    /// Sends SIGTERM, waits, then kills; one that is stopped or gone already is fine.
    ///
    /// # Errors
    /// When the engine will not or does not answer.
    async fn stop(&self, id: &str, grace: Duration) -> Result<()>;

    /// Kills it; one that is stopped or gone already is fine.
    ///
    /// # Errors
    /// When the engine will not or does not answer.
    async fn kill(&self, id: &str) -> Result<()>;

    /// Lets a frozen one run again; one that runs is fine.
    ///
    /// # Errors
    /// When the engine will not or does not answer.
    async fn unpause(&self, id: &str) -> Result<()>;

    /// Removes it, running or not, with its anonymous volumes; one that is gone is fine.
    ///
    /// # Errors
    /// When the engine will not or does not answer.
    async fn remove(&self, id: &str) -> Result<()>;

    /// Gives it another name.
    ///
    /// # Errors
    /// `conflict` when the name is in use.
    async fn rename(&self, id: &str, name: &str) -> Result<()>;

    /// The last lines it wrote, at most `lines` and 64 KiB, as lossy UTF-8; empty when it is gone.
    ///
    /// # Errors
    /// When the engine does not answer.
    async fn last_lines(&self, id: &str, lines: u32) -> Result<String>;

    /// What happens to containers that carry the daemon label with this value, from now on and without end: the stream
    /// opens itself again after every break, with a growing pause of at most 1 s.
    fn events(self: Arc<Self>, daemon: &str) -> BoxStream<'static, EngineEvent>;
}

pub mod archive;
pub mod docker;
mod docker_error;
mod docker_events;
mod docker_inspect;
mod docker_map;
pub mod drift;
#[cfg(any(test, feature = "fault"))]
pub mod fake;
pub mod harden;
pub mod presence;
#[cfg(test)]
mod sample;
pub mod seccomp;
pub mod tail;
