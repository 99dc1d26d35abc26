//! A talk at a prompt.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentbot_wire::{ConversationView, HistoryParams, MAX_TOPIC, Phase, TurnId};
use futures_util::FutureExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::interval;

use super::chat::message;
use super::input::within_bounds;
use super::prompt::{Prompt, Typed, Words};
use super::resume::Spoken;
use super::screen::Screen;
use super::session::News;
use super::turn::{Aborted, End, Question, Talk};
use super::view::Terminal;
use crate::api::Api;
use crate::cli::Chat;
use crate::exit::{Exit, Failure};
use crate::output::{style, text};

/// Messages that `/history` shows.
const PAGE: u32 = 20;
/// How often the prompt looks at the terminal's width.
const RESIZED: Duration = Duration::from_millis(250);
const COMMANDS: [(&str, &str); 6] = [
    ("/help", "what can be said here"),
    ("/history", "the last messages of this conversation"),
    ("/topic", "the conversations; with a name: go to that one"),
    ("/retry", "ask again what got no answer"),
    ("/quit", "leave; the conversation stays"),
    ("\\", "at the end of a line: the message goes on in the next"),
];

/// A talk at a prompt on a terminal.
struct Repl<'a> {
    api: &'a Api,
    talk: Talk,
    view: Terminal,
    prompt: Prompt,
    words: Words,
    /// Ctrl-C was pressed at an empty prompt just now.
    leaving: bool,
}

/// Talks until the user leaves.
///
/// # Errors
/// When the terminal cannot be used, or the daemon refuses the talk.
pub async fn run(api: &Api, talk: Talk, quiet: bool, arguments: &Chat, interrupts: &mut Signal) -> Result<(), Failure> {
    let mut ends = signal(SignalKind::terminate())
        .map_err(|error| Failure::new(Exit::Failed, "internal", format!("no signals: {error}")))?;
    let view = Terminal::new(Screen::detect(), talk.agent.name.as_str(), quiet);
    let history = if arguments.no_history { None } else { history() };
    let words: Words = Arc::new(Mutex::new(Vec::new()));
    let prompt = Prompt::new(view.look(), history, Arc::clone(&words))?;
    let mut repl = Repl { api, talk, view, prompt, words, leaving: false };
    tokio::select! {
        done = repl.run(quiet, interrupts) => done,
        _ = ends.recv() => Err(Failure::new(Exit::Interrupted, "interrupted", "ended by a signal")),
    }
}

/// Where lines are remembered; the directory is made for its owner alone.
fn history() -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let state = from("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let directory = state.or_else(|| from("HOME").map(|home| home.join(".local/state")))?.join("agentbot");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).ok()?;
    Some(directory.join("history"))
}

