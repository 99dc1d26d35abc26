//! The verbs: each turns arguments into calls and answers into an outcome.

mod conversations;
mod delete;
mod lifecycle;
mod list;
mod memory;
mod model;
mod operation;
mod provision;
mod show;
mod status;
mod token;
mod version;

use std::future::Future;
use std::io::{BufRead as _, IsTerminal as _};
use std::pin::Pin;

use agentbot_wire::{Operation, OperationKind, Phase};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cli::{OperationVerb, Stay, Verb};
use crate::complete;
use crate::exit::{Exit, Failure};
use crate::follow::Follower;
use crate::output::{Outcome, advice, stderr, style, text};

/// How many agents are acted on at the same time.
const AT_ONCE: usize = 4;

/// What must be settled with the user before anything is asked of the daemon. It may block on a terminal.
///
/// # Errors
/// When the user says no, or cannot be asked.
pub fn confirm(verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Delete(arguments) => delete::confirm(arguments),
        Verb::Token(arguments) => token::confirm(arguments),
        _ => Ok(()),
    }
}

/// Asks a question on the terminal that is answered with yes or no; none where there is no terminal. It blocks.
fn ask(question: &str) -> Option<bool> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return None;
    }
    stderr(question);
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    Some(read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Does what was asked.
///
/// # Errors
/// What stood in the way.
pub async fn run(follower: &Follower, verb: Verb) -> Result<Outcome, Failure> {
    match verb {
        Verb::Provision(arguments) => provision::run(follower, arguments).await,
        Verb::List { deleted } => list::run(&follower.api, deleted).await,
        Verb::Show(one) => show::run(&follower.api, &one.name).await,
        Verb::Start(many) => lifecycle::run(follower, "start", &many).await,
        Verb::Stop(many) => lifecycle::run(follower, "stop", &many).await,
        Verb::Restart(many) => lifecycle::run(follower, "restart", &many).await,
        Verb::Repair(many) => lifecycle::run(follower, "repair", &many).await,
        Verb::Delete(arguments) => delete::run(follower, &arguments).await,
        Verb::Undelete(arguments) => delete::undelete(follower, arguments).await,
        Verb::Token(arguments) => token::run(follower, &arguments).await,
        Verb::Conversations(one) => conversations::run(&follower.api, &one.name).await,
        Verb::Model { verb } => model::run(&follower.api, verb).await,
        Verb::Memory { verb } => memory::run(follower, verb).await,
        // They talk instead of giving an outcome, and never come here.
        Verb::Chat(_) | Verb::Messages(_) => Err(Failure::new(Exit::Failed, "internal", "that verb talks")),
        Verb::Operation { verb } => match verb {
            OperationVerb::List { agent, status, limit } => {
                operation::list(&follower.api, agent.as_ref(), status, limit).await
            }
            OperationVerb::Show(one) => operation::show(&follower.api, &one.id).await,
            OperationVerb::Wait(one) => operation::wait(follower, &one.id).await,
            OperationVerb::Cancel(one) => operation::cancel(follower, &one.id).await,
        },
        Verb::Status => status::run(&follower.api).await,
        Verb::Version => version::run(&follower.api).await,
        Verb::Completion { shell } => {
            let script = complete::script(&shell)?;
            Ok(Outcome::ok(json!({"shell": shell, "script": script}), script))
        }
    }
}

/// What was done with one agent.
struct Done {
    /// For programs.
    document: Value,
    /// For people, on standard output.
    text: String,
    /// The last line of progress.
    line: String,
}

/// Work on one agent.
type Work<'a> = Pin<Box<dyn Future<Output = Result<Done, Failure>> + 'a>>;

/// Each once, in the order given.
fn distinct<T: PartialEq>(all: &[T]) -> Vec<&T> {
    let mut distinct = Vec::new();
    for one in all {
        if !distinct.contains(&one) {
            distinct.push(one);
        }
    }
    distinct
}

/// Works on every agent, a few at a time. One agent fails as a command fails; of several each has its line, and the
/// highest exit code counts.
async fn each<'a>(follower: &Follower, work: Vec<(String, Work<'a>)>) -> Result<Outcome, Failure> {
    if work.len() == 1 {
        let mut done = Vec::new();
        for (_, one) in work {
            done.push(one.await?);
        }
        return Ok(done.into_iter().fold(Outcome::ok(Value::Null, String::new()), |_, done| {
            follower.progress.say(&good(&done.line));
            Outcome::ok(done.document, done.text)
        }));
    }
    let told = work.into_iter().map(|(name, one)| async move {
        let result = one.await;
        match &result {
            Ok(done) => follower.progress.say(&good(&done.line)),
            Err(failure) => follower.progress.insist(&bad(&name, failure)),
        }
        (name, result)
    });
    let results: Vec<_> = stream::iter(told).buffered(AT_ONCE).collect().await;
    Ok(together(results))
}

