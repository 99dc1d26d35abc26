//! What could be a provider and is not set up yet: servers on this machine's loopback, keys in the daemon's environment.

use std::time::Duration;

use agentbot_wire::{Discovered, Discovery};
use futures_util::future::join_all;
use reqwest::Client;

use super::list::brief;
use super::upstream::Server;
use crate::config::Models;

/// Time that a port gets to answer.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Ports on which servers of models listen by default.
pub(super) const PORTS: &[(u16, &str)] = &[
    (11434, "ollama"),
    (1234, "lmstudio"),
    (8000, "vllm"),
    (8080, "llamacpp"),
    (1337, "jan"),
    (4891, "gpt4all"),
    (30000, "sglang"),
];

/// Variables that hold a key, the service's name, and its address that speaks OpenAI's API.
const KEYS: &[(&str, &str, &str)] = &[
    ("OPENAI_API_KEY", "openai", "https://api.openai.com/v1"),
    ("OPENROUTER_API_KEY", "openrouter", "https://openrouter.ai/api/v1"),
    ("GROQ_API_KEY", "groq", "https://api.groq.com/openai/v1"),
    ("MISTRAL_API_KEY", "mistral", "https://api.mistral.ai/v1"),
    ("DEEPSEEK_API_KEY", "deepseek", "https://api.deepseek.com/v1"),
    ("GEMINI_API_KEY", "gemini", "https://generativelanguage.googleapis.com/v1beta/openai"),
    ("XAI_API_KEY", "xai", "https://api.x.ai/v1"),
    ("TOGETHER_API_KEY", "together", "https://api.together.xyz/v1"),
    ("FIREWORKS_API_KEY", "fireworks", "https://api.fireworks.ai/inference/v1"),
    ("CEREBRAS_API_KEY", "cerebras", "https://api.cerebras.ai/v1"),
    ("NVIDIA_API_KEY", "nvidia", "https://integrate.api.nvidia.com/v1"),
];

/// Looks at these ports and into the environment.
pub(super) async fn discover(
    models: &Models,
    client: &Client,
    ports: &[(u16, &'static str)],
    set: impl Fn(&str) -> bool,
) -> Discovery {
    let probed = join_all(ports.iter().map(|(port, name)| probe(models, client, *port, name))).await;
    let keys = KEYS.iter().filter(|(variable, _, _)| set(variable)).map(|(variable, name, base_url)| Discovered {
        name: (*name).to_owned(),
        base_url: (*base_url).to_owned(),
        source: format!("environment {variable}"),
        models: Vec::new(),
        configured: configured(models, base_url),
        config: lines(models, name, base_url, &format!("api_key_env = \"{variable}\"")),
    });
    let found: Vec<Discovered> = probed.into_iter().flatten().chain(keys).collect();
    Discovery { count: found.len(), found }
}

async fn probe(models: &Models, client: &Client, port: u16, name: &str) -> Option<Discovered> {
    let base_url = format!("http://127.0.0.1:{port}/v1");
    let server = Server { name, base_url: &base_url, key: None, client };
    let found = tokio::time::timeout(PATIENCE, server.models(brief(PATIENCE))).await.ok()?.ok()?;
    Some(Discovered {
        name: name.to_owned(),
        source: "loopback".to_owned(),
        models: found,
        configured: configured(models, &base_url),
        config: lines(models, name, &base_url, ""),
        base_url,
    })
}

/// Whether there is a provider with that address, however it is written.
fn configured(models: &Models, base_url: &str) -> bool {
    let plain =
        |url: &str| url.trim_end_matches('/').replace("://localhost", "://127.0.0.1").replace("[::1]", "127.0.0.1");
    models.providers.values().any(|provider| plain(&provider.base_url) == plain(base_url))
}

/// The lines that add it, under a name that is free.
fn lines(models: &Models, name: &str, base_url: &str, key: &str) -> String {
    let numbered = (2..).map(|number| format!("{name}{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    let name = names.find(|name| !models.providers.contains_key(name)).unwrap_or_default();
    let key = if key.is_empty() { String::new() } else { format!("{key}\n") };
    format!("[models.providers.{name}]\nkind = \"openai\"\nbase_url = \"{base_url}\"\n{key}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[tokio::test]
    async fn keys_in_the_environment_are_named_and_not_shown() {
        let none: &[(u16, &'static str)] = &[];
        let client = super::super::client::Lazy::default();
        let client = client.get("http://x").await.unwrap();
        let mut models = Models::default();
        let set = |name: &str| name == "GROQ_API_KEY";
        let found = discover(&models, client, none, set).await;
        assert_eq!(found.count, 1);
        assert_eq!(found.found[0].source, "environment GROQ_API_KEY");
        assert!(!found.found[0].configured);

        let loaded = crate::config::parse(Path::new("x"), &found.found[0].config).unwrap();
        assert_eq!(loaded.warnings, [""; 0]);
        models = loaded.config.models;
        let again = discover(&models, client, none, set).await;
        assert!(again.found[0].configured);
        assert!(again.found[0].config.starts_with("[models.providers.groq2]"), "the name is taken");
    }

    /// A server on the loopback that answers everything with these bytes.
    async fn server(answer: &'static str) -> (u16, tokio::task::JoinSet<()>) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut running = tokio::task::JoinSet::new();
        running.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 1024];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        (port, running)
    }

    #[tokio::test]
    async fn servers_of_models_are_told_from_other_servers() {
        let models = "HTTP/1.1 200 OK\r\ncontent-length: 24\r\n\r\n{\"data\":[{\"id\":\"tiny\"}]}";
        let (good, _good) = server(models).await;
        let (other, _other) = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
        let client = super::super::client::Lazy::default();
        let client = client.get("http:").await.unwrap();
        let ports = [(good, "ollama"), (other, "vllm"), (1, "jan")];
        let found = discover(&Models::default(), client, &ports, |_| false).await;
        assert_eq!(found.count, 1, "{found:?}");
        assert_eq!(found.found[0].models, ["tiny"]);
        assert_eq!((found.found[0].source.as_str(), found.found[0].configured), ("loopback", false));
        let loaded = crate::config::parse(Path::new("x"), &found.found[0].config).unwrap();
        assert_eq!(loaded.config.models.providers["ollama"].base_url, format!("http://127.0.0.1:{good}/v1"));
    }

    #[test]
    fn every_offer_is_a_configuration() {
        let models = Models::default();
        for (variable, name, url) in KEYS {
            let text = lines(&models, name, url, &format!("api_key_env = \"{variable}\""));
            assert!(crate::config::parse(Path::new("x"), &text).is_ok(), "{text}");
        }
        for (port, name) in PORTS {
            let url = format!("http://127.0.0.1:{port}/v1");
            let text = lines(&models, name, &url, "");
            let models = crate::config::parse(Path::new("x"), &text).unwrap().config.models;
            assert!(configured(&models, &format!("http://localhost:{port}/v1/")));
        }
    }
}
