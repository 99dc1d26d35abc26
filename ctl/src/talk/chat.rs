//! `chat`: one question, the lines of standard input one by one, or a talk at a prompt.

use std::io::IsTerminal as _;

use agentbot_wire::{ChatSend, InstanceView, MAIN_TOPIC, OperationId, TurnStatus};
use serde_json::json;
use tokio::signal::unix::Signal;
use tokio::time::Instant;

use super::input::{piped, reader, within_bounds};
use super::plain::{Frames, Piped, aside, document};
use super::screen::Screen;
use super::session::{News, Session};
use super::turn::{Aborted, End, Question, Talk};
use super::view::{Terminal, View};
use super::{repl, tell};
use crate::api::Api;
use crate::cli::Chat;
use crate::exit::{Exit, Failure, USAGE};
use crate::output::table::Sheet;
use crate::output::{self, Format};

/// Talks, and says what the process exits with.
///
/// # Errors
/// When there was no answer, and why.
pub async fn run(
    api: &Api,
    format: Format,
    quiet: bool,
    arguments: &Chat,
    interrupts: &mut Signal,
) -> Result<Exit, Failure> {
    let until = Instant::now() + api.timeout();
    let text = text(arguments, quiet, until, interrupts).await?;
    let agent = tokio::select! {
        agent = api.instance(arguments.name.as_str()) => agent?,
        _ = interrupts.recv() => return Err(interrupted("interrupted")),
    };
    let session = Session::new(api.socket().to_owned(), agent.id.clone(), None);
    let topic = arguments.topic.clone().unwrap_or_else(|| MAIN_TOPIC.to_owned());
    let mut talk = Talk { session, agent, conversation: None, topic, last: None, interrupted: false };
    match text {
        Some(text) if arguments.detach => {
            detach(&mut talk, format, arguments, text, until, interrupts).await.map(|()| Exit::Ok)
        }
        Some(text) => {
            let mut view = view(format, quiet, &talk.agent);
            let question = Question::Send(message(&talk, text, arguments.idempotency_key.clone()));
            let end = talk.turn(view.as_mut(), &question, interrupts, Some(until)).await?;
            outcome(&talk, end).map(|()| Exit::Ok)
        }
        None if !arguments.lines && format == Format::Table && std::io::stdout().is_terminal() => {
            repl::run(api, talk, quiet, arguments, interrupts).await.map(|()| Exit::Ok)
        }
        None => {
            if std::io::stdin().is_terminal() && !quiet {
                aside("each line is a message; Ctrl-D ends");
            }
            lines(api, &mut talk, format, quiet, interrupts).await
        }
    }
}

/// The view that fits where standard output goes.
fn view(format: Format, quiet: bool, agent: &InstanceView) -> Box<dyn View> {
    match format {
        Format::Table if std::io::stdout().is_terminal() => {
            Box::new(Terminal::new(Screen::detect(), agent.name.as_str(), quiet))
        }
        Format::Table => Box::new(Piped::new(quiet)),
        Format::Json | Format::Yaml => Box::new(Frames::new(format, quiet)),
    }
}

/// A message of this talk. Without a key of the user's it gets one, so that it may be sent again.
#[must_use]
pub fn message(talk: &Talk, text: String, key: Option<String>) -> ChatSend {
    ChatSend {
        agent: Some(talk.agent.id.to_string()),
        conversation: None,
        topic: Some(talk.topic.clone()),
        text,
        // An id is a fresh unguessable text: what an idempotency key wants to be.
        idempotency_key: Some(key.unwrap_or_else(|| format!("ctl-{}", OperationId::mint()))),
    }
}

/// What Ctrl-C leaves behind.
#[must_use]
pub fn interrupted(message: &str) -> Failure {
    Failure::new(Exit::Interrupted, "interrupted", message)
}

/// What the end of a turn means for the command.
fn outcome(talk: &Talk, end: End) -> Result<(), Failure> {
    let name = talk.name();
    match end {
        End::Answered => Ok(()),
        End::Failed(failure) if failure.hint.is_none() => {
            Err(failure.hint(format!("see the conversation with: agentbotctl messages {name}")))
        }
        End::Failed(failure) => Err(failure),
        End::Unheard(failure) => Err(failure),
        End::Aborted(Aborted::Ended(TurnStatus::Cancelled)) => Err(interrupted("interrupted; the turn is aborted")),
        End::Aborted(Aborted::Ended(status)) => Err(interrupted(&format!("interrupted; the turn is {status}"))
            .hint(format!("see the conversation with: agentbotctl messages {name}"))),
        End::Aborted(Aborted::Asked) => {
            Err(interrupted("interrupted; the turn was asked to abort, and did not say yet")
                .hint(format!("see how it ends with: agentbotctl messages {name} --follow")))
        }
        End::Aborted(Aborted::Unknown) => Err(interrupted("interrupted before agentbotd took the message")
            .hint(format!("it may have arrived: see agentbotctl messages {name}"))),
    }
}

