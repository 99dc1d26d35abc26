//! The command line's grammar and its help.

mod talk;

use std::path::PathBuf;
use std::time::Duration;

use agentbot_wire::{AgentName, OperationId, OperationStatus};
use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser as _;
use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::engine::ArgValueCandidates;
use serde_json::Value;

use crate::args::{self, Target};
use crate::complete;
use crate::output::Format;

pub use talk::{Chat, MemoryKey, MemoryVerb, Messages, ModelVerb, Token};

/// Where the daemon listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/agentbot/agentbot.sock";

/// Run AI agents in sealed containers on your own server.
#[derive(Debug, Parser)]
#[command(
    name = "agentbotctl",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  \
        agentbotctl provision helper         make an agent and bring it up\n  \
        agentbotctl list                     all agents\n  \
        agentbotctl show helper              one agent, and what to do next\n  \
        agentbotctl chat helper              talk with it\n  \
        agentbotctl restart helper scout     several at once\n  \
        agentbotctl -o json list             for programs\n\n\
        Exit codes: 0 ok, 1 failed, 2 usage, 3 not allowed, 4 not found, 5 conflict,\n\
        6 daemon or engine unreachable, 7 timed out, 130 Ctrl-C; of several agents the highest."
)]
pub struct Cli {
    /// The daemon's socket
    #[arg(long, global = true, help_heading = "Global options", env = "AGENTBOT_SOCKET", default_value = DEFAULT_SOCKET, hide_env_values = true,
          value_parser = args::socket, value_hint = ValueHint::FilePath, value_name = "PATH")]
    pub socket: PathBuf,
    /// Form of the result on standard output
    #[arg(
        short,
        long,
        global = true,
        help_heading = "Global options",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "table|json|yaml"
    )]
    pub output: Format,
    /// Say nothing about progress
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,
    /// How long to wait for the outcome: 500ms, 90s, 2m
    #[arg(long, global = true, help_heading = "Global options", default_value = "120s", value_parser = args::duration, value_name = "TIME")]
    pub timeout: Duration,
    /// What to do.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make agents and bring them up
    #[command(after_help = "Examples:\n  \
        agentbotctl provision helper\n  \
        agentbotctl provision helper --plan solo --model builtin/basic\n  \
        agentbotctl provision a b c --memory 512m --cpus 0.5\n  \
        agentbotctl provision helper --config '{\"persona\": \"terse\"}'\n  \
        agentbotctl provision helper --config @helper.json")]
    Provision(Provision),
    /// List agents
    #[command(
        after_help = "Examples:\n  agentbotctl list\n  agentbotctl list --deleted\n  agentbotctl list -o json | jq '.agents[].name'"
    )]
    List {
        /// Those that were deleted and can still be brought back
        #[arg(long)]
        deleted: bool,
    },
    /// Show all that is known of an agent
    #[command(after_help = "Examples:\n  agentbotctl show helper\n  agentbotctl show helper -o json | jq -r .phase")]
    Show(One),
    /// Bring agents up
    #[command(after_help = "Examples:\n  agentbotctl start helper\n  agentbotctl start a b c --detach")]
    Start(Many),
    /// Bring agents down; their workspaces stay
    #[command(after_help = "Examples:\n  agentbotctl stop helper\n  agentbotctl stop a b c")]
    Stop(Many),
    /// Bring agents down and up again
    #[command(after_help = "Examples:\n  agentbotctl restart helper\n  agentbotctl restart a b --timeout 5m")]
    Restart(Many),
    /// Find what is wrong and rebuild the container around its workspace
    #[command(after_help = "Examples:\n  agentbotctl repair helper\n  agentbotctl repair helper -o json | jq .report")]
    Repair(Many),
    /// Delete agents; they can be brought back for 30 days
    #[command(after_help = "Examples:\n  \
        agentbotctl delete helper                 undo with: agentbotctl undelete helper\n  \
        agentbotctl delete helper --dry-run       show what would be removed\n  \
        agentbotctl delete helper --purge --yes   remove workspace and all, for good")]
    Delete(Delete),
    /// Bring a deleted agent back
    #[command(
        after_help = "Examples:\n  agentbotctl undelete helper\n  agentbotctl undelete helper --as helper-old\n  \
        agentbotctl list --deleted"
    )]
    Undelete(Undelete),
    /// Print an agent's gateway token
    ///
    /// Whoever holds it may chat with that agent, and nothing else.
    #[command(after_help = "Examples:\n  agentbotctl token helper\n  TOKEN=$(agentbotctl token helper)\n  \
        agentbotctl token helper --rotate --yes   a new one; what the old one opened is closed")]
    Token(Token),
    /// Talk with an agent
    ///
    /// With a text it is asked once and its answer printed. `-` puts standard input behind the text. Without a text a
    /// pipe on standard input is the text, and on a terminal there is a prompt; where the answer goes to a program, each
    /// line is a message.
    #[command(after_help = "Examples:\n  \
        agentbotctl chat helper                                a talk at a prompt\n  \
        agentbotctl chat helper \"what is new?\"                one answer\n  \
        git diff | agentbotctl chat helper \"review this\" -    text and input together\n  \
        agentbotctl chat helper --topic work \"and now?\"      another conversation\n  \
        agentbotctl chat helper -o json \"hi\"                 each event as a line of JSON\n  \
        agentbotctl chat helper --detach \"take your time\"    do not wait; see `agentbotctl messages helper`\n\n\
        Ctrl-C aborts the answer. With --timeout the turn goes on after it; with --lines it is the\n\
        time of each line, and a line without an answer does not keep the next from being asked.")]
    Chat(Chat),
    /// List an agent's conversations
    #[command(after_help = "Examples:\n  agentbotctl conversations helper\n  \
        agentbotctl conversations helper -o json | jq -r '.conversations[].topic'")]
    Conversations(One),
    /// Show what was said
    #[command(
        after_help = "Examples:\n  agentbotctl messages helper\n  agentbotctl messages helper --topic main --limit 200\n  \
        agentbotctl messages helper --follow\n  agentbotctl messages helper -o json | \
        jq -r '.messages[].content'\n\n\
        Ctrl-C ends --follow, with the exit code 130."
    )]
    Messages(Messages),
    /// Look at models and try them
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Model {
        /// What to do with them.
        #[command(subcommand)]
        verb: ModelVerb,
    },
    /// Look at what an agent remembers, and change it
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Memory {
        /// What to do with it.
        #[command(subcommand)]
        verb: MemoryVerb,
    },
    /// Look at operations, wait for them, cancel them
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Operation {
        /// What to do with them.
        #[command(subcommand)]
        verb: OperationVerb,
    },
    /// Show the daemon, its engine and its tasks
    #[command(after_help = "Examples:\n  agentbotctl status\n  agentbotctl status -o json | jq .engine.available")]
    Status,
    /// Print the versions of this program and the daemon
    #[command(after_help = "Examples:\n  agentbotctl version\n\nIt works without a daemon too.")]
    Version,
    /// Print a script that completes commands and agents' names
    #[command(after_help = "Examples:\n  \
        echo 'source <(agentbotctl completion bash)' >> ~/.bashrc\n  \
        echo 'source <(agentbotctl completion zsh)' >> ~/.zshrc\n  \
        agentbotctl completion fish > ~/.config/fish/completions/agentbotctl.fish")]
    Completion {
        /// The shell
        #[arg(value_parser = ["bash", "zsh", "fish"])]
        shell: String,
    },
}

