//! The configuration: one TOML file, one struct per section, every mistake at once.
//!
//! A file only says what differs from the defaults. Reading walks it key by key against the declared sections, so that
//! each mistake has its line; the rules between keys come after. What is read is either right as a whole or refused.

mod live;
mod mistake;
mod models;
mod origin;
mod paths;
mod plans;
mod read;
mod rules;
mod section;
mod sections;
mod source;
mod value;
mod watch;
mod words;

use std::collections::BTreeMap;
use std::path::Path;

use agentbot_wire::Plan;

pub use live::Live;
pub use mistake::{Mistake, Mistakes};
pub use models::{ApiKey, BUILTIN, Models, NoModel, Provider};
pub use origin::{Authority, Host, Origin};
pub use paths::{SOCKET_PATH_MAX, check_paths, engine_socket};
pub use plans::{DEFAULT_PLAN, default_plans, plan_alias};
pub use sections::{Admin, Beat, Chat, Engine, Events, Http, Limits, Log, Restart, Slots, Store, Tls};
pub use source::DEFAULT_PATH;
pub use value::UidRange;
pub use watch::{Watch, follow};
pub use words::{LogFormat, LogLevel, ProviderKind};

use read::Reader;

/// All settings of the daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[admin]`.
    pub admin: Admin,
    /// `[engine]`.
    pub engine: Engine,
    /// `[store]`.
    pub store: Store,
    /// `[slots]`.
    pub slots: Slots,
    /// `[limits]`.
    pub limits: Limits,
    /// `[restart]`.
    pub restart: Restart,
    /// `[beat]`.
    pub beat: Beat,
    /// `[chat]`.
    pub chat: Chat,
    /// `[events]`.
    pub events: Events,
    /// `[models]`.
    pub models: Models,
    /// `[plans.<name>]`: the default ones, changed or not, and those the file adds.
    pub plans: BTreeMap<String, Plan>,
    /// `[log]`.
    pub log: Log,
    /// `[http]`.
    pub http: Http,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            admin: Admin::default(),
            engine: Engine::default(),
            store: Store::default(),
            slots: Slots::default(),
            limits: Limits::default(),
            restart: Restart::default(),
            beat: Beat::default(),
            chat: Chat::default(),
            events: Events::default(),
            models: Models::default(),
            plans: default_plans(),
            log: Log::default(),
            http: Http::default(),
        }
    }
}

/// A configuration that was read, and what is worth a word about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Things that are allowed and probably not meant.
    pub warnings: Vec<String>,
}

/// Reads the configuration. Without a path the usual file is read if it is there; a named file must be there. Blocks on
/// the disk.
///
/// # Errors
/// All mistakes of the file at once, or why it cannot be read.
pub fn load(path: Option<&Path>) -> Result<Loaded, Mistakes> {
    let file = path.unwrap_or_else(|| Path::new(DEFAULT_PATH));
    match source::read(file)? {
        Some(text) => parse(file, &text),
        None if path.is_none() => parse(file, ""),
        None => Err(Mistakes::of_file(file, "there is no such file")),
    }
}

/// Reads the text of a file; `file` is what its mistakes are shown with.
///
/// # Errors
/// All mistakes at once.
pub fn parse(file: &Path, text: &str) -> Result<Loaded, Mistakes> {
    let (reader, table) = Reader::parse(file, text);
    let config = walk(&reader, table.get_ref());
    for rules::Broken { keys, problem } in rules::broken(&config) {
        reader.broken_rule(&keys, problem);
    }
    reader.finish()?;
    let warnings = rules::without_effect(&config);
    Ok(Loaded { config, warnings })
}

const SECTIONS: &[&str] = &[
    "admin", "engine", "store", "slots", "limits", "restart", "beat", "chat", "events", "models", "plans", "log",
    "http",
];

fn walk<'a>(reader: &'a Reader<'a>, table: &'a toml::de::DeTable<'a>) -> Config {
    let root = reader.root(table);
    let config = Config {
        admin: Admin::read(&root.section("admin")),
        engine: Engine::read(&root.section("engine")),
        store: Store::read(&root.section("store")),
        slots: Slots::read(&root.section("slots")),
        limits: Limits::read(&root.section("limits")),
        restart: Restart::read(&root.section("restart")),
        beat: Beat::read(&root.section("beat")),
        chat: Chat::read(&root.section("chat")),
        events: Events::read(&root.section("events")),
        models: Models::read(&root.section("models")),
        plans: plans::read(&root.section("plans")),
        log: Log::read(&root.section("log")),
        http: Http::read(&root.section("http")),
    };
    root.finish(SECTIONS);
    config
}

#[cfg(test)]
mod tests;
