//! The tools that the model may use.

mod beneath;
mod files;
mod memory;

use std::path::Path;

use serde_json::{Value, json};

use crate::turn::Desk;

/// The longest name or word that is said back, in characters.
const MAX_ECHO: usize = 64;

/// What became of the use of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// Whether it did what it was asked.
    pub ok: bool,
    /// What the model is told.
    pub content: String,
    /// A line for people.
    pub detail: String,
}

impl Used {
    /// It did.
    #[must_use]
    pub fn done(content: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { ok: true, content: content.into(), detail: detail.into() }
    }

    /// It did not; model and people are told the same.
    #[must_use]
    pub fn failed(why: impl Into<String>) -> Self {
        let why = why.into();
        Self { ok: false, content: format!("error: {why}"), detail: why }
    }
}

/// The tools as a model is told of them.
#[must_use]
pub fn schemas() -> Value {
    json!([memory::schema(), files::schema()])
}

/// One line about what a call is about to do.
#[must_use]
pub fn described(name: &str, arguments: &Value) -> String {
    let word = |key: &str| arguments.get(key).and_then(Value::as_str).map(short);
    let action = word("action").unwrap_or_else(|| short(name));
    match word("path").or_else(|| word("key")).or_else(|| word("query")) {
        Some(object) => format!("{action} {object}"),
        None => action,
    }
}

/// Uses a tool. Whatever is wrong becomes an error that the model sees.
pub async fn work(desk: &Desk, workspace: &Path, name: &str, arguments: Value) -> Used {
    match name {
        memory::NAME => memory::work(desk, arguments).await,
        files::NAME => {
            let workspace = workspace.to_owned();
            // A file system may hang; the agent does not.
            let worked = tokio::task::spawn_blocking(move || files::work(&workspace, arguments)).await;
            worked.unwrap_or_else(|error| Used::failed(format!("the tool broke: {error}")))
        }
        other => Used::failed(format!(
            "there is no tool `{}`; there are `{}` and `{}`",
            short(other),
            memory::NAME,
            files::NAME
        )),
    }
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_ECHO).collect()
}

fn schema(name: &str, description: &str, actions: &[&str], others: Value) -> Value {
    let mut properties = others;
    properties["action"] = json!({"type": "string", "enum": actions});
    let parameters = json!({"type": "object", "properties": properties, "required": ["action"]});
    json!({"type": "function", "function": {"name": name, "description": description, "parameters": parameters}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_have_the_shape_that_models_know() {
        let schemas = schemas();
        let names: Vec<&str> =
            schemas.as_array().unwrap().iter().map(|tool| tool["function"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["memory", "files"]);
        assert_eq!(schemas[0]["function"]["parameters"]["required"], json!(["action"]));
    }

    #[test]
    fn a_call_is_described_in_a_line() {
        assert_eq!(described("files", &json!({"action": "read", "path": "a\n.txt"})), "read a.txt");
        assert_eq!(described("memory", &json!({"action": "get", "key": "k".repeat(100)})).len(), 4 + MAX_ECHO);
        assert_eq!(described("files", &json!([1])), "files");
    }

    #[tokio::test]
    async fn an_unknown_tool_is_an_error_that_names_the_known_ones() {
        let (desk, _jobs) = Desk::new();
        let used = work(&desk, Path::new("/nowhere"), "shell\u{1b}", json!({})).await;
        assert!(!used.ok && used.content.contains("no tool `shell`") && used.content.contains("`files`"), "{used:?}");
    }
}
