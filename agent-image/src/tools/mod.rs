//! The tools for looking inside a container whose image has no userland.

mod args;
mod cat;
mod df;
mod env;
mod install;
mod ls;
mod ps;
mod size;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::probe;
use args::{Args, Rejected};

/// A wrong command line.
const USAGE: u8 = 2;

/// Nobody reads the output any more: as if ended by SIGPIPE.
const PIPE_CLOSED: u8 = 141;

/// A tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Lists directories.
    Ls,
    /// Shows files.
    Cat,
    /// Lists processes.
    Ps,
    /// Shows free space.
    Df,
    /// Shows the environment.
    Env,
    /// Shows how the container is locked down.
    Probe,
    /// Prepares a file tree for the agent.
    Install,
    /// Shows the version.
    Version,
    /// Shows what there is.
    Help,
}

impl Tool {
    /// The tool of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ls" => Self::Ls,
            "cat" => Self::Cat,
            "ps" => Self::Ps,
            "df" => Self::Df,
            "env" => Self::Env,
            "probe" => Self::Probe,
            "install" => Self::Install,
            "version" | "--version" | "-V" => Self::Version,
            "help" | "--help" | "-h" => Self::Help,
            _ => return None,
        })
    }

    /// The letters that may follow a dash.
    fn letters(self) -> &'static str {
        match self {
            Self::Ls => "alAdh1",
            Self::Ps => "aefux",
            Self::Df => "ahkT",
            Self::Cat => "u",
            Self::Env | Self::Probe | Self::Install | Self::Version | Self::Help => "",
        }
    }

    fn takes_words(self) -> bool {
        matches!(self, Self::Ls | Self::Cat | Self::Df | Self::Install)
    }

    fn help(self) -> &'static str {
        match self {
            Self::Ls => ls::HELP,
            Self::Cat => cat::HELP,
            Self::Ps => ps::HELP,
            Self::Df => df::HELP,
            Self::Env => env::HELP,
            Self::Probe => probe::HELP,
            Self::Install => install::HELP,
            Self::Version => "Usage: agentbot-agent version\nShows the version.\n",
            Self::Help => HELP,
        }
    }
}

const HELP: &str = "\
Usage: agentbot-agent [TOOL [ARGUMENTS]]

Without a tool it is the agent itself, PID 1 of an Agentbot container.

Tools:
  ls       list directories
  cat      show files
  ps       list processes
  df       show free space
  env      show the environment
  probe    show how this container is locked down, as JSON
  install  prepare an image for the agent
  version  show the version

Each tool explains itself with --help. The agent reads AGENTBOT_SOCKET,
the daemon's socket (default /run/agentbot/agentbot.sock), and
AGENTBOT_WORKSPACE, its own directory (default /workspace).
";

/// What a tool has to say at its end.
type Done = io::Result<ExitCode>;

/// Runs a tool.
#[must_use]
pub fn run(tool: Tool, args: &[OsString]) -> ExitCode {
    let parsed = match Args::parse(args, tool.letters()) {
        Ok(Args { words, .. }) if !tool.takes_words() && tool != Tool::Help && !words.is_empty() => {
            Err(Rejected::Word(words[0].clone()))
        }
        parsed => parsed,
    };
    let done = match parsed {
        Ok(args) => start(tool, &args),
        Err(Rejected::Help) => print(tool.help()),
        Err(rejected) => {
            complain(&format!("{rejected}; see --help"));
            return ExitCode::from(USAGE);
        }
    };
    match done {
        Ok(code) => code,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(PIPE_CLOSED),
        Err(error) => {
            complain(&format!("cannot write: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn start(tool: Tool, args: &Args) -> Done {
    match tool {
        Tool::Ls => ls::run(args),
        Tool::Cat => cat::run(args),
        Tool::Ps => ps::run(),
        Tool::Df => df::run(args),
        Tool::Env => env::run(),
        Tool::Probe => probe::run(),
        Tool::Install => install::run(args),
        Tool::Version => print(&format!("agentbot-agent {}\n", env!("CARGO_PKG_VERSION"))),
        Tool::Help => print(tool.help()),
    }
}

/// Answers a word that names no tool.
#[must_use]
pub fn unknown(word: &OsStr) -> ExitCode {
    complain(&format!("there is no tool {word:?}; see agentbot-agent --help"));
    ExitCode::from(USAGE)
}

fn print(text: &str) -> Done {
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// One line on standard error. Nobody is left to tell when that fails.
fn complain(what: &str) {
    let _ = writeln!(io::stderr().lock(), "agentbot-agent: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{DEFAULT_SOCKET, DEFAULT_WORKSPACE, SOCKET_VARIABLE, WORKSPACE_VARIABLE};

    #[test]
    fn every_tool_in_the_help_exists() {
        let listed: Vec<&str> = HELP
            .lines()
            .skip_while(|line| *line != "Tools:")
            .skip(1)
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert_eq!(listed.len(), 8);
        assert!(listed.iter().all(|name| Tool::named(name).is_some()), "{listed:?}");
    }

    #[test]
    fn the_help_names_the_variables_and_their_defaults() {
        for word in [SOCKET_VARIABLE, DEFAULT_SOCKET, WORKSPACE_VARIABLE, DEFAULT_WORKSPACE] {
            assert!(HELP.contains(word), "{word}");
        }
    }
}
