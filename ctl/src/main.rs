//! `agentbotctl`: drives the daemon from a terminal or a script.
#![forbid(unsafe_code)]

mod api;
mod args;
mod cli;
mod client;
mod complete;
mod exit;
mod follow;
mod markdown;
mod output;
mod progress;
mod talk;
mod usage;
mod verbs;

use std::process::ExitCode;

use agentbot_wire::Operation;
use clap::{CommandFactory as _, Parser as _};
use tokio::time::Instant;

use api::Api;
use cli::{Cli, Verb};
use client::Client;
use exit::{Exit, Failure};
use follow::{Followed, Follower, goes_on};
use output::{Outcome, text};
use progress::Progress;

fn main() -> ExitCode {
    if complete::answered() {
        return ExitCode::SUCCESS;
    }
    let exit = match Cli::try_parse() {
        Err(error) => usage::explain(&error),
        Ok(Cli { verb: None, .. }) => usage::help(&mut Cli::command()),
        Ok(Cli { verb: Some(verb), socket, output, quiet, timeout }) => {
            let api = Api::new(Client::new(&socket), timeout);
            let verb = match verb {
                Verb::Chat(chat) => return talk::run(&api, output, quiet, &talk::Verb::Chat(chat)).into(),
                Verb::Messages(messages) => {
                    return talk::run(&api, output, quiet, &talk::Verb::Messages(messages)).into();
                }
                verb => verb,
            };
            match verbs::confirm(&verb).and_then(|()| drive(api, Progress::detect(quiet), verb)) {
                Ok(outcome) => output::print(output, &outcome),
                Err(failure) => output::print_failure(output, &failure),
            }
        }
    };
    exit.into()
}

/// Runs a verb to its end, or until the user has had enough.
fn drive(api: Api, progress: Progress, verb: Verb) -> Result<Outcome, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, "internal", format!("no runtime: {error}")))?;
    runtime.block_on(async {
        let until = Instant::now() + api.timeout();
        let follower = Follower { api, progress, followed: Followed::default(), until };
        let changes = verb.changes();
        tokio::select! {
            outcome = verbs::run(&follower, verb) => outcome,
            Ok(()) = tokio::signal::ctrl_c() => {
                Err(interrupted(&follower.followed.open(), changes))
            }
        }
    })
}

/// What Ctrl-C leaves behind: the daemon finishes what it accepted.
fn interrupted(open: &[Operation], changes: bool) -> Failure {
    let failure = |message: &str| Failure::new(Exit::Interrupted, "interrupted", message);
    match open {
        [] if changes => failure("interrupted before the daemon answered")
            .hint("what was asked may have been accepted: see `agentbotctl operation list`"),
        [] => failure("interrupted"),
        [one] => failure(&format!("interrupted; the {} of {} goes on", one.kind, text::line(&one.agent_name)))
            .hint(goes_on(one, "by itself"))
            .about(one),
        [first, ..] => {
            let ids = open.iter().map(|operation| operation.id.as_str()).collect::<Vec<_>>().join(" ");
            failure(&format!("interrupted; {} operations go on: {ids}", open.len()))
                .hint(
                    "nothing is lost\n\
                     follow one: agentbotctl operation wait ID\n\
                     cancel one: agentbotctl operation cancel ID",
                )
                .about(first)
        }
    }
}
