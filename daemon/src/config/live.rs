//! The configuration in force: read without waiting, replaced as a whole, and never by one that is wrong.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{Config, Loaded, Mistakes, rules};

/// Names the keys that take effect at a start only, and puts back their values.
macro_rules! fixed_keys {
    ($($section:ident.$key:ident),+ $(,)?) => {
        /// Keeps the values of `old` for every key that cannot change while the daemon runs; gives the names of those
        /// that `new` would have changed.
        fn keep_fixed(old: &Config, new: &mut Config) -> Vec<&'static str> {
            let mut kept = Vec::new();
            $(
                if new.$section.$key != old.$section.$key {
                    new.$section.$key.clone_from(&old.$section.$key);
                    kept.push(concat!(stringify!($section), ".", stringify!($key)));
                }
            )+
            kept
        }
    };
}

fixed_keys! {
    // The runtime directory was given to this group when it was made.
    admin.group,
    // The engine's client and its limiter are made once.
    engine.socket, engine.parallel,
    engine.call_timeout, engine.create_timeout, engine.start_timeout, engine.load_timeout,
    // Threads and queues are made once.
    store.readers, store.queue, store.batch,
    // uids in use would lie outside.
    slots.uid_range,
    // Listeners are made once.
    limits.body, limits.drain, limits.connections, limits.agent_connections,
    limits.header_timeout, limits.idle_timeout,
    log.level, log.format,
    http.listen, http.allowed_hosts, http.allowed_origins, http.tls, http.connections,
    http.token_connections, http.token_messages,
}

/// A handle on the configuration in force; clones are the same one.
#[derive(Clone, Debug)]
pub struct Live(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: ArcSwap<Config>,
    remarks: ArcSwap<Remarks>,
    changes: watch::Sender<u64>,
}

/// What is to be said about the file.
#[derive(Debug, Default)]
struct Remarks {
    error: Option<String>,
    warnings: Vec<String>,
}

impl Live {
    /// Puts a configuration in force.
    #[must_use]
    pub fn new(loaded: Loaded) -> Self {
        let Loaded { config, warnings } = loaded;
        let remarks = Remarks { error: None, warnings };
        let (changes, _) = watch::channel(0);
        Self(Arc::new(Inner {
            config: ArcSwap::from_pointee(config),
            remarks: ArcSwap::from_pointee(remarks),
            changes,
        }))
    }

    /// The configuration now. Load it once per piece of work, so that one piece sees one configuration.
    #[must_use]
    pub fn load(&self) -> Arc<Config> {
        self.0.config.load_full()
    }

    /// Sees a higher number after each change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Why the file as it is now is not in force; `None` when it is.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.0.remarks.load().error.clone()
    }

    /// What a person should know about the file that is in force.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.0.remarks.load().warnings.clone()
    }

    /// Puts what was read in force, keys apart that cannot change now; says what became of it.
    ///
    /// # Errors
    /// Why the old configuration stays.
    pub(super) fn apply(&self, read: Result<Loaded, Mistakes>) -> Result<&'static str, String> {
        let applied = read.map_err(|mistakes| mistakes.to_string()).and_then(|loaded| self.merge(loaded));
        match applied {
            Ok((config, warnings)) => {
                self.0.remarks.store(Arc::new(Remarks { error: None, warnings }));
                if config == *self.load() {
                    return Ok("no setting changed");
                }
                self.0.config.store(Arc::new(config));
                self.0.changes.send_modify(|change| *change += 1);
                Ok("new settings are in force")
            }
            Err(error) => {
                let warnings = self.warnings();
                self.0.remarks.store(Arc::new(Remarks { error: Some(error.clone()), warnings }));
                Err(error)
            }
        }
    }

    fn merge(&self, loaded: Loaded) -> Result<(Config, Vec<String>), String> {
        let Loaded { mut config, mut warnings } = loaded;
        let kept = keep_fixed(&self.load(), &mut config).join(", ");
        if let Some(broken) = rules::broken(&config).into_iter().next() {
            let keys = broken.keys.join(", ");
            return Err(format!("{keys}: {} (until the next start these keep their values: {kept})", broken.problem));
        }
        if !kept.is_empty() {
            warnings.push(format!("changed in the file, in force after the next start of the daemon: {kept}"));
        }
        Ok((config, warnings))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::super::parse;
    use super::*;

    fn read(text: &str) -> Result<Loaded, Mistakes> {
        parse(Path::new("agentbot.toml"), text)
    }

    fn live(text: &str) -> Live {
        Live::new(read(text).unwrap())
    }

    #[test]
    fn a_new_setting_is_in_force_and_told() {
        let live = live("");
        let mut changes = live.subscribe();
        assert_eq!(live.apply(read("[beat]\nperiod = \"1s\"")), Ok("new settings are in force"));
        assert_eq!(live.load().beat.period, Duration::from_secs(1));
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        assert_eq!(live.apply(read("# words\n[beat]\nperiod = \"1000ms\"")), Ok("no setting changed"));
        assert!(!changes.has_changed().unwrap());
    }

    #[test]
    fn a_bad_file_changes_nothing_and_is_remembered_until_it_is_good() {
        let live = live("[beat]\nperiod = \"1s\"");
        let changes = live.subscribe();
        assert!(live.apply(read("[beat]\nperiod = \"often\"")).is_err());
        assert!(live.last_error().unwrap().contains("agentbot.toml:2: beat.period"));
        assert_eq!(live.load().beat.period, Duration::from_secs(1));
        assert!(!changes.has_changed().unwrap());
        assert!(live.apply(read("[beat]\nperiod = \"1s\"")).is_ok());
        assert_eq!(live.last_error(), None);
    }

    #[test]
    fn a_key_that_cannot_change_keeps_its_value_and_is_named() {
        let live = live("");
        assert!(live.apply(read("[store]\nreaders = 2\n[beat]\nperiod = \"1s\"")).is_ok());
        assert_eq!(live.load().store.readers, 4);
        assert_eq!(live.load().beat.period, Duration::from_secs(1), "the others change");
        assert!(live.warnings()[0].ends_with("store.readers"), "{:?}", live.warnings());
        assert!(live.apply(read("")).is_ok());
        assert!(live.warnings().is_empty(), "the file agrees with the daemon again");
    }

    #[test]
    fn a_kept_key_and_a_new_one_that_do_not_go_together_are_refused() {
        let live = live("[slots]\nuid_range = [20000, 20009]\nmax = 10");
        let error = live.apply(read("[slots]\nuid_range = [20000, 20099]\nmax = 100")).unwrap_err();
        assert!(error.contains("slots.max") && error.contains("slots.uid_range"), "{error}");
        assert_eq!(live.load().slots.max, 10);
    }
}
