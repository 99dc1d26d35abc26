//! What the reconciler works with.

use std::sync::Arc;
use std::time::Duration;

use agentbot_wire::SlotId;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use super::files::SlotDirs;
use super::plan::Deadlines;
use crate::config::{Config, Live};
use crate::engine::archive::{Archive, agent_archive};
use crate::engine::presence::Presence;
use crate::engine::{ContainerSpec, Facts, OwnerLabels};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::identity::{DaemonKey, Leases};
use crate::link::{DoorSpec, Doors, Introduction, Links};
use crate::secret::Secret;
use crate::store::instances::{self, Instance};
use crate::store::{Slot, Store};
use crate::task::Marks;

/// Everything that instances need of the rest of the daemon.
pub struct Context {
    /// State.
    pub store: Store,
    /// Event log.
    pub events: Events,
    /// The engine and whether it answers.
    pub presence: Presence,
    /// Connected agents.
    pub links: Links,
    /// Their sockets.
    pub doors: Doors,
    /// The daemon's key.
    pub key: DaemonKey,
    /// What is open with agents' gateway tokens.
    pub leases: Leases,
    /// The daemon's id, as on labels.
    pub daemon_id: String,
    /// Configuration.
    pub config: Live,
    /// Directories of slots.
    pub dirs: SlotDirs,
    /// Slots that showed news, by themselves or through the engine.
    pub wakes: Marks<SlotId>,
    /// Slots of which somebody asked something.
    pub asks: Marks<SlotId>,
    /// The agent image of this daemon.
    pub image: AgentImage,
}

/// The agent binary as an image, packed when it is first needed.
pub struct AgentImage {
    binary: std::path::PathBuf,
    version: &'static str,
    archive: OnceCell<Arc<Archive>>,
    loading: Mutex<()>,
}

impl AgentImage {
    /// The image of a binary.
    #[must_use]
    pub fn new(binary: std::path::PathBuf, version: &'static str) -> Self {
        Self { binary, version, archive: OnceCell::new(), loading: Mutex::new(()) }
    }

    /// Waits for the turn to load it into the engine.
    pub async fn loading(&self) -> MutexGuard<'_, ()> {
        self.loading.lock().await
    }

    /// Packs it, once.
    ///
    /// # Errors
    /// When the binary cannot be read.
    pub async fn archive(&self, architecture: &str) -> Result<Arc<Archive>> {
        let pack = || async {
            let (path, version, architecture) = (self.binary.clone(), self.version, architecture.to_owned());
            tokio::task::spawn_blocking(move || {
                let binary = std::fs::read(&path).map_err(|error| {
                    Error::new(
                        agentbot_wire::Code::Internal,
                        format!("the agent binary {} cannot be read: {error}", path.display()),
                    )
                    .hint("`make build` puts it beside the daemon; AGENTBOT_AGENT_BIN names another place")
                })?;
                Ok(Arc::new(agent_archive(&binary, version, &architecture)))
            })
            .await
            .map_err(Error::internal)?
        };
        self.archive.get_or_try_init(pack).await.cloned()
    }
}

impl Context {
    /// The deadlines of a plan.
    #[must_use]
    pub fn deadlines(&self) -> Deadlines {
        deadlines(&self.config.load())
    }

    /// The labels of a slot's container in its present generation.
    #[must_use]
    pub fn labels(&self, slot: &Slot) -> OwnerLabels {
        let (daemon, generation) = (self.daemon_id.clone(), slot.container_gen);
        let mac = self.key.label_mac(&daemon, "container", &slot.container_name(), &slot.id, generation);
        OwnerLabels { daemon, slot: slot.id.clone(), generation, mac }
    }

    /// Whether labels were made by us for an object of that name.
    #[must_use]
    pub fn is_ours(&self, labels: &OwnerLabels, name: &str) -> bool {
        let OwnerLabels { daemon, slot, generation, mac } = labels;
        *daemon == self.daemon_id && self.key.verify_label_mac(daemon, "container", name, slot, *generation, mac)
    }

    /// What a container of the instance is made from.
    #[must_use]
    pub fn spec(&self, instance: &Instance, image_id: &str) -> ContainerSpec {
        let slot = &instance.slot;
        ContainerSpec {
            name: slot.container_name(),
            image_id: image_id.to_owned(),
            own_image: instance.image.is_none(),
            labels: self.labels(slot),
            uid: slot.uid,
            workspace: self.dirs.workspace(slot),
            run_dir: self.dirs.run(&slot.id),
            memory: instance.memory,
            nano_cpus: instance.nano_cpus,
            pids: instance.pids,
            stop_timeout: self.config.load().restart.stop_grace,
        }
    }

    /// What the instance's door is made from.
    #[must_use]
    pub fn door(&self, slot: &Slot, facts: &Facts) -> DoorSpec {
        DoorSpec {
            slot: slot.id.clone(),
            dir: self.dirs.run(&slot.id),
            host_uid: facts.remap_base + slot.uid,
            nonce: self.key.slot_nonce(&slot.id),
        }
    }

    /// What the agent of a slot must show and is told at hello.
    ///
    /// # Errors
    /// Storage errors: whose agent it is cannot be said now.
    pub async fn introduction(&self, slot: &SlotId) -> Result<(Secret<String>, Introduction)> {
        let of = slot.clone();
        let instance = self.store.read(move |conn| instances::in_slot(conn, &of)).await?;
        let config = instance.as_ref().and_then(|found| serde_json::from_str(&found.config).ok());
        let introduction = Introduction {
            name: instance.as_ref().map(|found| found.name.clone()),
            model: instance.as_ref().map(|found| found.model.clone()),
            instance: instance.map(|found| found.id),
            config: config.unwrap_or_else(|| serde_json::json!({})),
            beat: self.config.load().beat.period,
        };
        Ok((self.key.slot_nonce(slot), introduction))
    }
}

/// The deadlines that a configuration gives.
#[must_use]
pub fn deadlines(config: &Config) -> Deadlines {
    let beats = |count: u32| config.beat.period.saturating_mul(count).max(Duration::from_millis(1));
    Deadlines {
        hello: config.beat.hello_timeout,
        unhealthy: beats(config.beat.unhealthy_after),
        restart: beats(config.beat.restart_after),
        forgive: config.restart.healthy_after,
        loop_after: config.restart.crash_loop_after,
        longest_pause: config.restart.max,
    }
}
