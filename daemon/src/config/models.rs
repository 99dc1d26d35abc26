//! `[models]`: the default model, aliases, and providers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;

use super::read::Section;
use super::value::Value;
use super::words::ProviderKind;

/// The provider that answers without a language model; it is always there.
pub const BUILTIN: &str = "builtin";

const TICK: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(86_400);

/// `[models]`: which models agents may talk to.
#[derive(Clone, Debug, PartialEq)]
pub struct Models {
    /// What an agent talks to when nothing else is asked for: `<provider>/<model>` or an alias.
    pub default: String,
    /// Short names; each stands for `<provider>/<model>` or another alias.
    pub aliases: BTreeMap<String, String>,
    /// Servers of models by name.
    pub providers: BTreeMap<String, Provider>,
    /// Calls of one agent at the same time.
    pub parallel: usize,
    /// Time until an answer begins. A model may have to be loaded first.
    pub first_byte_timeout: Duration,
    /// Time without a byte of an answer that has begun.
    pub idle_timeout: Duration,
    /// Time that an answer may take as a whole.
    pub max_duration: Duration,
    /// The longest answer.
    pub max_response: ByteSize,
}

/// `[models.providers.<name>]`: a server of models.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// How it is spoken to.
    pub kind: ProviderKind,
    /// Its address, `https://…` or `http://…`, without what the kind adds.
    pub base_url: String,
    /// Where the key of its API is found; it never leaves the daemon.
    pub api_key: ApiKey,
}

/// Where a key is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiKey {
    /// Neither is named: the server wants no key.
    None,
    /// `api_key_file`: a file that holds nothing else.
    File(PathBuf),
    /// `api_key_env`: a variable of the daemon's environment.
    Env(String),
}

/// Why a word means no model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoModel {
    /// Aliases lead back to themselves; the way they go.
    #[error("aliases go in a circle: {0}")]
    Circle(String),
    /// There is no such provider.
    #[error("no provider `{name}`; known are {known}")]
    Provider {
        /// The one that was asked for.
        name: String,
        /// Those that are there, joined by commas.
        known: String,
    },
    /// Neither an alias nor a model.
    #[error("`{0}` is neither an alias nor of the form <provider>/<model>")]
    Form(String),
}

impl Default for Models {
    fn default() -> Self {
        Self {
            default: format!("{BUILTIN}/basic"),
            aliases: BTreeMap::new(),
            providers: BTreeMap::new(),
            parallel: 8,
            first_byte_timeout: Duration::from_secs(120),
            idle_timeout: Duration::from_secs(60),
            max_duration: Duration::from_secs(1_800),
            max_response: ByteSize::mib(16),
        }
    }
}

impl Models {
    /// The `<provider>/<model>` that a word means, through its aliases.
    ///
    /// # Errors
    /// What is wrong with the word, or with the alias it leads to.
    pub fn resolve(&self, word: &str) -> Result<String, NoModel> {
        let mut path = vec![word];
        let mut model = word;
        while let Some(target) = self.aliases.get(model) {
            let circle = path.contains(&target.as_str());
            path.push(target);
            if circle {
                return Err(NoModel::Circle(path.join(" -> ")));
            }
            model = target;
        }
        match model.split_once('/') {
            Some((provider, name)) if !name.is_empty() => {
                if provider == BUILTIN || self.providers.contains_key(provider) {
                    return Ok(model.to_owned());
                }
                let known: Vec<&str> = self.providers.keys().map(String::as_str).chain([BUILTIN]).collect();
                Err(NoModel::Provider { name: provider.to_owned(), known: known.join(", ") })
            }
            _ => Err(NoModel::Form(model.to_owned())),
        }
    }

    /// The names of its keys, those of its sections apart.
    pub(super) const KEYS: &'static [&'static str] =
        &["default", "parallel", "first_byte_timeout", "idle_timeout", "max_duration", "max_response"];

    pub(super) fn read(section: &Section<'_>) -> Self {
        let defaults = Self::default();
        let time = |key, default| section.value_in(key, default, &(TICK..=DAY));
        let models = Self {
            default: section.value("default", defaults.default),
            aliases: read_aliases(&section.section("aliases")),
            providers: read_providers(&section.section("providers")),
            parallel: section.value_in("parallel", defaults.parallel, &(1..=1_024)),
            first_byte_timeout: time("first_byte_timeout", defaults.first_byte_timeout),
            idle_timeout: time("idle_timeout", defaults.idle_timeout),
            max_duration: time("max_duration", defaults.max_duration),
            max_response: section.value_in(
                "max_response",
                defaults.max_response,
                &(ByteSize::kib(1)..=ByteSize::gib(1)),
            ),
        };
        let keys: Vec<&str> = Self::KEYS.iter().copied().chain(["aliases", "providers"]).collect();
        section.finish(&keys);
        models
    }
}

