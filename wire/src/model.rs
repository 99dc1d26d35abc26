//! Models as the API shows them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `GET /api/models`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelList {
    /// Every model that a provider says it has.
    pub models: Vec<ModelView>,
    /// How many are listed.
    pub count: usize,
    /// Short names and what they mean.
    pub aliases: BTreeMap<String, String>,
    /// What an agent has when nothing else is asked for.
    pub default: String,
    /// Where the models are.
    pub providers: Vec<ProviderView>,
}

/// One model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelView {
    /// `<provider>/<model>`.
    pub id: String,
    /// The provider.
    pub provider: String,
    /// Aliases that mean it.
    pub aliases: Vec<String>,
    /// Whether it is the default.
    pub default: bool,
}

/// One provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderView {
    /// Its name in the configuration.
    pub name: String,
    /// How it is spoken to: `builtin`, `openai`.
    pub kind: String,
    /// Its address; absent for the builtin one.
    pub base_url: Option<String>,
    /// Whether it answered when its models were asked for; absent for the builtin one.
    pub reachable: Option<bool>,
    /// Why not, and what to do about it.
    pub error: Option<String>,
}

/// Body of `POST /api/models/test`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelTest {
    /// `<provider>/<model>` or an alias; the default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// Answer of `POST /api/models/test`: the model answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelTested {
    /// The `<provider>/<model>` that was asked.
    pub model: String,
    /// What it said, without control characters, at most 500 characters.
    pub reply: String,
    /// Milliseconds to the first piece of the answer; absent when none came before its end.
    pub first_token_ms: Option<u64>,
    /// Milliseconds to the end of the answer.
    pub total_ms: u64,
    /// Tokens of question and answer, where the provider said them.
    pub usage: Option<Usage>,
}

/// Tokens of one call, as the provider counted them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Of the question.
    pub prompt_tokens: u64,
    /// Of the answer.
    pub completion_tokens: u64,
}

/// `GET /api/models/discover`: servers of models and keys found on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discovery {
    /// What was found.
    pub found: Vec<Discovered>,
    /// How much was found.
    pub count: usize,
}

/// One server or key that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discovered {
    /// A name for it.
    pub name: String,
    /// The address it answers at, or would be used at.
    pub base_url: String,
    /// How it was found: `loopback`, or `environment` with the variable's name.
    pub source: String,
    /// The models it has; empty where it was not asked.
    pub models: Vec<String>,
    /// Whether the configuration has a provider with that address.
    pub configured: bool,
    /// The lines that would add it to the configuration.
    pub config: String,
}
