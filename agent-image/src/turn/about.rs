//! What the daemon says about this agent: its name, its model, its configuration.

use agentbot_wire::Welcome;
use serde_json::Value;

/// The longest persona in bytes; what is longer is cut.
const MAX_PERSONA: usize = 16 * 1024;
/// The most calls of the model in one turn.
pub const MAX_ROUNDS: u64 = 32;
/// Calls of the model in one turn: the least, the usual number, the most.
const ROUNDS: (u64, u64, u64) = (1, 8, MAX_ROUNDS);
/// Tokens of a question to the model: the fewest, the usual number, the most.
const TOKENS: (u64, u64, u64) = (1_000, 24_000, 200_000);
/// Bytes that count as one token.
const BYTES_PER_TOKEN: usize = 4;

/// What a turn needs to know about its agent. It is taken anew at each welcome.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// Its name.
    pub name: Option<String>,
    /// The model that it has.
    pub model: Option<String>,
    /// The model that its configuration asks for instead.
    pub asked_model: Option<String>,
    /// Who it is, in its owner's words.
    pub persona: Option<String>,
    /// How freely the model answers.
    pub temperature: Option<f64>,
    /// Calls of the model in one turn.
    pub max_turns: u64,
    /// Bytes of a question to the model, all of its request included.
    pub window: usize,
}

impl Default for About {
    fn default() -> Self {
        Self::new(None, None, &Value::Null)
    }
}

impl About {
    /// Reads a welcome.
    #[must_use]
    pub fn from_welcome(welcome: &Welcome) -> Self {
        Self::new(welcome.name.as_ref().map(ToString::to_string), welcome.model.clone(), &welcome.config)
    }

    /// The same agent with another configuration.
    #[must_use]
    pub fn with_config(&self, config: &Value) -> Self {
        Self::new(self.name.clone(), self.model.clone(), config)
    }

    /// The same agent after a change: what the payload has of `name`, `model` and `config` is new.
    #[must_use]
    pub fn with_change(&self, payload: &Value) -> Self {
        let changed = match payload.get("config").filter(|config| config.is_object()) {
            Some(config) => self.with_config(config),
            None => self.clone(),
        };
        let text = |key: &str| payload.get(key).and_then(Value::as_str).map(str::to_owned);
        Self { name: text("name").or(changed.name), model: text("model").or(changed.model), ..changed }
    }

    /// What is missing or of the wrong kind is as if it were not there.
    fn new(name: Option<String>, model: Option<String>, config: &Value) -> Self {
        let text = |key: &str| config.get(key).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
        let number = |key: &str, (least, usual, most): (u64, u64, u64)| {
            config.get(key).and_then(Value::as_u64).unwrap_or(usual).clamp(least, most)
        };
        let tokens = number("context_tokens", TOKENS);
        Self {
            name,
            model,
            asked_model: text("model").map(str::to_owned),
            persona: text("persona").map(|text| text[..text.floor_char_boundary(MAX_PERSONA)].to_owned()),
            temperature: config.get("temperature").and_then(Value::as_f64),
            max_turns: number("max_turns", ROUNDS),
            window: usize::try_from(tokens).unwrap_or_default().saturating_mul(BYTES_PER_TOKEN),
        }
    }

    /// The model's name for people.
    #[must_use]
    pub fn model_name(&self) -> String {
        match self.asked_model.as_ref().or(self.model.as_ref()) {
            Some(model) => format!("the model {model}"),
            None => "the model".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_configuration_says_counts() {
        let config = json!({"persona": "You are kind.", "model": "a/b", "temperature": 0.5, "max_turns": 3,
            "context_tokens": 2000});
        let about = About::default().with_config(&config);
        assert_eq!((about.persona.as_deref(), about.max_turns), (Some("You are kind."), 3));
        assert_eq!((about.temperature, about.window), (Some(0.5), 8000));
        assert_eq!(about.model_name(), "the model a/b");
    }

    #[test]
    fn what_is_missing_or_wrong_has_its_usual_value() {
        for config in [json!({}), Value::Null, json!([]), json!({"persona": 7, "max_turns": "x", "context_tokens": -1})]
        {
            assert_eq!(About::default().with_config(&config), About::default());
        }
        assert_eq!((About::default().max_turns, About::default().window), (8, 96_000));
    }

    #[test]
    fn a_change_touches_only_what_it_names() {
        let about = About::default().with_config(&json!({"max_turns": 3}));
        let renamed = about.with_change(&json!({"name": "scout", "model": "a/b"}));
        assert_eq!((renamed.name.as_deref(), renamed.max_turns), (Some("scout"), 3));
        assert_eq!(renamed.model_name(), "the model a/b");
        assert_eq!(renamed.with_change(&json!({"config": {}})).max_turns, 8);
    }

    #[test]
    fn figures_are_kept_within_their_bounds() {
        let rounds = |value: u64| About::default().with_config(&json!({"max_turns": value})).max_turns;
        assert_eq!([rounds(0), rounds(1), rounds(32), rounds(33)], [1, 1, 32, 32]);
        let window = |tokens: u64| About::default().with_config(&json!({"context_tokens": tokens})).window;
        assert_eq!([window(999), window(1_000), window(200_000), window(200_001)], [4_000, 4_000, 800_000, 800_000]);
        let persona = About::default().with_config(&json!({"persona": "é".repeat(MAX_PERSONA)})).persona.unwrap();
        assert_eq!(persona.len(), MAX_PERSONA);
    }
}
