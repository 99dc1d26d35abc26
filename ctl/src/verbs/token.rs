//! `token`: the credential of an agent's clients.

use serde_json::json;

use super::ask;
use crate::cli::Token;
use crate::exit::{Exit, Failure, USAGE};
use crate::follow::Follower;
use crate::output::{Outcome, text};

/// Asks before a rotation. Where nobody can answer it is refused.
///
/// # Errors
/// When the answer is not yes, or there is no terminal to ask on.
pub fn confirm(arguments: &Token) -> Result<(), Failure> {
    if !arguments.rotate || arguments.yes {
        return Ok(());
    }
    let name = arguments.name.as_str();
    match ask(&format!("The token of {name} ends, and every client that uses it is closed. Go ahead? [y/N] ")) {
        Some(true) => Ok(()),
        Some(false) => {
            Err(Failure::new(Exit::Failed, "cancelled", "the token is as it was").hint("answer y, or use --yes"))
        }
        None => Err(Failure::new(
            Exit::Usage,
            USAGE,
            format!("clients of {name} are closed when its token is rotated, and nobody can be asked"),
        )
        .hint("add --yes to go ahead")),
    }
}

/// Prints the token, or draws a new one and prints that.
///
/// # Errors
/// When there is no such agent.
pub async fn run(follower: &Follower, arguments: &Token) -> Result<Outcome, Failure> {
    let reply = if arguments.rotate {
        let reply = follower.api.rotate(&arguments.name).await?;
        let name = arguments.name.as_str();
        follower.progress.say(&super::good(&format!("{name} has a new token; the old one is closed")));
        reply
    } else {
        follower.api.token(&arguments.name).await?
    };
    let line = format!("{}\n", text::line(&reply.token));
    Ok(Outcome::ok(json!(reply), line))
}
