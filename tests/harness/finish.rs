//! The end of a story: nothing may be left on the machine.

use std::path::Path;

use super::daemon::{Daemon, EXIT};
use super::engine::Engine;
use super::home::Home;
use super::leftovers::{mounts_below, processes_naming, sockets_below};
use super::poll::eventually;

const LOG_SHOWN: usize = 16_000;

impl Daemon {
    /// Checks the invariants, ends the daemon, removes its containers and checks that nothing else is left. Gives the
    /// directories, for whoever has mounted something there.
    ///
    /// # Panics
    /// When an invariant does not hold or something is left.
    pub async fn finish(mut self) -> Home {
        if self.child.is_none() {
            self.restart().await;
        }
        self.invariants().await;
        let exited = self.sigterm().await;
        assert!(exited.status.success(), "the daemon ended with {}:\n{}", exited.status, exited.stderr);
        self.tidy().await;
        self.finished = true;
        std::mem::take(&mut self.home)
    }

    /// Like [`Daemon::finish`] for a story that breaks what the invariants need, such as its only engine.
    ///
    /// # Panics
    /// When something is left.
    pub async fn abandon(mut self) {
        if self.child.is_some() {
            self.kill9().await;
        }
        self.tidy().await;
        self.finished = true;
    }

    async fn tidy(&self) {
        remove_containers(&self.engine, &self.home.state()).await;
        let home = self.home.path();
        eventually("every process of the daemon to be gone", EXIT, async || {
            let left = processes_naming(home);
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
        let state = self.home.state();
        let mounts: Vec<String> = mounts_below(home).into_iter().filter(|point| Path::new(point) != state).collect();
        assert!(mounts.is_empty(), "left mounted: {mounts:?}");
    }

    /// Checks that agents left nothing: no container, no slot directory, no agent socket, no mount.
    ///
    /// # Panics
    /// When something is left.
    pub async fn nothing_left(&self) {
        let id = self.status().await.daemon_id;
        assert_eq!(self.engine.labelled(Some(&id)).await, Vec::<serde_json::Value>::new(), "containers");
        let slots: Vec<_> = std::fs::read_dir(self.home.state().join("slots")).expect("slots").flatten().collect();
        assert!(slots.is_empty(), "slot directories: {slots:?}");
        let sockets = sockets_below(&self.home.state());
        assert!(sockets.is_empty(), "sockets: {sockets:?}");
        let mounts = mounts_below(&self.home.state());
        assert!(mounts.is_empty(), "mounts: {mounts:?}");
    }
}

async fn remove_containers(engine: &Engine, state: &Path) {
    if !engine.answers().await {
        return;
    }
    for container in engine.mounting(state).await {
        engine.remove(container["Id"].as_str().unwrap_or_default()).await;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let failing = std::thread::panicking();
        if failing {
            let log = self.log_since_start();
            let from = log.char_indices().rev().nth(LOG_SHOWN).map_or(0, |(index, _)| index);
            eprintln!("--- the daemon's log since its last start ---\n{}--- end ---", &log[from..]);
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.start_kill();
        }
        let (engine, state) = (&self.engine, self.home.state());
        // Dropping cannot wait for futures, and this thread may be driving some: another one does it.
        let removed = std::thread::scope(|scope| {
            let remove = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(remove_containers(engine, &state));
            };
            scope.spawn(remove).join()
        });
        if removed.is_err() {
            eprintln!("containers of {} were not removed", state.display());
        }
        assert!(failing, "a story ends with `finish` or `abandon`");
    }
}
