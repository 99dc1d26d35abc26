//! `chat`: one question, the lines of standard input one by one, or a talk at a prompt.

use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::time::Duration;

use agentbot_wire::{ChatSend, InstanceView, MAIN_TOPIC, MAX_MESSAGE, OperationId};
use serde_json::json;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::Instant;

use super::plain::{Frames, Piped, document};
use super::repl;
use super::screen::Screen;
use super::session::{News, Session};
use super::turn::{End, Question, Talk};
use super::view::{Terminal, View};
use crate::api::Api;
use crate::cli::Chat;
use crate::exit::{Exit, Failure, USAGE};
use crate::output::table::Sheet;
use crate::output::{self, Format, style};

/// How long standard input may be silent before that is told.
const SILENT: Duration = Duration::from_secs(1);

/// Talks.
///
/// # Errors
/// When there was no answer, and why.
pub async fn run(
    api: &Api,
    format: Format,
    quiet: bool,
    arguments: &Chat,
    interrupts: &mut Signal,
) -> Result<(), Failure> {
    let until = Instant::now() + api.timeout();
    let text = text(arguments, quiet, until, interrupts).await?;
    let agent = tokio::select! {
        agent = api.instance(arguments.name.as_str()) => agent?,
        _ = interrupts.recv() => return Err(interrupted("interrupted")),
    };
    let session = Session::new(api.socket().to_owned(), agent.id.clone(), None);
    let topic = arguments.topic.clone().unwrap_or_else(|| MAIN_TOPIC.to_owned());
    let mut talk = Talk { session, agent, conversation: None, topic, last: None };
    match text {
        Some(text) if arguments.detach => detach(&mut talk, format, arguments, text, until, interrupts).await,
        Some(text) => {
            let mut view = view(format, quiet, &talk.agent);
            let question = Question::Send(message(&talk, text, arguments.idempotency_key.clone()));
            let end = talk.turn(view.as_mut(), &question, interrupts, Some(until)).await?;
            outcome(&talk, end)
        }
        None if !arguments.lines && format == Format::Table && std::io::stdout().is_terminal() => {
            repl::run(api, talk, quiet, arguments, interrupts).await
        }
        None => lines(&mut talk, format, quiet, interrupts).await,
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

fn interrupted(message: &str) -> Failure {
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
        End::Aborted(Some(_)) => Err(interrupted("interrupted; the turn is aborted")),
        End::Aborted(None) => Err(interrupted("interrupted before agentbotd took the message")
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
    talk.session.send(message(talk, text, arguments.idempotency_key.clone())).await;
    let sent = loop {
        let news = tokio::select! {
            news = talk.session.next() => news?,
            _ = interrupts.recv() => return outcome(talk, End::Aborted(None)),
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

/// Each line of standard input is a message; the next is read when the answer is there.
async fn lines(talk: &mut Talk, format: Format, quiet: bool, interrupts: &mut Signal) -> Result<(), Failure> {
    let mut view = view(format, quiet, &talk.agent);
    let mut typed = reader()?;
    let mut worst = Ok(());
    loop {
        let line = tokio::select! {
            line = typed.recv() => line,
            _ = interrupts.recv() => return Err(interrupted("interrupted")),
            // Listening between two lines keeps the connection alive.
            news = talk.session.next() => { news?; continue }
        };
        let Some(line) = line else { return worst };
        let question = Question::Send(message(talk, within_bounds(line?)?, None));
        let end = talk.turn(view.as_mut(), &question, interrupts, None).await?;
        if let Err(failure) = outcome(talk, end) {
            if failure.exit == Exit::Interrupted {
                return Err(failure);
            }
            output::complain(&failure);
            worst = Err(failure);
        }
    }
}

/// Reads lines on a thread of its own, for reading standard input blocks.
fn reader() -> Result<Receiver<Result<String, Failure>>, Failure> {
    let (say, typed) = channel(1);
    std::thread::Builder::new()
        .name("lines".to_owned())
        .spawn(move || {
            let mut input = std::io::stdin().lock();
            loop {
                let mut line = String::new();
                let bound = u64::try_from(MAX_MESSAGE).unwrap_or(u64::MAX).saturating_add(2);
                let read = input.by_ref().take(bound).read_line(&mut line);
                let line = match read {
                    Ok(0) => return,
                    Ok(_) => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
                    Err(error) => Err(unreadable(&error)),
                };
                let last = line.is_err();
                if line.as_ref().is_ok_and(|line| line.trim().is_empty()) {
                    continue;
                }
                if say.blocking_send(line).is_err() || last {
                    return;
                }
            }
        })
        .map_err(|error| Failure::new(Exit::Failed, "internal", format!("no thread: {error}")))?;
    Ok(typed)
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
    if dash || !terminal {
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
    Failure::new(Exit::Usage, USAGE, message).hint("agentbotctl chat NAME \"text\", or a text on standard input")
}

/// A message that is too long is refused before it is sent.
///
/// # Errors
/// When it is.
pub fn within_bounds(text: String) -> Result<String, Failure> {
    if text.len() > MAX_MESSAGE {
        let message = format!("a message has at most {} KiB, this one has {} bytes", MAX_MESSAGE / 1024, text.len());
        return Err(Failure::new(Exit::Usage, "too_large", message).hint("shorten it, or send it in parts"));
    }
    Ok(text)
}

fn unreadable(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Usage, USAGE, format!("standard input is no text: {error}")).hint("wanted is UTF-8")
}

/// All of standard input. A pipe that nobody closes is told of, and not waited for without end.
async fn piped(quiet: bool, until: Instant, interrupts: &mut Signal) -> Result<String, Failure> {
    let (say, mut read) = channel(1);
    std::thread::Builder::new()
        .name("input".to_owned())
        .spawn(move || {
            let mut text = String::new();
            let bound = u64::try_from(MAX_MESSAGE).unwrap_or(u64::MAX).saturating_mul(2);
            let read = std::io::stdin().lock().take(bound).read_to_string(&mut text);
            // Who asked may have gone.
            let _ = say.blocking_send(read.map(|_| text));
        })
        .map_err(|error| Failure::new(Exit::Failed, "internal", format!("no thread: {error}")))?;
    let mut told = quiet;
    let text = loop {
        tokio::select! {
            text = read.recv() => break text,
            _ = interrupts.recv() => return Err(interrupted("interrupted; nothing was sent")),
            () = tokio::time::sleep_until(until) => {
                return Err(Failure::new(Exit::TimedOut, "timed_out", "standard input does not end; nothing was sent")
                    .hint("close it, or leave it out with: < /dev/null"));
            }
            () = tokio::time::sleep(SILENT), if !told => {
                told = true;
                output::stderr(&format!("{}waiting for the end of standard input{:#}\n", style::REST, style::REST));
            }
        }
    };
    let text = text.transpose().map_err(|error| unreadable(&error))?.unwrap_or_default();
    Ok(text.replace("\r\n", "\n").trim_end_matches('\n').to_owned())
}
