//! What must be true after every story.

use std::collections::{BTreeMap, BTreeSet};

use agentbot_wire::{InstanceView, Phase};

use super::daemon::Daemon;
use super::hardening::inspect_deviations;
use super::poll::eventually;
use super::verbs::SOON;

impl Daemon {
    /// Checks: every operation ended; no container without a row, no row without its container; at most one container of
    /// each slot; every container hardened; nothing reported unknown; the engine's state is what the phase says.
    ///
    /// # Panics
    /// When one of these does not hold, or does not settle in time.
    pub async fn invariants(&self) {
        self.quiet().await;
        let status = self.status().await;
        assert_eq!(status.safe_mode, None, "safe mode");
        let mut views: BTreeMap<String, InstanceView> = BTreeMap::new();
        for entry in self.agents().await {
            let view: InstanceView = self.get(&format!("/api/instance/{}", entry.id)).await.expect(200).json();
            let (slot, name) = (view.slot.to_string(), view.name.clone());
            assert!(views.insert(slot.clone(), view).is_none(), "two agents in slot {slot}, one of them {name}");
        }
        let mut housed = BTreeSet::new();
        for container in self.engine().labelled(Some(&status.daemon_id)).await {
            let id = container["Id"].as_str().expect("a listed container has an id");
            if status
                .unknown_containers
                .iter()
                .any(|unknown| id.starts_with(unknown) || container["Names"].to_string().contains(unknown))
            {
                continue;
            }
            let slot = container["Labels"]["io.agentbot.slot"].as_str().expect("a slot label").to_owned();
            let view = views.get(&slot).unwrap_or_else(|| panic!("container {id} of slot {slot} has no agent"));
            assert!(housed.insert(slot.clone()), "two containers of slot {slot}, agent {}", view.name);
            let known =
                view.container.as_ref().unwrap_or_else(|| panic!("{} does not know its container {id}", view.name));
            assert_eq!(known.id, id, "{} knows another container than the engine has", view.name);
            let inspected = self.engine().inspect(id).await.expect("a listed container can be inspected");
            assert_eq!(
                inspected["Name"],
                format!(
                    "/ab-{slot}-{}",
                    inspected["Config"]["Labels"]["io.agentbot.gen"].as_str().expect("a generation")
                ),
                "the container's name"
            );
            let deviations = inspect_deviations(&inspected, &view.limits);
            assert!(deviations.is_empty(), "{} is not hardened: {deviations:#?}", view.name);
            let runs = inspected["State"]["Running"] == true;
            match view.phase {
                Phase::Running => assert!(runs, "{} is said to run", view.name),
                Phase::Stopped => assert!(!runs, "{} is said to be stopped", view.name),
                Phase::Deleted => panic!("{} is deleted and has a container", view.name),
                _ => {}
            }
        }
        for (slot, view) in &views {
            let wanted = matches!(view.phase, Phase::Running | Phase::Unhealthy);
            assert!(!wanted || housed.contains(slot), "{} is said to be {} without a container", view.name, view.phase);
        }
    }

    /// Waits until no operation is open.
    ///
    /// # Panics
    /// When one stays open.
    pub async fn quiet(&self) {
        eventually("every operation to end", SOON, async || {
            let open: Vec<_> = self.operations().await.into_iter().filter(|op| !op.status.is_ended()).collect();
            if open.is_empty() { Ok(()) } else { Err(format!("{open:?}")) }
        })
        .await;
        assert_eq!(self.status().await.operations_open, 0, "the status counts what the list shows");
    }
}