/// One outcome of several.
fn together(results: Vec<(String, Result<Done, Failure>)>) -> Outcome {
    let mut worst: Option<Failure> = None;
    let mut documents = Vec::new();
    let mut out = String::new();
    for (name, result) in results {
        match result {
            Ok(done) => {
                let mut document = json!({"agent": name, "ok": true});
                if let (Value::Object(all), Value::Object(more)) = (&mut document, done.document) {
                    for (key, value) in more {
                        all.entry(key).or_insert(value);
                    }
                }
                documents.push(document);
                out.push_str(&done.text);
            }
            Err(failure) => {
                documents.push(json!({"agent": name, "ok": false, "error": failure.to_value()}));
                if failure.exit == Exit::Unreachable
                    && let Some(operation) = &failure.operation
                {
                    out.push_str(&format!("{}\n", operation.id));
                }
                if worst.as_ref().is_none_or(|worst| failure.exit > worst.exit) {
                    worst = Some(failure);
                }
            }
        }
    }
    match worst {
        None => Outcome::ok(json!({"ok": true, "results": documents}), out),
        Some(worst) => {
            let document = json!({"ok": false, "error": worst.to_value(), "results": documents});
            Outcome::new(document, out, worst.exit)
        }
    }
}

fn good(line: &str) -> String {
    format!("{}✓{:#} {line}", style::GOOD, style::GOOD)
}

fn bad(name: &str, failure: &Failure) -> String {
    let hint = failure.hint.as_ref().map(|hint| format!("\n{}", advice("  ", hint)));
    let line =
        format!("{}✗{:#} {name}: {}{}", style::BAD, style::BAD, text::line(&failure.message), hint.unwrap_or_default());
    line.trim_end().to_owned()
}

/// Carries an accepted change to its end, or leaves it where `--detach` says so. `reply` is the daemon's answer; in the
/// document its `status` and `operation` become what they are at the end.
async fn settle(follower: &Follower, stay: Stay, began: Instant, mut reply: Value) -> Result<Done, Failure> {
    let operation = crate::api::operation_in(&reply)?;
    if stay.detach {
        let line = format!("{} of {} is under way", operation.kind, text::line(&operation.agent_name));
        return Ok(Done { text: format!("{}\n", operation.id), document: reply, line });
    }
    let operation = follower.follow(operation).await?;
    let phase = phase_after(follower, &operation).await;
    let name = text::line(&operation.agent_name);
    let took = text::took(began.elapsed());
    let line = match operation.kind {
        OperationKind::Delete => format!("{name} is deleted ({took}); `agentbotctl undelete {name}` brings it back"),
        OperationKind::Purge => format!("{name} is gone for good ({took})"),
        _ => format!("{name} is {phase} ({took})"),
    };
    if let Some(report) = operation.result.as_ref().and_then(|result| result.get("report")) {
        reply["report"] = report.clone();
    }
    reply["status"] = json!(phase);
    reply["operation"] = json!(operation);
    Ok(Done { document: reply, text: String::new(), line })
}

/// The agent's phase once its operation has succeeded.
async fn phase_after(follower: &Follower, operation: &Operation) -> Phase {
    let meant = match operation.kind {
        OperationKind::Delete | OperationKind::Purge => return Phase::Deleted,
        OperationKind::Stop => Phase::Stopped,
        OperationKind::Provision
        | OperationKind::Start
        | OperationKind::Restart
        | OperationKind::Repair
        | OperationKind::Undelete => Phase::Running,
    };
    // The operation did what it says; that the agent cannot be looked at now does not make it fail.
    follower.api.instance(operation.agent.as_str()).await.map_or(meant, |view| view.phase)
}
