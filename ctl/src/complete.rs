//! Completion of what only the daemon knows: names of agents and ids of operations. It asks briefly and stays silent
//! when nobody answers.

use std::path::PathBuf;
use std::time::Duration;

use clap::CommandFactory as _;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::{CompleteEnv, Shells};

use crate::api::Api;
use crate::args::Target;
use crate::cli::{Cli, DEFAULT_SOCKET};
use crate::client::Client;
use crate::exit::{Exit, Failure, USAGE};
use crate::output::text;

/// A person waits for the key they pressed: nothing may take longer.
const PATIENCE: Duration = Duration::from_millis(200);
/// The variable with which the shell's script asks for candidates.
const VARIABLE: &str = "AGENTBOTCTL_COMPLETE";

/// Answers the shell if it asked for candidates; says whether it did.
#[must_use]
pub fn answered() -> bool {
    let directory = std::env::current_dir().ok();
    CompleteEnv::with_factory(Cli::command)
        .var(VARIABLE)
        .try_complete(std::env::args_os(), directory.as_deref())
        // A broken question from a shell deserves silence, not an error in the middle of a prompt.
        .unwrap_or(true)
}

/// The script that makes a shell ask.
///
/// # Errors
/// When the shell is unknown.
pub fn script(shell: &str) -> Result<String, Failure> {
    let unknown =
        || Failure::new(Exit::Usage, USAGE, format!("no script for the shell {shell}")).hint("bash, zsh or fish");
    let shells = Shells::builtins();
    let completer = shells.completer(shell).ok_or_else(unknown)?;
    let mut script = Vec::new();
    completer
        .write_registration(VARIABLE, "agentbotctl", "agentbotctl", "agentbotctl", &mut script)
        .map_err(|_| unknown())?;
    String::from_utf8(script).map_err(|_| unknown())
}

/// Names of the agents that live.
#[must_use]
pub fn agents() -> Vec<CompletionCandidate> {
    names(false)
}

/// Names of the agents that can be brought back.
#[must_use]
pub fn deleted_agents() -> Vec<CompletionCandidate> {
    names(true)
}

/// Ids of operations, newest first.
#[must_use]
pub fn operations() -> Vec<CompletionCandidate> {
    let list = ask(async |api| api.operations("?limit=20").await);
    let candidate = |operation: &agentbot_wire::Operation| {
        let about = format!("{} {}: {}", operation.kind, text::line(&operation.agent_name), operation.status);
        CompletionCandidate::new(operation.id.as_str()).help(Some(about.into()))
    };
    list.map(|list| list.operations.iter().map(candidate).collect()).unwrap_or_default()
}

/// Conversations of the agent that the half-written command names.
#[must_use]
pub fn topics() -> Vec<CompletionCandidate> {
    let words: Vec<_> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let Some(agent) = agent(&words) else { return Vec::new() };
    let list = ask(async |api| api.conversations(agent.as_str()).await);
    let candidate = |one: &agentbot_wire::ConversationView| {
        CompletionCandidate::new(text::line(&one.topic)).help(Some(format!("{} messages", one.seq).into()))
    };
    list.map(|list| list.conversations.iter().map(candidate).collect()).unwrap_or_default()
}

/// The agent behind `chat` or `messages`.
fn agent(words: &[String]) -> Option<Target> {
    let verb = words.iter().position(|word| word == "chat" || word == "messages")?;
    words.get(verb + 1..)?.iter().find(|word| !word.starts_with('-'))?.parse().ok()
}

fn names(deleted: bool) -> Vec<CompletionCandidate> {
    let list = ask(async |api| api.agents(deleted).await);
    let candidate = |agent: &agentbot_wire::AgentEntry| {
        CompletionCandidate::new(agent.name.as_str()).help(Some(agent.status.as_str().into()))
    };
    list.map(|list| list.agents.iter().map(candidate).collect()).unwrap_or_default()
}

fn ask<T>(question: impl AsyncFnOnce(Api) -> Result<T, Failure>) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let words: Vec<_> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let api = Api::new(Client::new(&socket(&words, std::env::var("AGENTBOT_SOCKET").ok())), PATIENCE);
    runtime.block_on(async { tokio::time::timeout(PATIENCE, question(api)).await.ok()?.ok() })
}

/// The socket that the half-written command names, else the environment's, else the usual one.
fn socket(words: &[String], environment: Option<String>) -> PathBuf {
    let named = words.iter().enumerate().find_map(|(index, word)| match word.strip_prefix("--socket") {
        Some("") => words.get(index + 1).cloned(),
        Some(rest) => rest.strip_prefix('=').map(str::to_owned),
        None => None,
    });
    PathBuf::from(named.or(environment).unwrap_or_else(|| DEFAULT_SOCKET.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_socket_of_the_half_written_command_is_asked() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let environment = || Some("/env".to_owned());
        assert_eq!(socket(&words("ctl --socket /a stop"), environment()), PathBuf::from("/a"));
        assert_eq!(socket(&words("ctl stop --socket=/b x"), environment()), PathBuf::from("/b"));
        assert_eq!(socket(&words("ctl stop"), environment()), PathBuf::from("/env"));
        assert_eq!(socket(&words("ctl stop --socket"), None), PathBuf::from(DEFAULT_SOCKET));
    }

    #[test]
    fn topics_are_those_of_the_agent_that_was_named() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(agent(&words("ctl chat helper --topic m")).unwrap().as_str(), "helper");
        assert!(agent(&words("ctl chat --topic")).is_none());
        assert!(agent(&words("ctl show helper")).is_none());
    }

    #[test]
    fn each_shell_has_a_script_that_asks_us() {
        for shell in ["bash", "zsh", "fish"] {
            assert!(script(shell).unwrap().contains(VARIABLE), "{shell}");
        }
        assert!(script("csh").is_err());
    }
}
