//! The daemon's sources keep to its list of modules: each uses what stands before it, and some crates have one home.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The list of `docs/ARCHITECTURE.md`. A new module takes its place here first.
const ORDER: &[&str] = &[
    "error",
    "secret",
    "task",
    "ration",
    "config",
    "engine",
    "store",
    "events",
    "identity",
    "skills",
    "gateway",
    "memory",
    "egress",
    "link",
    "instance",
    "chat",
    "heartbeat",
    "stats",
    "http",
    "app",
    "main",
];

/// Modules that stand earlier in the list and are out of bounds all the same.
const NEVER: &[(&str, &[&str])] = &[("store", &["engine"]), ("http", &["store", "engine"])];

/// Crates and the only places, as beginnings of paths below `daemon/src`, that may name them.
const HOMES: &[(&str, &[&str])] = &[
    ("axum", &["http/", "http.rs"]),
    ("bollard", &["engine/docker"]),
    ("rusqlite", &["store/", "store.rs"]),
    ("refinery", &["store/", "store.rs"]),
    ("hyper_util::client", &["gateway/", "egress/"]),
    ("reqwest", &["gateway/", "egress/"]),
];

const DIALECTS: &[&str] = &["agentbot", "control", "service"];

#[test]
fn each_module_uses_only_what_stands_before_it() {
    let mut broken = Vec::new();
    for source in sources() {
        let Some(own) = position(&source.module) else {
            broken.push(format!("{}: `{}` has no place in the list", source.path, source.module));
            continue;
        };
        for used in source.uses() {
            let after = position(&used).is_some_and(|used| used > own);
            let never = NEVER.iter().any(|(module, never)| *module == source.module && never.contains(&used.as_str()));
            if after || never {
                broken.push(format!("{} uses `{used}`", source.path));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn some_crates_have_one_home() {
    let mut broken = Vec::new();
    for source in sources() {
        for (name, homes) in HOMES {
            let at_home = homes.iter().any(|home| source.path.starts_with(home));
            if !at_home && names(&source.code, name) {
                broken.push(format!("{} names `{name}`, whose home is {}", source.path, homes.join(" or ")));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn no_dialect_knows_another() {
    for source in sources() {
        let Some(own) = DIALECTS.iter().find(|own| source.path.starts_with(&format!("http/{own}"))) else { continue };
        for other in DIALECTS.iter().filter(|other| *other != own) {
            for path in [format!("http::{other}"), format!("super::{other}")] {
                assert!(!names(&source.code, &path), "{} names `{path}`", source.path);
            }
        }
    }
}

#[test]
fn command_line_and_agent_know_the_wire_alone() {
    for (package, allowed) in [("ctl", "agentbot-wire"), ("agent-image", "agentbot-wire"), ("wire", "nothing")] {
        let manifest = fs::read_to_string(root().join(package).join("Cargo.toml")).unwrap();
        let dependencies = manifest.lines().skip_while(|line| *line != "[dependencies]");
        for line in dependencies.filter(|line| line.starts_with("agentbot")) {
            assert!(line.starts_with(allowed), "{package} depends on `{line}`");
        }
    }
}

#[test]
fn the_scanner_sees_what_it_should() {
    let source = |code: &str| Source::new("config/x.rs".into(), code, BTreeSet::from(["engine".to_owned()]));
    let uses = |code| source(code).uses().into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(uses("use crate::store::Writer;\nfn f() { crate::link::x() }"), "link store");
    assert_eq!(uses("use crate::{error::{Error, http}, task::{self, Task}, app};"), "app error task");
    assert_eq!(uses("// crate::http\n/// [`crate::app`]\nlet url = \"x\"; // crate::chat"), "");
    assert_eq!(uses("use super::super::store; use super::engine; use super::Config;"), "store");
    assert_eq!(uses("mycrate::http::x(); pub(in crate::http) fn f() {}"), "http");
    assert!(names("use axum::Router;", "axum") && names("fn f(x: axum::Json<u8>)", "axum"));
    assert!(!names("use maxum::Router; let axum = 1; axum_extra::x", "axum"));
}

/// A file of the daemon without its comments.
struct Source {
    path: String,
    module: String,
    code: String,
    siblings: BTreeSet<String>,
}

impl Source {
    fn new(path: String, text: &str, siblings: BTreeSet<String>) -> Self {
        let first = path.split('/').next().unwrap_or_default();
        let module = first.trim_end_matches(".rs").to_owned();
        let code = text.lines().map(without_comment).collect::<Vec<_>>().join("\n");
        Self { path, module, code, siblings }
    }

    /// Modules of the list that it reaches, by `crate::` or by climbing up.
    fn uses(&self) -> BTreeSet<String> {
        let listed = |name: &String| ORDER.contains(&name.as_str());
        let library = ["crate::", "agentbotd::"].into_iter().flat_map(|prefix| first_names(&self.code, prefix));
        let climbed = first_names(&self.code, "super::").into_iter().filter(|name| !self.siblings.contains(name));
        library.chain(climbed).filter(listed).filter(|name| *name != self.module).collect()
    }
}

fn position(module: &str) -> Option<usize> {
    ORDER.iter().position(|name| *name == module)
}

fn without_comment(line: &str) -> &str {
    let start = line.match_indices("//").map(|(at, _)| at).find(|at| !line[..*at].ends_with(':'));
    &line[..start.unwrap_or(line.len())]
}

/// Whether `path` is named as the beginning of a longer path.
fn names(code: &str, path: &str) -> bool {
    !first_names(code, &format!("{path}::")).is_empty()
}

/// The names right after each occurrence of `prefix`, those in braces included.
fn first_names(code: &str, prefix: &str) -> Vec<String> {
    let begins = |at: usize| !code[..at].ends_with(is_word);
    let occurrences = code.match_indices(prefix).filter(|(at, _)| begins(*at));
    occurrences.flat_map(|(at, _)| group(&code[at + prefix.len()..])).collect()
}

fn group(rest: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| is_word(*c)).collect::<String>();
    let Some(inside) = rest.strip_prefix('{') else {
        let name = if rest.starts_with('*') { "*".to_owned() } else { word(rest) };
        return Vec::from([name]).into_iter().filter(|name| !name.is_empty()).collect();
    };
    let mut names = Vec::new();
    let (mut depth, mut fresh) = (0_u32, true);
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if fresh && is_word(c) => {
                names.push(word(&inside[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources() -> Vec<Source> {
    let top = root().join("daemon/src");
    let mut found = Vec::new();
    let mut directories = vec![top.clone()];
    while let Some(directory) = directories.pop() {
        let entries: Vec<PathBuf> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        let siblings = || entries.iter().filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
        for path in &entries {
            if path.is_dir() {
                directories.push(path.clone());
            } else if path.extension().is_some_and(|extension| extension == "rs") && *path != top.join("lib.rs") {
                let shown = path.strip_prefix(&top).unwrap().display().to_string();
                let siblings = if directory == top { BTreeSet::new() } else { siblings() };
                found.push(Source::new(shown, &fs::read_to_string(path).unwrap(), siblings));
            }
        }
    }
    assert!(found.iter().any(|source| source.path == "error.rs"), "these are not the daemon's sources");
    found
}