/// Sends the message and does not wait for its answer.
async fn detach(
    talk: &mut Talk,
    format: Format,
    arguments: &Chat,
    text: String,
    until: Instant,
    interrupts: &mut Signal,
) -> Result<(), Failure> {
    talk.session.send(message(talk, text, arguments.idempotency_key.clone()));
    let sent = loop {
        let news = tokio::select! {
            news = talk.session.next() => news?,
            _ = interrupts.recv() => return outcome(talk, End::Aborted(Aborted::Unknown)),
            () = tokio::time::sleep_until(until) => {
                return Err(Failure::new(Exit::TimedOut, "timed_out", "agentbotd did not take the message in time"));
            }
        };
        match news {
            News::Sent(sent) => break sent,
            News::Refused(failure) => return Err(failure),
            _ => {}
        }
    };
    let sheet = Sheet::default()
        .with("turn", sent.turn.as_str())
        .with("message", sent.message.as_str())
        .with("conversation", sent.conversation.as_str());
    let text = match format {
        Format::Table => sheet.render(),
        Format::Json | Format::Yaml => document(format, &json!(sent)),
    };
    output::stdout(&text)
        .map_err(|error| Failure::new(Exit::Failed, "output", format!("the result could not be written: {error}")))
}

/// Each line of standard input is a message; the next is read when the answer is there, or the time for it is over. A
/// line without an answer is told, and the talk goes on with the next; gives the highest exit code.
async fn lines(
    api: &Api,
    talk: &mut Talk,
    format: Format,
    quiet: bool,
    interrupts: &mut Signal,
) -> Result<Exit, Failure> {
    let mut view = view(format, quiet, &talk.agent);
    let mut typed = reader()?;
    let mut worst = Exit::Ok;
    loop {
        let line = tokio::select! {
            line = typed.recv() => line,
            _ = interrupts.recv() => return Err(interrupted("interrupted")),
            // Listening between two lines keeps the connection alive.
            news = talk.session.next() => { news?; continue }
        };
        let Some(line) = line else { return Ok(worst) };
        let done = match line {
            Ok(line) => {
                let question = Question::Send(message(talk, line, None));
                let until = Instant::now() + api.timeout();
                let end = talk.turn(view.as_mut(), &question, interrupts, Some(until)).await?;
                outcome(talk, end)
            }
            Err(failure) => Err(failure),
        };
        if let Err(failure) = done {
            if failure.exit == Exit::Interrupted {
                return Err(failure);
            }
            tell(format, &failure);
            worst = worst.max(failure.exit);
        }
        // A turn may end by itself at the same moment: the lines behind it are not asked either.
        if talk.interrupted {
            return Err(interrupted("interrupted"));
        }
    }
}

/// The one text that the command line and standard input give; none where they are to be read line by line.
async fn text(
    arguments: &Chat,
    quiet: bool,
    until: Instant,
    interrupts: &mut Signal,
) -> Result<Option<String>, Failure> {
    let terminal = std::io::stdin().is_terminal();
    let dash = arguments.words.iter().any(|word| word == "-");
    let words: Vec<_> = arguments.words.iter().filter(|word| *word != "-").map(String::as_str).collect();
    let mut parts = vec![words.join(" ")];
    if arguments.lines {
        return match words.is_empty() {
            true => Ok(None),
            false => Err(usage("with --lines the messages come from standard input")),
        };
    }
    // Words alone leave standard input to whom it belongs, such as the loop of a script.
    if dash || (words.is_empty() && !terminal) {
        parts.push(piped(quiet, until, interrupts).await?);
    } else if words.is_empty() {
        return match arguments.detach || arguments.idempotency_key.is_some() {
            false => Ok(None),
            true => Err(usage("--detach and --idempotency-key want a text")),
        };
    }
    parts.retain(|part| !part.trim().is_empty());
    if parts.is_empty() {
        return Err(usage("there is no text to send"));
    }
    within_bounds(parts.join("\n\n")).map(Some)
}

fn usage(message: &str) -> Failure {
    Failure::new(Exit::Usage, USAGE, message)
        .hint("agentbotctl chat NAME \"text\", or a text on standard input, or both with `-` behind the text")
}