impl Repl<'_> {
    async fn run(&mut self, quiet: bool, interrupts: &mut Signal) -> Result<(), Failure> {
        // The first connection is made before anything is asked of the user.
        loop {
            tokio::select! {
                news = self.talk.session.next() => if matches!(news?, News::Ready) { break },
                _ = interrupts.recv() => return Ok(()),
            }
        }
        let topics = self.topics().await?;
        let here = topics.iter().find(|one| one.topic == self.talk.topic).cloned();
        self.enter(here.as_ref());
        if !quiet {
            self.greet(here.as_ref());
        }
        let mut looks = interval(RESIZED);
        loop {
            tokio::select! {
                typed = self.prompt.next() => match typed {
                    Typed::Line(line) => {
                        self.leaving = false;
                        if !self.line(line.trim_end(), interrupts).await? {
                            return Ok(());
                        }
                    }
                    Typed::Dropped => self.leaving = false,
                    Typed::Aside => {}
                    Typed::Nothing if self.leaving => return Ok(()),
                    Typed::Nothing => {
                        self.leaving = true;
                        self.dim("Ctrl-C once more, or Ctrl-D, leaves");
                    }
                    Typed::End => {
                        let hint = format!("the conversation stays: agentbotctl chat {}", self.talk.name());
                        self.dim(&hint);
                        return Ok(());
                    }
                },
                news = self.talk.session.next() => {
                    let lines = self.meanwhile(news?);
                    self.prompt.say(&lines).await;
                }
                _ = looks.tick() => self.prompt.resized(),
            }
        }
    }

    fn dim(&mut self, line: &str) {
        let lines = self.view.dim(line);
        self.view.say(lines);
    }

    fn greet(&mut self, here: Option<&ConversationView>) {
        let agent = &self.talk.agent;
        let look = self.view.look();
        let phase = look.paint(agent.phase.as_str(), style::phase(agent.phase));
        let count = match here.map_or(0, |one| one.seq) {
            0 => "new conversation".to_owned(),
            1 => "1 message".to_owned(),
            many => format!("{many} messages"),
        };
        let topic = text::line(&self.talk.topic);
        let rest = look.paint(&format!("· {} · topic {topic}, {count}", text::line(&agent.model)), style::REST);
        let name = look.paint(&self.talk.name(), style::LABEL);
        let mut lines = vec![format!("{name} {phase} {rest}")];
        lines.extend(self.view.dim("Ctrl-C stops an answer, Ctrl-D leaves, /help says what else there is"));
        if let Some(waits) = self.talk.waits() {
            lines.extend(self.view.dim(&waits));
        }
        lines.push(String::new());
        self.view.say(lines);
    }

    async fn topics(&mut self) -> Result<Vec<ConversationView>, Failure> {
        let all = self.api.conversations(self.talk.agent.id.as_str()).await?.conversations;
        if let Ok(mut words) = self.words.lock() {
            *words =
                COMMANDS.iter().filter(|(name, _)| name.starts_with('/')).map(|(name, _)| (*name).to_owned()).collect();
            words.extend(all.iter().map(|one| format!("/topic {}", text::line(&one.topic))));
        }
        Ok(all)
    }

    fn enter(&mut self, conversation: Option<&ConversationView>) {
        self.talk.conversation = conversation.map(|one| one.id.clone());
        self.talk.last = None;
    }

    /// What happened while the user was typing.
    fn meanwhile(&mut self, news: News) -> Vec<String> {
        let mut lines = match news {
            News::Event(_, Spoken::Message(message))
                if self.talk.conversation.as_ref() == Some(&message.conversation) =>
            {
                self.view.message(&message)
            }
            News::Event(_, Spoken::Phase(phase)) if phase.agent == self.talk.agent.id => {
                let before = std::mem::replace(&mut self.talk.agent.phase, phase.phase);
                if before == phase.phase {
                    return Vec::new();
                }
                let way = match phase.phase {
                    Phase::Running => None,
                    other => other.way_out(),
                };
                let way = way.map(|verb| format!(": agentbotctl {verb} {}", self.talk.name())).unwrap_or_default();
                return self.view.dim(&format!("{} is {}{way}", self.talk.name(), phase.phase));
            }
            News::Away => return self.view.dim("agentbotd is away; the talk goes on when it is back"),
            News::Back => return self.view.dim("agentbotd is back"),
            _ => return Vec::new(),
        };
        lines.push(String::new());
        lines
    }

    /// Does what a line says. Says whether the talk goes on.
    async fn line(&mut self, line: &str, interrupts: &mut Signal) -> Result<bool, Failure> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        match word {
            _ if line.trim().is_empty() => {}
            "/quit" | "/exit" => return Ok(false),
            "/help" => self.help(),
            "/topic" if rest.is_empty() => self.list().await,
            "/topic" => self.go(rest).await,
            "/history" => self.history(interrupts).await?,
            "/retry" => match self.last_turn(interrupts).await? {
                Some(turn) => self.ask(&Question::Retry(turn), interrupts).await,
                None => self.dim("there is nothing to ask again"),
            },
            _ if word.starts_with('/') && word[1..].bytes().all(|byte| byte.is_ascii_lowercase()) => {
                let word = text::line(word);
                self.dim(&format!("{word} is no command here (/help); with a blank before it it is sent as it is"));
            }
            _ => match within_bounds(line.trim().to_owned()) {
                Ok(text) => {
                    let question = Question::Send(message(&self.talk, text, None));
                    self.ask(&question, interrupts).await;
                }
                Err(failure) => self.view.fail(&failure),
            },
        }
        Ok(true)
    }

    async fn ask(&mut self, question: &Question, interrupts: &mut Signal) {
        // What was pressed before the question is not meant for its answer.
        while interrupts.recv().now_or_never().is_some() {}
        self.view.say(vec![String::new()]);
        let end = self.talk.turn(&mut self.view, question, interrupts, None).await;
        match end {
            Ok(End::Answered) => {}
            Ok(End::Failed(failure)) if failure.hint.is_none() => self.view.fail(&failure.hint("/retry asks again")),
            Ok(End::Failed(failure) | End::Unheard(failure)) | Err(failure) => self.view.fail(&failure),
            Ok(End::Aborted(how)) => self.view.aside(match how {
                Aborted::Ended(_) => "stopped; /retry asks again",
                Aborted::Asked => "asked to stop, and not heard to have stopped yet; /history shows how it ends",
                Aborted::Unknown => "stopped; the message may still arrive",
            }),
        }
        self.view.say(vec![String::new()]);
    }

    fn help(&mut self) {
        let look = self.view.look();
        let line =
            |(name, about): &(&str, &str)| format!("  {}  {about}", look.paint(&format!("{name:<8}"), style::HINT));
        let mut lines: Vec<_> = COMMANDS.iter().map(line).collect();
        lines.push(String::new());
        self.view.say(lines);
    }

    async fn list(&mut self) {
        match self.topics().await {
            Err(failure) => self.view.fail(&failure),
            Ok(all) => {
                let look = self.view.look();
                let line = |one: &ConversationView| {
                    let mark = if one.topic == self.talk.topic { "›" } else { " " };
                    let count = look.paint(&format!("{} messages", one.seq), style::REST);
                    format!("{mark} {}  {count}", text::line(&one.topic))
                };
                let mut lines: Vec<_> = all.iter().map(line).collect();
                if lines.is_empty() {
                    lines = self.view.dim("no conversations yet");
                }
                lines.push(String::new());
                self.view.say(lines);
            }
        }
    }

    async fn go(&mut self, topic: &str) {
        if topic.chars().count() > MAX_TOPIC {
            self.dim(&format!("a topic has at most {MAX_TOPIC} characters"));
            return;
        }
        match self.topics().await {
            Err(failure) => self.view.fail(&failure),
            Ok(all) => {
                let here = all.into_iter().find(|one| one.topic == topic);
                topic.clone_into(&mut self.talk.topic);
                self.enter(here.as_ref());
                let what = if here.is_some() { "" } else { "; it begins with your first message" };
                self.dim(&format!("topic {}{what}", text::line(topic)));
            }
        }
    }

    /// A page of this conversation, oldest first.
    async fn page(&mut self, limit: u32, interrupts: &mut Signal) -> Result<Vec<agentbot_wire::Message>, Failure> {
        let Some(conversation) = self.talk.conversation.clone() else { return Ok(Vec::new()) };
        let params = HistoryParams { conversation, before_seq: None, after_seq: None, limit: Some(limit) };
        self.talk.session.history(params);
        loop {
            tokio::select! {
                news = self.talk.session.next() => match news? {
                    News::Page(page) => return Ok(page.messages),
                    News::Refused(failure) => {
                        self.view.fail(&failure);
                        return Ok(Vec::new());
                    }
                    other => {
                        let lines = self.meanwhile(other);
                        self.view.say(lines);
                    }
                },
                _ = interrupts.recv() => return Ok(Vec::new()),
            }
        }
    }

    async fn history(&mut self, interrupts: &mut Signal) -> Result<(), Failure> {
        let messages = self.page(PAGE, interrupts).await?;
        let mut lines = Vec::new();
        for message in &messages {
            lines.extend(self.view.message(message));
            lines.push(String::new());
        }
        if lines.is_empty() {
            lines = self.view.dim("nothing was said here yet");
        }
        self.view.say(lines);
        Ok(())
    }

    async fn last_turn(&mut self, interrupts: &mut Signal) -> Result<Option<TurnId>, Failure> {
        if let Some(last) = &self.talk.last {
            return Ok(Some(last.turn.clone()));
        }
        let messages = self.page(PAGE, interrupts).await?;
        Ok(messages.into_iter().rev().find_map(|message| message.turn))
    }
}