fn read_aliases(section: &Section<'_>) -> BTreeMap<String, String> {
    let read = |name: &str| {
        if !is_word(name) {
            section.mistake(name, WORD_RULE.to_owned());
        }
        Some((name.to_owned(), section.optional(name)?))
    };
    section.names().into_iter().filter_map(read).collect()
}

fn read_providers(section: &Section<'_>) -> BTreeMap<String, Provider> {
    let read = |name: &str| {
        let own = section.section(name);
        if name == BUILTIN {
            section.mistake(name, "this name is taken by the provider that is always there".to_owned());
        } else if !is_word(name) {
            section.mistake(name, WORD_RULE.to_owned());
        }
        Some((name.to_owned(), Provider::read(&own)?))
    };
    section.names().into_iter().filter_map(read).collect()
}

impl Provider {
    fn read(section: &Section<'_>) -> Option<Self> {
        section.finish(&["kind", "base_url", "api_key_file", "api_key_env"]);
        let kind = section.optional::<ProviderKind>("kind");
        if kind.is_none() && !section.has("kind") {
            section.missing("kind", ProviderKind::EXPECTED);
        }
        let base_url = section.optional::<String>("base_url").filter(|url| {
            let plain = is_plain_url(url);
            if !plain {
                section.mistake("base_url", format!("expected {URL_RULE}"));
            }
            plain
        });
        if !section.has("base_url") {
            section.missing("base_url", URL_RULE);
        }
        let file = section.optional("api_key_file").map(ApiKey::File);
        let env = section.optional("api_key_env").map(ApiKey::Env);
        let named = (section.has("api_key_file"), section.has("api_key_env"));
        let api_key = match named {
            (true, true) => {
                section.mistake("api_key_env", "stands beside api_key_file; one of them is allowed".to_owned());
                None
            }
            (false, false) => Some(ApiKey::None),
            _ => file.or(env),
        };
        Some(Self { kind: kind?, base_url: base_url?, api_key: api_key? })
    }
}

const WORD_RULE: &str = "a name has 1 to 64 lower-case letters, digits, dots, hyphens or underscores";
const URL_RULE: &str = "an address such as \"https://api.example.com/v1\", without user, query or fragment";

fn is_word(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(plain)
}

fn is_plain_url(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        let host = rest.split('/').next().unwrap_or_default();
        !host.is_empty()
            && !host.starts_with(':')
            && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"@?#\\\"'<>".contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models(aliases: &[(&str, &str)]) -> Models {
        let aliases = aliases.iter().map(|(name, target)| ((*name).to_owned(), (*target).to_owned())).collect();
        Models { aliases, ..Models::default() }
    }

    #[test]
    fn an_alias_leads_to_its_model_through_others() {
        let models = models(&[("fast", "cheap"), ("cheap", "builtin/basic")]);
        assert_eq!(models.resolve("fast").unwrap(), "builtin/basic");
        assert_eq!(models.resolve("builtin/basic").unwrap(), "builtin/basic");
    }

    #[test]
    fn circles_and_strangers_are_refused() {
        let models = models(&[("a", "b"), ("b", "a"), ("self", "self"), ("x", "nowhere/y"), ("z", "builtin/")]);
        assert!(models.resolve("a").unwrap_err().to_string().contains("a -> b -> a"));
        assert!(models.resolve("self").unwrap_err().to_string().contains("self -> self"));
        assert!(models.resolve("x").unwrap_err().to_string().contains("no provider `nowhere`; known are builtin"));
        for word in ["z", "basic", "", "/", "builtin/"] {
            assert!(models.resolve(word).is_err(), "{word}");
        }
    }

    #[test]
    fn addresses_are_plain() {
        for good in ["https://api.example.com/v1", "http://127.0.0.1:11434", "http://[::1]:8080/v1"] {
            assert!(is_plain_url(good), "{good}");
        }
        for bad in [
            "api.example.com",
            "ftp://x",
            "https://",
            "http://:80",
            "https:///v1",
            "https://me:key@host",
            "https://h?key=1",
            "https://h/#a",
            "https://a b",
            "file:///x",
        ] {
            assert!(!is_plain_url(bad), "{bad}");
        }
    }
}
