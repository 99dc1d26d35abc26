//! Talking with an agent.

mod answer;
mod chat;
mod input;
mod link;
mod messages;
mod plain;
mod prompt;
mod repl;
mod resume;
pub mod safe;
mod screen;
mod session;
mod turn;
mod view;

use tokio::signal::unix::{SignalKind, signal};

use crate::api::Api;
use crate::cli::{Chat, Messages};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};

/// A verb that talks.
#[derive(Debug)]
pub enum Verb {
    /// `chat`.
    Chat(Chat),
    /// `messages`.
    Messages(Messages),
}

/// Does what was asked. Ctrl-C belongs to the talk: it ends a turn, not the program.
#[must_use]
pub fn run(api: &Api, format: Format, quiet: bool, verb: &Verb) -> Exit {
    let done =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| unfit(&error)).and_then(
            |runtime| {
                runtime.block_on(async {
                    let mut interrupts = signal(SignalKind::interrupt()).map_err(|error| unfit(&error))?;
                    match verb {
                        Verb::Chat(arguments) => chat::run(api, format, quiet, arguments, &mut interrupts).await,
                        Verb::Messages(arguments) => messages::run(api, format, arguments, &mut interrupts).await,
                    }
                })
            },
        );
    done.unwrap_or_else(|failure| {
        tell(format, &failure);
        failure.exit
    })
}

/// Tells a failure once: a sentence for people, a document where documents are wanted.
fn tell(format: Format, failure: &Failure) {
    output::complain(failure);
    if format != Format::Table {
        // Who went away does not want it.
        let _ = output::stdout(&plain::document(format, &failure.to_document()));
    }
}

fn unfit(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, "internal", format!("this system gives neither threads nor signals: {error}"))
}
