//! What is wrong with an agent, in sentences for a repair's report.

use super::plan::{Container, Situation};
use crate::engine::RunState;

/// Everything that can be seen to be wrong.
#[must_use]
pub fn findings(s: &Situation<'_>) -> Vec<String> {
    let mut found = Vec::new();
    match s.container {
        Container::Absent => found.push("the container is gone".to_owned()),
        Container::Foreign { id } => {
            found.push(format!("a container of somebody else has the agent's name: {}", short(id)));
        }
        Container::Ours { observed, drift } => {
            match observed.state {
                RunState::Running => {}
                RunState::Paused => found.push("the container is frozen".to_owned()),
                // Just made by whoever healed it; what was wrong before stands in the log of heals.
                RunState::Created => {}
                RunState::Exited => found.push("the container is not running".to_owned()),
                RunState::Dead => found.push("the engine gave the container up".to_owned()),
                RunState::Other => found.push("the engine is busy with the container".to_owned()),
            }
            if observed.name != s.instance.slot.container_name() {
                found.push(format!("the container was renamed to {}", observed.name));
            }
            found.extend(drift.iter().map(|drift| {
                format!("{} was changed: it is {} and should be {}", drift.field, drift.found, drift.wanted)
            }));
            found.extend(
                observed.risky.iter().map(|risky| format!("the container has a power it must not have: {risky}")),
            );
        }
    }
    if s.container.is_alive() && !s.vitals.alive {
        found.push("the agent is not connected".to_owned());
    } else if s.vitals.alive && s.vitals.silent_for >= s.deadlines.unhealthy {
        found.push(format!("the agent has been silent for {} s", s.vitals.silent_for.as_secs()));
    }
    if !s.workspace {
        found.push("the workspace directory is gone".to_owned());
    }
    if !s.door {
        found.push("the agent's socket was closed".to_owned());
    }
    if s.instance.crash_streak > 0 {
        let cause = s.instance.last_crash.as_deref().unwrap_or("of an unknown cause");
        found.push(format!("it ended unasked {} times lately, last: {cause}", s.instance.crash_streak));
    }
    found
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