impl Verb {
    /// Whether it asks the daemon to change something.
    #[must_use]
    pub fn changes(&self) -> bool {
        match self {
            Self::Provision(_)
            | Self::Start(_)
            | Self::Stop(_)
            | Self::Restart(_)
            | Self::Repair(_)
            | Self::Undelete(_) => true,
            Self::Delete(delete) => !delete.dry_run,
            Self::Operation { verb } => matches!(verb, OperationVerb::Cancel { .. }),
            Self::Memory { verb } => matches!(verb, MemoryVerb::Set { .. } | MemoryVerb::Forget { .. }),
            Self::Token(token) => token.rotate,
            Self::Chat(_) | Self::Conversations(_) | Self::Messages(_) | Self::Model { .. } => false,
            Self::List { .. } | Self::Show(_) | Self::Status | Self::Version | Self::Completion { .. } => false,
        }
    }
}

/// One agent.
#[derive(Debug, Args)]
pub struct One {
    /// The agent, by name or id
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::agents))]
    pub name: Target,
}

/// Several agents.
#[derive(Debug, Args)]
pub struct Many {
    /// The agents, by name or id
    #[arg(value_name = "NAME", required = true, add = ArgValueCandidates::new(complete::agents))]
    pub names: Vec<Target>,
    /// How long to stay.
    #[command(flatten)]
    pub stay: Stay,
}

