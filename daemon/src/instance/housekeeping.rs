//! What goes by itself: images that nothing runs any more, deleted agents past their undo time, the rest of a removal that
//! was cut off, old idempotency keys, events, ended operations and calls of models.

use std::sync::Arc;

use agentbot_wire::OperationKind;
use jiff::{SignedDuration, Timestamp};

use super::context::Context;
use super::operation;
use crate::error::Result;
use crate::events::{kind, of_operation};
use crate::identity::Actor;
use crate::store::instances;
use crate::store::{Connection, events, idempotency, images, messages, model_calls, operations};
use crate::store::{Desired, Wish};
use crate::task::Task;

/// Removes the agent images that this daemon loaded and that nothing needs any more. One that is still in use, or that
/// the engine will not remove for another reason, is tried again next time.
pub async fn remove_superseded_images(context: &Context) {
    let Ok(facts) = context.presence.facts() else { return };
    let Ok(archive) = context.image.archive(&facts.architecture).await else { return };
    let current = archive.image_id.clone();
    let Ok(superseded) = context.store.read(move |conn| images::superseded(conn, &current)).await else { return };
    for id in superseded {
        match context.presence.engine().remove_image(&id).await {
            Ok(()) => {
                let forget = context.store.write(move |conn| images::forget(conn, &id)).await;
                if let Err(error) = forget {
                    tracing::warn!(%error, "a removed image could not be forgotten");
                }
            }
            Err(error) => tracing::debug!(image.id = id, %error, "a superseded image stays for now"),
        }
    }
}

/// The task that does it once in a while.
pub struct Housekeeping(pub Arc<Context>);

impl Task for Housekeeping {
    fn name(&self) -> &'static str {
        "housekeeping"
    }

    async fn activate(&mut self) -> Result<String> {
        let context = &self.0;
        if let Err(error) = context.dirs.sweep().await {
            tracing::warn!(%error, "the rest of a purged agent stays for now");
        }
        let purged = purge_expired(context).await?;
        let config = context.config.load();
        let (keys_before, events_before) = (ago(config.events.idempotency_retention), ago(config.events.retention));
        let keys = context.store.write(move |conn| idempotency::trim(conn, keys_before)).await?;
        let old = trim(context, events::trim, events_before).await?;
        let ended = trim(context, operations::trim, events_before).await?;
        let calls = trim(context, model_calls::trim, events_before).await?;
        trim(context, messages::forget_keys, keys_before).await?;
        remove_superseded_images(context).await;
        Ok(format!(
            "{purged} deleted agents, {keys} idempotency keys, {old} events, {ended} operations, {calls} model calls"
        ))
    }
}

/// Removes what is from before a time, in batches, so that nobody waits long for the writer; says how many there were.
async fn trim(
    context: &Context,
    batch: fn(&Connection, Timestamp) -> Result<usize>,
    before: Timestamp,
) -> Result<usize> {
    let mut gone = 0;
    loop {
        let went = context.store.write(move |conn| batch(conn, before)).await?;
        gone += went;
        if went < events::TRIM_BATCH {
            return Ok(gone);
        }
    }
}

fn ago(period: std::time::Duration) -> Timestamp {
    SignedDuration::try_from(period)
        .ok()
        .and_then(|period| Timestamp::now().checked_sub(period).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Has deleted agents purged whose undo time is over.
async fn purge_expired(context: &Context) -> Result<usize> {
    let before = ago(context.config.load().events.deleted_retention);
    let expired = context
        .store
        .write(move |conn| {
            let mut expired = Vec::new();
            for instance in instances::all(conn)? {
                let due = instance.deleted_at.is_some_and(|at| at < before) && instance.desired == Desired::Deleted;
                if !due || operations::open(conn, &instance.id)?.is_some() {
                    continue;
                }
                let now = Timestamp::now();
                let purge =
                    operation::new(OperationKind::Purge, &instance.id, instance.name.as_str(), &Actor::System, now);
                let wish = Wish {
                    desired: Desired::Purged,
                    restart: false,
                    rebuild: false,
                    phase: agentbot_wire::Phase::Deleting,
                };
                operations::insert(conn, &instance.tenant, &purge)?;
                instances::wish(conn, &instance, &wish, now)?;
                let payload = serde_json::json!({"kind": purge.kind, "because": "its undo time is over"});
                let actor = Actor::System.to_string();
                events::append(
                    conn,
                    &of_operation(&instance.tenant, &instance.id, &purge.id, &actor, kind::ACCEPTED, payload),
                )?;
                expired.push(instance.slot.id);
            }
            Ok(expired)
        })
        .await?;
    context.events.publish();
    let count = expired.len();
    for slot in expired {
        context.asks.mark(slot);
    }
    Ok(count)
}
