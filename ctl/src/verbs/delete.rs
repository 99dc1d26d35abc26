//! `delete` and `undelete`.

use agentbot_wire::{InstanceView, UndeleteRequest};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Done, Work, ask, distinct, each, settle};
use crate::args::Target;
use crate::cli::{Delete, Undelete};
use crate::exit::{Exit, Failure, USAGE};
use crate::follow::Follower;
use crate::output::table::Sheet;
use crate::output::{Outcome, text};

/// Asks before a purge. Where nobody can answer it is refused.
///
/// # Errors
/// When the answer is not yes, or there is no terminal to ask on.
pub fn confirm(arguments: &Delete) -> Result<(), Failure> {
    if !arguments.purge || arguments.yes || arguments.dry_run {
        return Ok(());
    }
    let names = arguments.names.iter().map(Target::as_str).collect::<Vec<_>>().join(", ");
    match ask(&format!("This removes {names} with workspace and history, for good. Go ahead? [y/N] ")) {
        Some(true) => Ok(()),
        Some(false) => {
            Err(Failure::new(Exit::Failed, "cancelled", "nothing was removed").hint("answer y, or use --yes"))
        }
        None => Err(Failure::new(
            Exit::Usage,
            USAGE,
            format!("a purge of {names} cannot be undone and nobody can be asked"),
        )
        .hint("add --yes to go ahead, or --dry-run to see what would be removed")),
    }
}

/// Deletes agents, or shows what that would remove.
///
/// # Errors
/// When it failed for the only agent.
pub async fn run(follower: &Follower, arguments: &Delete) -> Result<Outcome, Failure> {
    let work = distinct(&arguments.names).into_iter().map(|target| {
        let one: Work<'_> = Box::pin(async move {
            if arguments.dry_run {
                let view = follower.api.instance(target.as_str()).await?;
                return Ok(preview(&view, arguments.purge));
            }
            let began = Instant::now();
            let reply = follower.api.delete(target, arguments.purge).await?;
            settle(follower, arguments.stay, began, reply).await
        });
        (target.as_str().to_owned(), one)
    });
    each(follower, work.collect()).await
}

/// Brings a deleted agent back.
///
/// # Errors
/// When there is none, or its name is taken.
pub async fn undelete(follower: &Follower, arguments: Undelete) -> Result<Outcome, Failure> {
    let name = arguments.name.as_str().to_owned();
    let request = UndeleteRequest { new_name: arguments.new_name.map(|name| name.to_string()) };
    let one: Work<'_> = Box::pin(async move {
        let began = Instant::now();
        let reply = follower.api.undelete(&arguments.name, &request).await?;
        settle(follower, arguments.stay, began, reply).await
    });
    each(follower, vec![(name, one)]).await
}

/// What a delete or a purge would do to an agent.
fn preview(view: &InstanceView, purge: bool) -> Done {
    let mut removes = Vec::new();
    let mut keeps = Vec::new();
    if let Some(container) = &view.container {
        removes.push(format!("container {}", text::line(&container.name)));
    }
    let data = [format!("workspace of slot {}", view.slot), "configuration and history".to_owned()];
    if purge {
        removes.extend(data);
    } else {
        keeps.extend(data);
    }
    let name = view.name.as_str();
    let kept = if keeps.is_empty() {
        "nothing: a purge cannot be undone".to_owned()
    } else {
        format!("{}\nfor 30 days, `agentbotctl undelete {name}` brings it back", keeps.join("\n"))
    };
    let removed = if removes.is_empty() { "nothing: it has no container".to_owned() } else { removes.join("\n") };
    let sheet =
        Sheet::default().with("agent", format!("{name} ({})", view.id)).with("removes", removed).with("keeps", kept);
    let document: Value =
        json!({"dry_run": true, "agent": name, "id": view.id, "purge": purge, "removes": removes, "keeps": keeps});
    Done { document, text: sheet.render(), line: format!("{name} is untouched: this was a dry run") }
}
