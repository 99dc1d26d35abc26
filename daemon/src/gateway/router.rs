//! Which model a word means. Pure.

use agentbot_wire::Code;

use crate::config::{BUILTIN, Models, Provider, ProviderKind};
use crate::error::{Error, Result};

/// The builtin provider's only model.
pub(super) const BASIC: &str = "basic";
/// The word for the calling agent's own model.
const DEFAULT: &str = "default";

/// Where a request goes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    /// The provider's name in the configuration.
    pub(super) provider: String,
    /// The provider's name for the model.
    pub(super) model: String,
    /// The provider; none for the builtin one.
    pub(super) server: Option<Provider>,
}

impl Target {
    /// `<provider>/<model>`.
    pub(super) fn id(&self) -> String {
        format!("{}/{}", self.provider, self.model)
    }
}

/// Where a word leads; nothing and `default` mean `own`.
///
/// # Errors
/// `invalid` with the choices for a word that means no model; `unsupported` for a kind of provider that is not served.
pub(super) fn route(models: &Models, word: &str, own: &str) -> Result<Target> {
    let aliased = models.aliases.contains_key(word);
    let word = if word.is_empty() || (word == DEFAULT && !aliased) { own } else { word };
    let id = models.resolve(word).map_err(|why| unknown(models, &why.to_string()))?;
    // `resolve` gives nothing without a slash.
    let (provider, model) = id.split_once('/').unwrap_or((BUILTIN, id.as_str()));
    let server = models.providers.get(provider).cloned();
    match server.as_ref().map(|server| server.kind) {
        None if model != BASIC => {
            return Err(unknown(models, &format!("the builtin provider has one model, `{BASIC}`, not `{model}`")));
        }
        Some(ProviderKind::Anthropic) => {
            let message = format!("provider `{provider}` is of kind \"anthropic\", which this version does not serve");
            return Err(Error::new(Code::Unsupported, message)
                .hint("use a provider of kind \"openai\"; many services have an endpoint of that kind"));
        }
        None | Some(ProviderKind::OpenAi) => {}
    }
    Ok(Target { provider: provider.to_owned(), model: model.to_owned(), server })
}

fn unknown(models: &Models, why: &str) -> Error {
    let aliases = models.aliases.keys().cloned();
    let providers = models.providers.keys().map(|name| format!("{name}/<model>"));
    let choices: Vec<String> = [format!("{BUILTIN}/{BASIC}")].into_iter().chain(aliases).chain(providers).collect();
    Error::invalid("model", why)
        .hint(format!("the choices are {}; `agentbotctl model list` shows more", choices.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ApiKey;

    fn models() -> Models {
        let server = |kind| Provider {
            kind,
            base_url: "http://127.0.0.1:1/v1".to_owned(),
            api_key: ApiKey::Env("KEY".to_owned()),
        };
        let mut models = Models::default();
        models.providers.insert("local".to_owned(), server(ProviderKind::OpenAi));
        models.providers.insert("claude".to_owned(), server(ProviderKind::Anthropic));
        models.aliases.insert("fast".to_owned(), "local/org/tiny:1b".to_owned());
        models
    }

    fn id(word: &str) -> String {
        route(&models(), word, "fast").unwrap().id()
    }

    #[test]
    fn words_lead_to_models() {
        assert_eq!(id("local/x"), "local/x");
        assert_eq!(id("fast"), "local/org/tiny:1b");
        assert_eq!(id("builtin/basic"), "builtin/basic");
        assert_eq!((id(""), id("default")), (id("fast"), id("fast")));
        assert!(route(&models(), "builtin/basic", "x").unwrap().server.is_none());
    }

    #[test]
    fn an_alias_may_be_called_default() {
        let mut models = models();
        models.aliases.insert("default".to_owned(), "builtin/basic".to_owned());
        assert_eq!(route(&models, "default", "fast").unwrap().id(), "builtin/basic");
        assert_eq!(route(&models, "", "fast").unwrap().id(), "local/org/tiny:1b");
    }

    #[test]
    fn strangers_are_refused_with_the_choices() {
        for word in ["gpt-4", "nobody/x", "http://127.0.0.1/v1", "builtin/other", "local/", "//", "local"] {
            let error = route(&models(), word, "fast").unwrap_err().to_api();
            assert_eq!(error.code, Code::Invalid, "{word}");
            let hint = error.hint.unwrap();
            assert!(hint.contains("builtin/basic, fast, claude/<model>, local/<model>"), "{hint}");
        }
        assert_eq!(route(&models(), "claude/x", "fast").unwrap_err().code(), Code::Unsupported);
    }
}
