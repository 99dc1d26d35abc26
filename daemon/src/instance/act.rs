//! Carries out one step. Each looks before it acts, or asks the engine for something that is fine to ask twice.

use std::sync::Arc;

use agentbot_wire::{Code, OperationKind};
use jiff::Timestamp;
use serde_json::json;

use super::context::Context;
use super::exit::{backoff, cause, fingerprint};
use super::memory::Memory;
use super::observe::Record;
use super::plan::{Container, Step, Why};
use super::{fault, operation};
use crate::engine::{Engine, Facts, Image, Observed};
use crate::error::{Error, Result};
use crate::events::{about, kind};
use crate::store::crashes::{self, Crash};
use crate::store::events::append;
use crate::store::instances;
use crate::store::operations::{self, Ending};
use crate::store::{Connection, images, messages, slots};

/// Log lines kept with a crash.
const LAST_LINES: u32 = 20;

/// What a step left behind beside its effect.
#[derive(Debug, Default)]
pub struct Outcome {
    /// A note for the operation's step.
    pub note: Option<String>,
    /// The agent is no more: row and files are gone.
    pub erased: bool,
}

/// Everything that a step works with.
pub struct Scene<'a> {
    /// The daemon's parts.
    pub context: &'a Context,
    /// What is remembered of slots.
    pub memory: &'a Memory,
    /// The agent.
    pub record: &'a Record,
    /// Its container.
    pub container: &'a Container,
    /// The engine's facts.
    pub facts: &'a Arc<Facts>,
    /// What a repair would find.
    pub findings: Vec<String>,
}

impl Scene<'_> {
    fn engine(&self) -> &Arc<dyn Engine> {
        self.context.presence.engine()
    }

    fn observed(&self) -> Result<&Observed> {
        match self.container {
            Container::Ours { observed, .. } => Ok(observed),
            _ => Err(Error::internal("a step was planned for a container that is not there")),
        }
    }
}

/// Carries out a step.
///
/// # Errors
/// Whatever the engine, the store or the file system said. Whether the step took effect is then unknown.
pub async fn act(scene: &Scene<'_>, step: &Step) -> Result<Outcome> {
    let Scene { context, record, .. } = scene;
    let slot = &record.instance.slot;
    match step {
        Step::Rest(_) => {}
        Step::Diagnose => return diagnose(scene).await,
        Step::Image => ensure_image(scene).await?,
        Step::Workspace => return make_workspace(scene).await,
        Step::Door => {
            if scene.facts.remap_base != 0 {
                context.dirs.let_pass(&slot.id).await?;
            }
            context.doors.open(context.door(slot, scene.facts)).await?;
        }
        Step::Create => create(scene).await?,
        Step::Adopt => adopt(scene).await?,
        Step::Rename => rename(scene).await?,
        Step::Unpause => {
            scene.engine().unpause(&scene.observed()?.id).await?;
            healed(scene, "the container was frozen and runs again", |_| Ok(())).await?;
        }
        Step::Start => start(scene).await?,
        Step::Stop => stop(scene).await?,
        Step::Kill(verdict) => {
            scene.memory.condemn(&slot.id, *verdict);
            scene.engine().kill(&scene.observed()?.id).await?;
        }
        Step::NoteExit { asked } => note_exit(scene, *asked).await?,
        Step::Forget => forget(scene).await?,
        Step::Discard(why) => discard(scene, *why).await?,
        Step::Evade => evade(scene).await?,
        Step::ServeRestart => {
            let seen = record.instance.clone();
            context.store.write(move |conn| instances::serve_restart(conn, &seen)).await?;
        }
        Step::ServeRebuild => return serve_rebuild(scene).await,
        Step::Forgive => {
            let id = record.instance.id.clone();
            context.store.write(move |conn| crashes::forgive(conn, &id)).await?;
        }
        Step::CloseDoor => {
            context.links.close(&slot.id);
            context.doors.close(&slot.id, &context.dirs.run(&slot.id)).await;
        }
        Step::Erase => return erase(scene).await,
    }
    Ok(Outcome::default())
}

