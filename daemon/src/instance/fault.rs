//! Points at which a test build can end the daemon as `kill -9` would, to prove that what follows heals it.

use agentbot_wire::OperationKind;

use super::operation::steps_of;

/// Dies here if the fault point of that name is armed; nothing in a build without the feature `fault`.
#[cfg(feature = "fault")]
pub fn point(kind: &str, step: &str, side: &str) {
    let die = |name: String| {
        fail::fail_point!(name.as_str(), |_| {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
        });
    };
    die(format!("{kind}.{step}.{side}"));
}

/// Nothing: this build has no fault points.
#[cfg(not(feature = "fault"))]
pub fn point(_kind: &str, _step: &str, _side: &str) {}

/// The name of every fault point: before and after each step of each operation, and around accepting and ending it.
#[must_use]
pub fn names() -> Vec<String> {
    let mut names = Vec::new();
    for kind in OperationKind::ALL {
        let steps = std::iter::once("accept").chain(steps_of(*kind).iter().copied()).chain(std::iter::once("end"));
        for step in steps {
            for side in ["before", "after"] {
                names.push(format!("{kind}.{step}.{side}"));
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_of_every_operation_has_a_point_on_both_sides() {
        let names = names();
        for kind in OperationKind::ALL {
            for step in steps_of(*kind) {
                for side in ["before", "after"] {
                    assert!(names.contains(&format!("{kind}.{step}.{side}")));
                }
            }
        }
    }
}