/// Whether to wait for the outcome.
#[derive(Clone, Copy, Debug, Args)]
pub struct Stay {
    /// Print the operation's id and do not wait for it
    #[arg(long)]
    pub detach: bool,
}

/// Arguments of `provision`.
#[derive(Debug, Args)]
pub struct Provision {
    /// Names for the new agents
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<AgentName>,
    /// Model, as <provider>/<model> or an alias
    #[arg(long)]
    pub model: Option<String>,
    /// Plan that sets the limits: small, solo, collective, label, network, or one of your own
    #[arg(long)]
    pub plan: Option<String>,
    /// Memory instead of the plan's: 512m, 2g
    #[arg(long, value_parser = args::memory, value_name = "SIZE")]
    pub memory: Option<u64>,
    /// Cores instead of the plan's: 0.5
    #[arg(long, value_parser = args::cpus, value_name = "CORES")]
    pub cpus: Option<f64>,
    /// Processes instead of the plan's
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "COUNT")]
    pub pids: Option<u32>,
    /// A local image instead of Agentbot's own
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Configuration: a JSON object, or @FILE with one
    #[arg(long, value_parser = args::config, value_name = "JSON|@FILE")]
    pub config: Option<Value>,
    /// How long to stay.
    #[command(flatten)]
    pub stay: Stay,
}

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// The agents, by name or id
    #[arg(value_name = "NAME", required = true, add = ArgValueCandidates::new(complete::agents))]
    pub names: Vec<Target>,
    /// Remove the workspace too; this cannot be undone
    #[arg(long)]
    pub purge: bool,
    /// Do not ask before a purge
    #[arg(short, long)]
    pub yes: bool,
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How long to stay.
    #[command(flatten)]
    pub stay: Stay,
}

/// Arguments of `undelete`.
#[derive(Debug, Args)]
pub struct Undelete {
    /// The deleted agent: by name (the newest of that name) or id
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::deleted_agents))]
    pub name: Target,
    /// Bring it back under another name
    #[arg(long = "as", value_name = "NEW")]
    pub new_name: Option<AgentName>,
    /// How long to stay.
    #[command(flatten)]
    pub stay: Stay,
}

/// What to do with operations.
#[derive(Debug, Subcommand)]
pub enum OperationVerb {
    /// List operations, newest first
    #[command(
        after_help = "Examples:\n  agentbotctl operation list\n  agentbotctl operation list --agent helper --status failed"
    )]
    List {
        /// Those of one agent
        #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(complete::agents))]
        agent: Option<Target>,
        /// Those in one state
        #[arg(long, value_parser = status_words())]
        status: Option<OperationStatus>,
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500), value_name = "COUNT")]
        limit: u32,
    },
    /// Show an operation and its steps
    #[command(after_help = "Examples:\n  agentbotctl operation show op_01kak2m5v5e7qrf9v3n6m8t0zx")]
    Show(OneOperation),
    /// Wait until an operation has ended; exits as the operation did
    #[command(after_help = "Examples:\n  agentbotctl operation wait op_01kak2m5v5e7qrf9v3n6m8t0zx --timeout 10m")]
    Wait(OneOperation),
    /// Cancel an operation
    #[command(after_help = "Examples:\n  agentbotctl operation cancel op_01kak2m5v5e7qrf9v3n6m8t0zx")]
    Cancel(OneOperation),
}

/// One operation.
#[derive(Debug, Args)]
pub struct OneOperation {
    /// The operation's id
    #[arg(value_name = "ID", add = ArgValueCandidates::new(complete::operations))]
    pub id: OperationId,
}

fn status_words() -> impl clap::builder::TypedValueParser<Value = OperationStatus> {
    PossibleValuesParser::new(OperationStatus::ALL.iter().map(|status| status.as_str()))
        .try_map(|word| OperationStatus::from_word(&word).ok_or("no such status"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_after_the_verb() {
        for words in [["agentbotctl", "-o", "json", "list"], ["agentbotctl", "list", "-o", "json"]] {
            let cli = Cli::try_parse_from(words).unwrap();
            assert_eq!(cli.output, Format::Json);
        }
    }

    #[test]
    fn every_verb_explains_itself_with_examples() {
        fn examples(command: &clap::Command) {
            let name = command.get_name();
            if command.has_subcommands() {
                command.get_subcommands().for_each(examples);
            } else {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("agentbotctl"), "{name} has no example");
                assert!(command.get_about().is_some(), "{name} says nothing of itself");
            }
        }
        Cli::command().get_subcommands().for_each(examples);
    }
}