/// Makes a change and says in the same commit what it put right.
async fn healed(
    scene: &Scene<'_>,
    what: &str,
    change: impl FnOnce(&Connection) -> Result<()> + Send + 'static,
) -> Result<()> {
    let event = about(&scene.record.instance, kind::HEALED, json!({"what": what}));
    tracing::info!(instance.id = %scene.record.instance.id, what, "healed");
    scene
        .context
        .store
        .write(move |conn| {
            change(conn)?;
            append(conn, &event).map(|_| ())
        })
        .await?;
    scene.context.events.publish();
    Ok(())
}

async fn diagnose(scene: &Scene<'_>) -> Result<Outcome> {
    let (id, since) = (scene.record.instance.id.clone(), lately());
    let healed = scene
        .context
        .store
        .read(move |conn| crate::store::events::payloads_since(conn, &id, kind::HEALED, since))
        .await?;
    let mut found = scene.findings.clone();
    for payload in healed {
        if let Some(what) = payload.get("what").and_then(|what| what.as_str()) {
            found.push(format!("{what} (healed before this repair)"));
        }
    }
    let found = if found.is_empty() { operation::NOTHING.to_owned() } else { found.join("\n") };
    Ok(Outcome { note: Some(found), erased: false })
}

/// A repair reports what was healed so shortly before it.
fn lately() -> Timestamp {
    Timestamp::now().checked_sub(jiff::SignedDuration::from_mins(15)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Own image: the one the slot knows if the engine still has it, else the one of this daemon, loaded when missing.
/// Foreign image: whatever the reference means on the engine now, unless the one the slot knows is still there.
async fn ensure_image(scene: &Scene<'_>) -> Result<()> {
    let Scene { context, record, facts, .. } = scene;
    let slot = &record.instance.slot;
    if let Some(known) = &slot.image_id
        && scene.engine().image_id(known).await?.is_some()
    {
        return Ok(());
    }
    let image = match &record.instance.image {
        Some(reference) => scene.engine().image(reference).await?.ok_or_else(|| {
            Error::new(Code::NotFound, format!("image: the engine has no `{reference}`"))
                .hint(format!("`docker pull {reference}` first; nothing is pulled by itself"))
        })?,
        None => Image { id: own_image(context, facts).await?, repo_digest: None },
    };
    let slot = slot.id.clone();
    context.store.write(move |conn| slots::set_image(conn, &slot, &image.id, image.repo_digest.as_deref())).await
}

/// Has the agent image of this daemon on the engine, and gives its id.
///
/// # Errors
/// When the binary cannot be read or the engine refuses the archive.
pub async fn own_image(context: &Context, facts: &Facts) -> Result<String> {
    let archive = context.image.archive(&facts.architecture).await?;
    let engine = context.presence.engine();
    // Agents that are made at once need it loaded once.
    let _turn = context.image.loading().await;
    if engine.image_id(&archive.image_id).await?.is_none() {
        engine.load_image(archive.bytes.clone()).await?;
        if engine.image_id(&archive.image_id).await?.is_none() {
            return Err(Error::new(Code::EngineRefused, "the engine loaded the agent image under another id")
                .hint("see `docker images agentbot/agent`"));
        }
    }
    let (id, reference) = (archive.image_id.clone(), archive.reference.clone());
    context.store.write(move |conn| images::record(conn, &id, &reference, Timestamp::now())).await?;
    Ok(archive.image_id.clone())
}

async fn make_workspace(scene: &Scene<'_>) -> Result<Outcome> {
    let Scene { context, record, facts, .. } = scene;
    let slot = &record.instance.slot;
    context.dirs.make_workspace(slot, facts.remap_base + slot.uid, facts.remap_base != 0).await?;
    let id = slot.id.clone();
    context.store.write(move |conn| slots::set_workspace_made(conn, &id)).await?;
    let note = (slot.workspace_gen > 1).then(|| "made a new, empty workspace: the old one was gone".to_owned());
    Ok(Outcome { note, erased: false })
}

async fn create(scene: &Scene<'_>) -> Result<()> {
    let Scene { context, record, facts, .. } = scene;
    let slot = &record.instance.slot;
    let image = slot.image_id.as_deref().ok_or_else(|| Error::internal("no image was chosen"))?;
    let spec = context.spec(&record.instance, image);
    let id = scene.engine().create(&spec, facts).await?;
    let slot = slot.id.clone();
    context.store.write(move |conn| slots::set_container(conn, &slot, &id)).await
}

async fn adopt(scene: &Scene<'_>) -> Result<()> {
    let (slot, id) = (scene.record.instance.slot.id.clone(), scene.observed()?.id.clone());
    scene.context.store.write(move |conn| slots::set_container(conn, &slot, &id)).await
}

async fn rename(scene: &Scene<'_>) -> Result<()> {
    let wanted = scene.record.instance.slot.container_name();
    match scene.engine().rename(&scene.observed()?.id, &wanted).await {
        Ok(()) => healed(scene, &format!("the container was renamed to {}", scene.observed()?.name), |_| Ok(())).await,
        // Somebody took the name meanwhile; a new generation has another one.
        Err(error) if error.code() == Code::Conflict => discard(scene, Why::Changed).await,
        Err(error) => Err(error),
    }
}

async fn start(scene: &Scene<'_>) -> Result<()> {
    let Scene { context, record, .. } = scene;
    scene.engine().start(&scene.observed()?.id).await?;
    let (id, now) = (record.instance.id.clone(), Timestamp::now());
    context.store.write(move |conn| instances::set_runtime(conn, &id, None, Some(now))).await
}

async fn stop(scene: &Scene<'_>) -> Result<()> {
    let Scene { context, record, .. } = scene;
    let frame = agentbot_wire::Frame::request("drain", agentbot_wire::method::DRAIN, serde_json::Value::Null);
    context.links.send(&record.instance.slot.id, &frame);
    scene.engine().stop(&scene.observed()?.id, context.config.load().restart.stop_grace).await
}

async fn note_exit(scene: &Scene<'_>, asked: bool) -> Result<()> {
    let Scene { context, record, memory, .. } = scene;
    let observed = scene.observed()?;
    let Some(exit) = &observed.exit else { return Ok(()) };
    let fingerprint = fingerprint(observed, exit);
    let verdict = memory.take_verdict(&record.instance.slot.id);
    let now = Timestamp::now();
    let crash = if asked {
        None
    } else {
        let restart = &context.config.load().restart;
        let pause = backoff(record.instance.crash_streak, restart.base, restart.max);
        // Without its last words a crash is still a crash.
        let last_lines = scene.engine().last_lines(&observed.id, LAST_LINES).await.unwrap_or_default();
        Some(Crash {
            cause: cause(exit, verdict),
            last_lines,
            next_start_at: now.checked_add(pause).unwrap_or(Timestamp::MAX),
        })
    };
    if let Some(crash) = &crash {
        tracing::warn!(instance.id = %record.instance.id, cause = crash.cause, streak = record.instance.crash_streak + 1, "agent ended unasked");
    }
    let seen = record.instance.clone();
    context
        .store
        .write(move |conn| {
            crashes::note_exit(conn, &seen, &fingerprint, crash.as_ref(), now)?;
            if let Some(crash) = &crash {
                let payload = json!({"agent": seen.name, "cause": crash.cause, "next_start_at": crash.next_start_at});
                append(conn, &about(&seen, kind::CRASHED, payload))?;
            }
            Ok(())
        })
        .await?;
    context.events.publish();
    Ok(())
}

async fn forget(scene: &Scene<'_>) -> Result<()> {
    let Scene { context, record, .. } = scene;
    let slot = record.instance.slot.clone();
    if record.instance.desired.is_gone() {
        return context.store.write(move |conn| slots::next_container(conn, &slot)).await;
    }
    let what = "the container was removed by somebody; a new one takes its place when it is wanted";
    healed(scene, what, move |conn| slots::next_container(conn, &slot)).await
}

async fn discard(scene: &Scene<'_>, why: Why) -> Result<()> {
    let Scene { context, record, container, .. } = scene;
    let slot = record.instance.slot.clone();
    scene.engine().remove(&scene.observed()?.id).await?;
    let turn = move |conn: &Connection| slots::next_container(conn, &slot);
    let Container::Ours { observed, drift } = container else { return Ok(()) };
    let fields: Vec<String> = drift.iter().map(|drift| drift.field.to_string()).chain(observed.risky.clone()).collect();
    match why {
        Why::Rebuild | Why::Deleted => context.store.write(turn).await,
        Why::Changed => {
            healed(scene, &format!("the container was changed by somebody: {}", fields.join(", ")), turn).await
        }
        Why::Unsafe => {
            context.store.write(turn).await?;
            Err(Error::new(
                Code::NotHardened,
                format!("the engine made a container that differs from what was asked for: {}", fields.join(", ")),
            )
            .hint("the container was removed unstarted; look at the engine's defaults and version"))
        }
    }
}

async fn evade(scene: &Scene<'_>) -> Result<()> {
    let Scene { context, record, container, .. } = scene;
    let (slot, name) = (record.instance.slot.clone(), record.instance.slot.container_name());
    let Container::Foreign { id } = container else { return Ok(()) };
    tracing::warn!(instance.id = %record.instance.id, container.name = name, container.id = id, "a foreign container has our name; it is left alone");
    let event = about(&record.instance, kind::FOREIGN, json!({"name": name, "container": id}));
    context
        .store
        .write(move |conn| {
            slots::next_container(conn, &slot)?;
            append(conn, &event).map(|_| ())
        })
        .await?;
    context.events.publish();
    Ok(())
}

async fn serve_rebuild(scene: &Scene<'_>) -> Result<Outcome> {
    let Scene { context, record, .. } = scene;
    let seen = record.instance.clone();
    let lost = seen.slot.workspace_made && !context.dirs.has_workspace(&seen.slot).await;
    context
        .store
        .write(move |conn| {
            slots::next_container(conn, &seen.slot)?;
            if lost {
                slots::next_workspace(conn, &seen.slot.id)?;
            }
            instances::serve_rebuild(conn, &seen)
        })
        .await?;
    Ok(Outcome::default())
}

async fn erase(scene: &Scene<'_>) -> Result<Outcome> {
    let Scene { context, record, memory, .. } = scene;
    let slot = record.instance.slot.id.clone();
    context.dirs.remove(&slot).await?;
    memory.forget(&slot);
    // What was said is removed in batches first: the row would take all of it along in one change.
    loop {
        let id = record.instance.id.clone();
        if context.store.write(move |conn| messages::remove_some(conn, &id)).await? == 0 {
            break;
        }
    }
    let (seen, open) = (record.instance.clone(), record.operation.clone());
    fault::point("purge", "end", "before");
    context
        .store
        .write(move |conn| {
            instances::remove(conn, &seen.id)?;
            slots::remove(conn, &seen.slot.id)?;
            append(conn, &about(&seen, kind::PURGED, json!({"agent": seen.name})))?;
            if let Some(mut open) = open {
                let now = Timestamp::now();
                operation::finish(&mut open, now);
                debug_assert_eq!(open.kind, OperationKind::Purge);
                operations::end(conn, &open, &Ending::Succeeded(json!({"status": "deleted", "purged": true})), now)?;
            }
            Ok(())
        })
        .await?;
    fault::point("purge", "end", "after");
    context.events.publish();
    super::housekeeping::remove_superseded_images(context).await;
    Ok(Outcome { note: None, erased: true })
}
