//! Arguments of the verbs that have to do with talking.

use agentbot_wire::ConversationId;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;

use super::One;
use crate::args::{self, Target};
use crate::complete;

/// Arguments of `token`.
#[derive(Debug, Args)]
pub struct Token {
    /// The agent, by name or id
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::agents))]
    pub name: Target,
    /// Draw a new one; the old one and what it opened end at once
    #[arg(long)]
    pub rotate: bool,
    /// Do not ask before a rotation
    #[arg(short, long)]
    pub yes: bool,
}

/// Arguments of `chat`.
#[derive(Debug, Args)]
pub struct Chat {
    /// The agent, by name or id
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::agents))]
    pub name: Target,
    /// What to say; `-` adds standard input. Put `--` before words that begin with a dash
    #[arg(value_name = "TEXT")]
    pub words: Vec<String>,
    /// The conversation, made on first use
    #[arg(long, value_parser = args::topic, value_name = "NAME", add = ArgValueCandidates::new(complete::topics))]
    pub topic: Option<String>,
    /// Print the ids and do not wait for the answer
    #[arg(long)]
    pub detach: bool,
    /// The same key sends the message once, however often it is asked
    #[arg(long, value_parser = args::chat_key, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Each line of standard input is a message of its own
    #[arg(long, conflicts_with_all = ["detach", "idempotency_key"])]
    pub lines: bool,
    /// Do not remember what is typed at the prompt
    #[arg(long)]
    pub no_history: bool,
}

/// Arguments of `messages`.
#[derive(Debug, Args)]
pub struct Messages {
    /// The agent, by name or id
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::agents))]
    pub name: Target,
    /// Those of the conversation of this name
    #[arg(long, value_parser = args::topic, value_name = "NAME", add = ArgValueCandidates::new(complete::topics))]
    pub topic: Option<String>,
    /// Those of the conversation of this id
    #[arg(long, value_name = "ID", conflicts_with = "topic")]
    pub conversation: Option<ConversationId>,
    /// At most so many, the newest
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "COUNT")]
    pub limit: u32,
    /// Go on with what is being said
    #[arg(short, long)]
    pub follow: bool,
}

/// What to do with models.
#[derive(Debug, Subcommand)]
pub enum ModelVerb {
    /// List models, aliases and providers
    #[command(
        after_help = "Examples:\n  agentbotctl model list\n  agentbotctl model list -o json | jq -r '.models[].id'"
    )]
    List,
    /// Ask a model for an answer and take the time
    #[command(after_help = "Examples:\n  agentbotctl model test\n  agentbotctl model test builtin/basic")]
    Test {
        /// <provider>/<model> or an alias; the default model when absent
        #[arg(value_name = "MODEL")]
        model: Option<String>,
    },
    /// Look for servers of models and keys on the daemon's machine
    #[command(after_help = "Examples:\n  agentbotctl model discover")]
    Discover,
}

/// What to do with an agent's memory.
#[derive(Debug, Subcommand)]
pub enum MemoryVerb {
    /// List all that an agent remembers
    #[command(
        after_help = "Examples:\n  agentbotctl memory list helper\n  agentbotctl memory list helper -o json | jq .memory"
    )]
    List(One),
    /// Print one value
    #[command(after_help = "Examples:\n  agentbotctl memory get helper city")]
    Get(MemoryKey),
    /// Remember a value: JSON, or a text
    #[command(after_help = "Examples:\n  agentbotctl memory set helper city Oslo\n  \
        agentbotctl memory set helper limits '{\"daily\": 5}'\n  agentbotctl memory set helper zip '\"0150\"'")]
    Set {
        /// Whose memory, and which key.
        #[command(flatten)]
        of: MemoryKey,
        /// The value: JSON where it is that, else a text
        #[arg(value_name = "VALUE", allow_hyphen_values = true)]
        value: String,
    },
    /// Forget a key
    #[command(after_help = "Examples:\n  agentbotctl memory forget helper city")]
    Forget(MemoryKey),
}

/// One key of an agent's memory.
#[derive(Debug, Args)]
pub struct MemoryKey {
    /// The agent, by name or id
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::agents))]
    pub name: Target,
    /// The key
    #[arg(value_name = "KEY", value_parser = args::memory_key)]
    pub key: String,
}
