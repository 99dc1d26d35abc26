//! What a daemon under test is started with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST_UID: u32 = 20_000;
const LAST_UID: u32 = 59_999;

static NEXT_UID: AtomicU32 = AtomicU32::new(0);

/// Configuration, environment and fault points of one daemon.
#[derive(Clone, Debug)]
pub struct Setup {
    config: BTreeMap<String, BTreeMap<String, String>>,
    env: BTreeMap<String, String>,
    engine: PathBuf,
    verbatim: Option<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Setup {
    /// The usual daemon of a story: real engine, time scaled down, uids that no other daemon of this run has.
    #[must_use]
    pub fn new() -> Self {
        let setup = Self {
            config: BTreeMap::new(),
            env: BTreeMap::new(),
            engine: PathBuf::from("/var/run/docker.sock"),
            verbatim: None,
        };
        setup
            .set("engine.list_period", "\"1s\"")
            .set("beat.period", "\"1s\"")
            .set("beat.hello_timeout", "\"20s\"")
            .set("restart.base", "\"200ms\"")
            .set("restart.max", "\"2s\"")
            .set("restart.stop_grace", "\"3s\"")
            .set("slots.memory_reserve", "\"128 MiB\"")
            .set("log.level", "\"debug\"")
            .uids(100)
    }

    /// The daemon of a story that plays its agents itself: their containers sleep, and a script that is slow or gone for
    /// a while is no reason to restart them.
    #[must_use]
    pub fn scripted() -> Self {
        let sleeping = Self::new().agent(&super::binaries::sleeper_binary());
        sleeping.set("beat.period", "\"10s\"").set("beat.hello_timeout", "\"60s\"")
    }

    /// With one key, as `section.key`, and its value as TOML.
    ///
    /// # Panics
    /// When the key has no section.
    #[must_use]
    pub fn set(mut self, key: &str, toml: &str) -> Self {
        let (section, key) = key.rsplit_once('.').expect("section.key");
        self.config.entry(section.to_owned()).or_default().insert(key.to_owned(), toml.to_owned());
        self
    }

    /// With this many uids to give to slots, taken from the whole range in turn.
    #[must_use]
    pub fn uids(self, count: u32) -> Self {
        let room = LAST_UID - FIRST_UID + 1 - count;
        let first = FIRST_UID + NEXT_UID.fetch_add(count, Ordering::Relaxed) % room;
        let slots = self.set("slots.max", &count.to_string());
        slots.set("slots.uid_range", &format!("[{first}, {}]", first + count - 1))
    }

    /// With this variable in the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    /// Without this variable in the environment.
    #[must_use]
    pub fn without_env(mut self, name: &str) -> Self {
        self.env.remove(name);
        self
    }

    /// The daemon kills itself at this fault point.
    #[must_use]
    pub fn fail_at(self, point: &str) -> Self {
        self.env("FAILPOINTS", format!("{point}=return"))
    }

    /// No fault point any more.
    #[must_use]
    pub fn without_faults(self) -> Self {
        self.without_env("FAILPOINTS")
    }

    /// With another engine than the machine's.
    #[must_use]
    pub fn engine(mut self, socket: &Path) -> Self {
        socket.clone_into(&mut self.engine);
        self
    }

    /// With another agent binary.
    #[must_use]
    pub fn agent(self, path: &Path) -> Self {
        self.env("AGENTBOT_AGENT_BIN", path.display().to_string())
    }

    /// With this text as configuration file instead of everything set by key.
    #[must_use]
    pub fn config_text(mut self, text: &str) -> Self {
        self.verbatim = Some(text.to_owned());
        self
    }

    pub(crate) fn engine_socket(&self) -> &Path {
        &self.engine
    }

    pub(crate) fn variables(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    pub(crate) fn to_toml(&self) -> String {
        if let Some(text) = &self.verbatim {
            return text.clone();
        }
        let mut config = self.config.clone();
        config.entry("engine".to_owned()).or_default().insert("socket".to_owned(), format!("{:?}", self.engine));
        let mut text = String::new();
        for (section, keys) in &config {
            text.push_str(&format!("[{section}]\n"));
            for (key, value) in keys {
                text.push_str(&format!("{key} = {value}\n"));
            }
        }
        text
    }
}
