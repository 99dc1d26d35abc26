//! Operations as values: their steps, how they move, and what they end with.

use agentbot_wire::{
    ApiError, Code, InstanceId, Operation, OperationId, OperationKind, OperationStatus, Phase, RepairReport, Step,
    StepStatus,
};
use jiff::Timestamp;
use serde_json::json;

use crate::identity::Actor;
use crate::store::instances::Instance;
use crate::store::operations::Ending;

/// The steps that an operation of a kind is expected to take, in order. One that turns out not to be needed is skipped,
/// one that turns out to be needed is added.
#[must_use]
pub fn steps_of(kind: OperationKind) -> &'static [&'static str] {
    match kind {
        OperationKind::Provision => &["image", "workspace", "socket", "create", "verify", "start", "hello"],
        OperationKind::Undelete => &["image", "socket", "create", "verify", "start", "hello"],
        OperationKind::Start => &["socket", "start", "hello"],
        OperationKind::Stop => &["stop"],
        OperationKind::Restart => &["stop", "start", "hello"],
        OperationKind::Repair => &["diagnose", "stop", "remove", "image", "create", "verify", "start", "hello"],
        OperationKind::Delete => &["stop", "remove"],
        OperationKind::Purge => &["stop", "remove", "files"],
    }
}

/// A new operation, not begun.
#[must_use]
pub fn new(kind: OperationKind, instance: &InstanceId, name: &str, actor: &Actor, now: Timestamp) -> Operation {
    Operation {
        id: OperationId::mint(),
        kind,
        agent: instance.clone(),
        agent_name: name.to_owned(),
        status: OperationStatus::Pending,
        steps: steps_of(kind).iter().map(|name| Step::pending(name)).collect(),
        progress: 0.0,
        actor: actor.to_string(),
        result: None,
        error: None,
        created_at: now,
        updated_at: now,
    }
}

/// An operation whose aim was reached before it was asked for.
#[must_use]
pub fn already(kind: OperationKind, instance: &Instance, actor: &Actor, now: Timestamp) -> Operation {
    let mut operation = new(kind, &instance.id, instance.name.as_str(), actor, now);
    operation.status = OperationStatus::Succeeded;
    operation.steps.clear();
    operation.progress = 1.0;
    operation.result = Some(json!({"status": instance.phase, "already": true}));
    operation
}

/// Marks a step as begun, and whatever was under way before it as done.
pub fn begin(operation: &mut Operation, name: &str, now: Timestamp) {
    finish(operation, now);
    operation.status = OperationStatus::Running;
    let next = operation.steps.iter().position(|step| step.name == name && step.status == StepStatus::Pending);
    let at = next.unwrap_or_else(|| {
        let at = operation.steps.iter().rposition(|step| step.started_at.is_some()).map_or(0, |last| last + 1);
        operation.steps.insert(at, Step::pending(name));
        at
    });
    for (index, step) in operation.steps.iter_mut().enumerate() {
        if index < at && step.status == StepStatus::Pending {
            step.status = StepStatus::Skipped;
        }
    }
    let step = &mut operation.steps[at];
    step.status = StepStatus::Running;
    step.started_at = Some(now);
}

/// Marks whatever is under way as done.
pub fn finish(operation: &mut Operation, now: Timestamp) {
    for step in operation.steps.iter_mut().filter(|step| step.status == StepStatus::Running) {
        step.status = StepStatus::Succeeded;
        step.ended_at = Some(now);
    }
}

/// Puts the step under way back, with why: it will be tried again.
pub fn put_off(operation: &mut Operation, why: &str) {
    operation.status = OperationStatus::Waiting;
    for step in operation.steps.iter_mut().filter(|step| step.status == StepStatus::Running) {
        step.status = StepStatus::Pending;
        step.detail = Some(why.to_owned());
    }
}

/// The name of the step under way.
#[must_use]
pub fn current(operation: &Operation) -> Option<&str> {
    operation.steps.iter().find(|step| step.status == StepStatus::Running).map(|step| step.name.as_str())
}

/// Whether a step of that name has ended well.
#[must_use]
pub fn has_done(operation: &Operation, name: &str) -> bool {
    operation.steps.iter().any(|step| step.name == name && step.status == StepStatus::Succeeded)
}

/// Writes a note to the newest step of that name.
pub fn note(operation: &mut Operation, name: &str, detail: String) {
    if let Some(step) = operation.steps.iter_mut().rfind(|step| step.name == name) {
        step.detail = Some(detail);
    }
}

