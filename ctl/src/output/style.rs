//! Colours and what they mean.

use agentbot_wire::{OperationStatus, Phase};
use anstyle::{AnsiColor, Style};

/// Well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// On its way.
pub const BUSY: Style = AnsiColor::Yellow.on_default();
/// Wrong.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// At rest, as wanted.
pub const REST: Style = Style::new().dimmed();
/// What to do next.
pub const HINT: Style = AnsiColor::Cyan.on_default();
/// Names of fields.
pub const LABEL: Style = Style::new().bold();

/// The colour of a phase.
#[must_use]
pub fn phase(phase: Phase) -> Style {
    match phase {
        Phase::Running => GOOD,
        Phase::Provisioning
        | Phase::Starting
        | Phase::Stopping
        | Phase::Updating
        | Phase::Repairing
        | Phase::Deleting => BUSY,
        Phase::Unhealthy | Phase::CrashLoop | Phase::DataLost | Phase::Failed => BAD,
        Phase::Stopped | Phase::Hibernated | Phase::Deleted => REST,
    }
}

/// The colour of an operation's status.
#[must_use]
pub fn operation(status: OperationStatus) -> Style {
    match status {
        OperationStatus::Pending | OperationStatus::Running | OperationStatus::Waiting => BUSY,
        OperationStatus::Succeeded => GOOD,
        OperationStatus::Failed => BAD,
        OperationStatus::Cancelled => REST,
    }
}
