//! Compares the engine's list with what is known: which slots need a look, which containers are left over, which only
//! pretend to be ours.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agentbot_wire::{Phase, SlotId};
use tokio::time::Instant;

use super::context::Context;
use crate::engine::{Listed, OwnerLabels, RunState};
use crate::error::Result;
use crate::store::Desired;
use crate::store::instances::{self, Instance};

/// A container of ours that no row wants is removed when it has been seen for so long.
const GRACE: Duration = Duration::from_secs(60);
/// Every agent is looked at so often even when nothing seems to have changed.
const FULL: Duration = Duration::from_secs(60);
/// More left-over containers than this, and more than one in five, are a mismatch and not a left-over.
const MANY: usize = 3;

/// What the audits remember.
#[derive(Clone, Default)]
pub struct Audit {
    strays: HashMap<String, Instant>,
    last_full: Option<Instant>,
    unknown: Arc<Mutex<BTreeSet<String>>>,
    mismatch: Arc<Mutex<Option<String>>>,
}

impl Audit {
    /// Containers that carry our labels and are not ours, by name.
    #[must_use]
    pub fn unknown(&self) -> Vec<String> {
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Why nothing that is left over is removed, if that is so.
    #[must_use]
    pub fn mismatch(&self) -> Option<String> {
        self.mismatch.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a listed container is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The one that its slot's row names, or would name.
    Known,
    /// Ours by its mac, but no row wants it.
    Stray,
    /// Labelled like ours, and not ours.
    Unknown,
}

fn standing(listed: &Listed, rows: &HashMap<&SlotId, &Instance>, is_ours: impl Fn(&OwnerLabels) -> bool) -> Standing {
    let Some(labels) = &listed.labels else { return Standing::Unknown };
    if rows.values().any(|row| row.slot.container_id.as_deref() == Some(listed.id.as_str())) {
        return Standing::Known;
    }
    if !is_ours(labels) {
        return Standing::Unknown;
    }
    match rows.get(&labels.slot) {
        Some(row) if row.slot.container_id.is_none() && listed.name == row.slot.container_name() => Standing::Known,
        _ => Standing::Stray,
    }
}

/// Whether the list shows what the row's phase says.
fn agrees(instance: &Instance, listed: Option<&Listed>) -> bool {
    let name = instance.slot.container_name();
    let state = listed.map(|listed| listed.state);
    let named = listed.is_none_or(|listed| listed.name == name);
    let settled = match (instance.desired, instance.phase) {
        (Desired::Running, Phase::Running | Phase::Unhealthy | Phase::CrashLoop) => state == Some(RunState::Running),
        (Desired::Stopped, Phase::Stopped) => !matches!(state, Some(RunState::Running | RunState::Paused)),
        (Desired::Deleted, Phase::Deleted) => state.is_none(),
        // On its way, or in trouble: whoever works on it set a time to look again.
        _ => true,
    };
    named && settled
}

/// What a look around found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Slots that need a look.
    pub slots: Vec<SlotId>,
    /// Containers of ours that nothing has wanted for a while: to be removed.
    pub left_over: Vec<Listed>,
}

/// Lists the containers and compares them with what is known.
///
/// # Errors
/// When the engine does not answer or the store cannot be read.
pub async fn look_around(context: &Context, audit: &mut Audit) -> Result<Findings> {
    let listed = context.presence.engine().list(&context.daemon_id).await?;
    // Read after the list: what is created between the two is then at worst looked at once too often.
    let all = context.store.read(instances::all).await?;
    let rows: HashMap<&SlotId, &Instance> = all.iter().map(|instance| (&instance.slot.id, instance)).collect();
    let mut by_slot: HashMap<&SlotId, &Listed> = HashMap::new();
    let (mut strays, mut unknown) = (Vec::new(), BTreeSet::new());
    for container in &listed {
        let is_ours = |labels: &OwnerLabels| context.is_ours(labels, &container.name);
        match (standing(container, &rows, is_ours), &container.labels) {
            (Standing::Known, Some(labels)) => {
                by_slot.insert(&labels.slot, container);
            }
            (Standing::Stray, _) => strays.push(container),
            _ => {
                unknown.insert(container.name.clone());
            }
        }
    }
    report_unknown(audit, unknown);
    let left_over = left_over(audit, &strays, listed.len());
    let full = audit.last_full.is_none_or(|last| last.elapsed() >= FULL);
    if full {
        audit.last_full = Some(Instant::now());
    }
    let slots = all
        .iter()
        .filter(|instance| full || !agrees(instance, by_slot.get(&instance.slot.id).copied()))
        .map(|instance| instance.slot.id.clone())
        .collect();
    Ok(Findings { slots, left_over })
}

fn report_unknown(audit: &Audit, unknown: BTreeSet<String>) {
    let mut known = audit.unknown.lock().unwrap_or_else(PoisonError::into_inner);
    for name in unknown.difference(&known) {
        tracing::warn!(container.name = name, "a container carries our labels and is not ours; it is left alone");
    }
    *known = unknown;
}

/// Containers of ours that no row has wanted for a while, unless they are so many that the rows are more likely to be
/// wrong than the containers.
fn left_over(audit: &mut Audit, strays: &[&Listed], listed: usize) -> Vec<Listed> {
    let now = Instant::now();
    audit.strays.retain(|id, _| strays.iter().any(|stray| stray.id == *id));
    for stray in strays {
        audit.strays.entry(stray.id.clone()).or_insert(now);
    }
    let mismatch = strays.len() > MANY && strays.len() * 5 > listed;
    let said = mismatch.then(|| {
        format!("{} of {listed} containers of this daemon are unknown to its database; none is removed", strays.len())
    });
    {
        let mut told = audit.mismatch.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(said), None) = (&said, &*told) {
            tracing::error!(reason = said, "mass mismatch");
        }
        *told = said;
    }
    if mismatch {
        return Vec::new();
    }
    let long = |stray: &&&Listed| audit.strays.get(&stray.id).is_some_and(|seen| seen.elapsed() >= GRACE);
    strays.iter().filter(long).map(|stray| (*stray).clone()).collect()
}

/// Removes what is left over. What the engine will not remove now is found again.
pub async fn sweep(context: &Context, left_over: Vec<Listed>) {
    for stray in left_over {
        tracing::info!(container.name = stray.name, "removing a container of ours that nothing wants");
        if let Err(error) = context.presence.engine().remove(&stray.id).await {
            tracing::warn!(container.name = stray.name, %error, "it stays for now");
        }
    }
}