/// What a diagnosis says of an agent with which nothing is wrong.
pub const NOTHING: &str = "nothing is wrong";

/// What an operation gives when its aim is reached.
#[must_use]
pub fn success(operation: &Operation, phase: Phase) -> Ending {
    let mut result = json!({ "status": phase });
    if operation.kind == OperationKind::Repair {
        result["report"] = json!(report(operation));
    }
    Ending::Succeeded(result)
}

fn report(operation: &Operation) -> RepairReport {
    let findings = operation
        .steps
        .iter()
        .find(|step| step.name == "diagnose")
        .and_then(|step| step.detail.as_deref())
        .filter(|detail| *detail != NOTHING)
        .map(|detail| detail.lines().map(str::to_owned).collect())
        .unwrap_or_default();
    let said = |name: &str, sentence: &str| has_done(operation, name).then(|| sentence.to_owned());
    let workspace = operation.steps.iter().find(|step| step.name == "workspace").and_then(|step| step.detail.clone());
    let actions = [
        said("stop", "stopped the agent"),
        said("remove", "removed the old container"),
        said("image", "checked the image"),
        Some(workspace.unwrap_or_else(|| "kept the workspace as it was".to_owned())),
        said("create", "created a new container and verified its hardening"),
        said("start", "started it and heard its hello"),
    ];
    RepairReport { findings, actions: actions.into_iter().flatten().collect(), left: Vec::new() }
}

/// The end of an operation that another one won over.
#[must_use]
pub fn superseded(by: &Operation) -> Ending {
    Ending::Cancelled(ApiError {
        code: Code::Superseded,
        message: format!("`{}` won over it", by.kind),
        hint: Some(format!("follow {} instead", by.id)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provision() -> Operation {
        new(OperationKind::Provision, &InstanceId::mint(), "a", &Actor::System, Timestamp::UNIX_EPOCH)
    }

    fn statuses(operation: &Operation) -> Vec<(&str, StepStatus)> {
        operation.steps.iter().map(|step| (step.name.as_str(), step.status)).collect()
    }

    #[test]
    fn a_step_begun_ends_the_one_before_and_skips_what_was_not_needed() {
        let mut operation = provision();
        begin(&mut operation, "image", Timestamp::UNIX_EPOCH);
        begin(&mut operation, "create", Timestamp::UNIX_EPOCH);
        assert_eq!(
            statuses(&operation)[..4],
            [
                ("image", StepStatus::Succeeded),
                ("workspace", StepStatus::Skipped),
                ("socket", StepStatus::Skipped),
                ("create", StepStatus::Running),
            ]
        );
        assert_eq!(current(&operation), Some("create"));
    }

    #[test]
    fn a_step_nobody_expected_is_added_behind_the_last_one_begun() {
        let mut operation = provision();
        begin(&mut operation, "image", Timestamp::UNIX_EPOCH);
        begin(&mut operation, "remove", Timestamp::UNIX_EPOCH);
        assert_eq!(statuses(&operation)[1], ("remove", StepStatus::Running));
    }

    #[test]
    fn a_step_put_off_is_begun_again_and_not_twice_in_the_list() {
        let mut operation = provision();
        begin(&mut operation, "image", Timestamp::UNIX_EPOCH);
        put_off(&mut operation, "the engine is away");
        assert_eq!(operation.status, OperationStatus::Waiting);
        begin(&mut operation, "image", Timestamp::UNIX_EPOCH);
        assert_eq!(operation.steps.len(), steps_of(OperationKind::Provision).len());
    }

    #[test]
    fn a_repair_reports_what_it_found_and_did() {
        let mut operation = new(OperationKind::Repair, &InstanceId::mint(), "a", &Actor::System, Timestamp::UNIX_EPOCH);
        begin(&mut operation, "diagnose", Timestamp::UNIX_EPOCH);
        note(&mut operation, "diagnose", "the container is gone\nthe socket is closed".to_owned());
        begin(&mut operation, "create", Timestamp::UNIX_EPOCH);
        begin(&mut operation, "hello", Timestamp::UNIX_EPOCH);
        let report = report(&operation);
        assert_eq!(report.findings, ["the container is gone", "the socket is closed"]);
        assert_eq!(report.actions.len(), 2);
        assert!(report.left.is_empty());
    }
}
