//! `model`: models, whether they answer, and where more of them are.

use std::time::Duration;

use agentbot_wire::{Discovered, Discovery, ModelList, ModelTest, ModelTested, ModelView, ProviderView};
use serde_json::json;

use crate::api::Api;
use crate::cli::ModelVerb;
use crate::exit::Failure;
use crate::output::table::{Field, Sheet, Width, table, terminal_width};
use crate::output::{Outcome, style, text};

/// Does what was asked.
///
/// # Errors
/// When the daemon does not answer, or the model that is tested does not.
pub async fn run(api: &Api, verb: ModelVerb) -> Result<Outcome, Failure> {
    match verb {
        ModelVerb::List => {
            let list = api.models().await?;
            let text = listed(&list, terminal_width());
            Ok(Outcome::ok(json!(list), text))
        }
        ModelVerb::Test { model } => {
            let tested = api.test_model(&ModelTest { model }).await?;
            let text = sheet(&tested);
            Ok(Outcome::ok(json!(tested), text))
        }
        ModelVerb::Discover => {
            let found = api.discover_models().await?;
            let text = discovered(&found);
            Ok(Outcome::ok(json!(found), text))
        }
    }
}

fn listed(list: &ModelList, width: Option<u16>) -> String {
    let header = [("MODEL", Width::Cut), ("ALIASES", Width::Cut), ("", Width::Whole)];
    let row = |model: &ModelView| {
        let default = if model.default { "default" } else { "" };
        vec![Field::plain(&model.id), Field::plain(&model.aliases.join(", ")), Field::coloured(default, style::GOOD)]
    };
    let mut out = if list.models.is_empty() {
        "No models: no provider says that it has any.\n".to_owned()
    } else {
        table(&header, list.models.iter().map(row).collect(), width)
    };
    let header = [("PROVIDER", Width::Whole), ("KIND", Width::Whole), ("ADDRESS", Width::Cut), ("STATE", Width::Cut)];
    let row = |provider: &ProviderView| {
        let (state, colour) = match (provider.reachable, &provider.error) {
            (Some(false), error) => (error.clone().unwrap_or_else(|| "does not answer".to_owned()), style::BAD),
            (_, Some(error)) => (error.clone(), style::BAD),
            (Some(true), None) => ("answers".to_owned(), style::GOOD),
            (None, None) => ("built in".to_owned(), style::REST),
        };
        vec![
            Field::plain(&provider.name),
            Field::plain(&provider.kind),
            Field::plain(provider.base_url.as_deref().unwrap_or("-")),
            Field::coloured(&state, colour),
        ]
    };
    out.push('\n');
    out.push_str(&table(&header, list.providers.iter().map(row).collect(), width));
    // What a row has no room for is said whole.
    for provider in list.providers.iter().filter(|provider| width.is_some() && provider.error.is_some()) {
        let why = provider.error.as_deref().map(text::line).unwrap_or_default();
        out.push_str(&format!("\n{}{}:{:#} {why}\n", style::BAD, text::line(&provider.name), style::BAD));
    }
    out
}

fn sheet(tested: &ModelTested) -> String {
    let time = |millis| text::took(Duration::from_millis(millis));
    let usage = tested.usage.map(|usage| format!("{} in, {} out", usage.prompt_tokens, usage.completion_tokens));
    Sheet::default()
        .with("model", text::line(&tested.model))
        .with("reply", text::block(&tested.reply).trim())
        .with("first piece", tested.first_token_ms.map(|millis| format!("after {}", time(millis))).unwrap_or_default())
        .with("whole", format!("after {}", time(tested.total_ms)))
        .with("tokens", usage.unwrap_or_default())
        .render()
}

fn discovered(found: &Discovery) -> String {
    if found.found.is_empty() {
        return "Nothing found: no server of models on loopback, no key in the daemon's environment.\n\
                A provider is added in the configuration: [models.providers.NAME]\n"
            .to_owned();
    }
    found.found.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn one(found: &Discovered) -> String {
    let state = if found.configured { "in the configuration already" } else { "" };
    let mut out = Sheet::default()
        .with("found", text::line(&found.name))
        .with("address", text::line(&found.base_url))
        .with("by", text::line(&found.source))
        .with("models", found.models.iter().map(|model| text::line(model)).collect::<Vec<_>>().join("\n"))
        .with("state", state)
        .render();
    if !found.configured {
        out.push_str(&format!("{}add to the configuration:{:#}\n", style::HINT, style::HINT));
        for line in text::block(&found.config).trim().lines() {
            out.push_str(&format!("  {line}\n"));
        }
    }
    out
}
