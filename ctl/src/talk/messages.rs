//! `messages`: what was said, as a transcript, and what is being said.

use std::collections::BTreeMap;

use agentbot_wire::{ConversationId, ConversationView, HistoryParams, MAX_HISTORY_PAGE, Message};
use jiff::Timestamp;
use serde_json::json;
use tokio::signal::unix::Signal;

use super::chat::interrupted;
use super::plain::{aside, document};
use super::resume::Spoken;
use super::session::{News, Session};
use super::view::transcript;
use crate::api::Api;
use crate::cli::Messages;
use crate::exit::{Exit, Failure};
use crate::markdown::Look;
use crate::output::table::terminal_width;
use crate::output::{self, Format, style, text};

/// Where the reader is a program nothing is wrapped.
const UNBOUNDED: usize = 1_000_000;

/// Shows messages, oldest first, and says what the process exits with.
///
/// # Errors
/// When there is no such agent or conversation, or the daemon does not answer.
pub async fn run(api: &Api, format: Format, arguments: &Messages, interrupts: &mut Signal) -> Result<Exit, Failure> {
    let time = tokio::time::sleep(api.timeout());
    let mut show = tokio::select! {
        show = Show::begin(api, format, arguments) => show?,
        _ = interrupts.recv() => return Err(interrupted("interrupted")),
        () = time => {
            return Err(Failure::new(Exit::TimedOut, "timed_out", "agentbotd did not answer in time")
                .hint("give more time with --timeout"));
        }
    };
    if !arguments.follow {
        return Ok(Exit::Ok);
    }
    while !show.gone {
        tokio::select! {
            news = show.session.next() => show.news(news?)?,
            // The way to end it, as with `tail -f`: nothing to complain of.
            _ = interrupts.recv() => return Ok(Exit::Interrupted),
        }
    }
    Ok(Exit::Ok)
}

/// What is shown, and how far.
struct Show {
    session: Session,
    format: Format,
    agent: String,
    conversations: BTreeMap<ConversationId, String>,
    only: Option<ConversationId>,
    /// The conversation of the last message that was shown.
    last: Option<ConversationId>,
    seen: BTreeMap<ConversationId, u64>,
    /// What came while pages were read: it is shown behind them.
    kept: Vec<News>,
    /// Nobody reads any more.
    gone: bool,
}

impl Show {
    async fn begin(api: &Api, format: Format, arguments: &Messages) -> Result<Self, Failure> {
        let agent = api.instance(arguments.name.as_str()).await?;
        let all = api.conversations(agent.id.as_str()).await?.conversations;
        let only = chosen(arguments, &all)?;
        let session = Session::new(api.socket().to_owned(), agent.id.clone(), only.clone());
        let conversations = all.into_iter().map(|one| (one.id, one.topic)).collect();
        let mut show = Self {
            session,
            format,
            agent: text::line(agent.name.as_str()),
            conversations,
            only,
            last: None,
            seen: BTreeMap::new(),
            kept: Vec::new(),
            gone: false,
        };
        if show.only.is_some() || arguments.follow {
            // Listening begins first, so that nothing falls between the page and what follows.
            while !matches!(show.heard().await?, News::Ready) {}
        }
        let (messages, total) = match show.only.clone() {
            Some(conversation) => show.page(conversation, arguments.limit).await?,
            None => pages(api, arguments).await?,
        };
        show.shown(&messages, total, arguments.follow)?;
        if arguments.follow {
            std::mem::take(&mut show.kept).into_iter().try_for_each(|news| show.news(news))?;
        }
        Ok(show)
    }

    /// What was waited for; messages that come meanwhile are kept.
    async fn heard(&mut self) -> Result<News, Failure> {
        loop {
            match self.session.next().await? {
                News::Refused(failure) => return Err(failure),
                news @ (News::Event(_, Spoken::Message(_)) | News::Away | News::Back) => self.kept.push(news),
                news => return Ok(news),
            }
        }
    }

    /// The newest messages of one conversation, oldest first, and how many it has.
    async fn page(&mut self, conversation: ConversationId, limit: u32) -> Result<(Vec<Message>, u64), Failure> {
        let mut messages: Vec<Message> = Vec::new();
        loop {
            let left = limit.saturating_sub(u32::try_from(messages.len()).unwrap_or(u32::MAX));
            let before_seq = messages.first().map(|message| message.seq);
            let params = HistoryParams {
                conversation: conversation.clone(),
                before_seq,
                after_seq: None,
                limit: Some(left.min(MAX_HISTORY_PAGE)),
            };
            self.session.history(params);
            let page = loop {
                if let News::Page(page) = self.heard().await? {
                    break page;
                }
            };
            let (more, none) = (page.more, page.messages.is_empty());
            messages.splice(0..0, page.messages);
            if !more || none || messages.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
                let total = messages.last().map_or(0, |message| message.seq);
                return Ok((messages, total));
            }
        }
    }

    fn shown(&mut self, messages: &[Message], total: u64, follow: bool) -> Result<(), Failure> {
        if self.format != Format::Table && !follow {
            let whole = json!({"messages": messages, "count": messages.len(), "total": total});
            return self.print(&match self.format {
                Format::Yaml => output::json::yaml(&whole),
                Format::Json | Format::Table => output::json::json(&whole),
            });
        }
        if messages.is_empty() && !follow {
            let way = format!("agentbotctl chat {} \"hello\"", self.agent);
            return self.print(&format!("No messages yet. Say something: {way}\n"));
        }
        let kept = u64::try_from(messages.len()).unwrap_or(u64::MAX);
        if self.format == Format::Table && kept < total {
            let line = format!("{} earlier messages; --limit shows more", total - kept);
            self.print(&format!("{}{line}{:#}\n\n", style::REST, style::REST))?;
        }
        messages.iter().try_for_each(|message| self.message(message))
    }

    fn message(&mut self, message: &Message) -> Result<(), Failure> {
        let seen = self.seen.entry(message.conversation.clone()).or_default();
        if message.seq <= *seen {
            return Ok(());
        }
        *seen = message.seq;
        if self.format != Format::Table {
            return self.print(&document(self.format, &json!(message)));
        }
        let mut out = String::new();
        if self.last.is_some() {
            out.push('\n');
        }
        if self.only.is_none() && self.last.as_ref() != Some(&message.conversation) {
            let name =
                self.conversations.get(&message.conversation).map_or(message.conversation.as_str(), String::as_str);
            out.push_str(&format!("{}── {} ──{:#}\n", style::REST, text::line(name), style::REST));
        }
        self.last = Some(message.conversation.clone());
        let width = terminal_width().map_or(UNBOUNDED, |width| usize::from(width).saturating_sub(1));
        let age = text::age(message.timestamp, Timestamp::now());
        for (index, line) in transcript(message, &self.agent, width, Look::detect()).iter().enumerate() {
            out.push_str(line);
            if index == 0 {
                out.push_str(&format!("{}  {age} ago{:#}", style::REST, style::REST));
            }
            out.push('\n');
        }
        self.print(&out)
    }

    fn print(&mut self, text: &str) -> Result<(), Failure> {
        match output::stdout(text) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => self.gone = true,
            Err(error) => {
                return Err(Failure::new(Exit::Failed, "output", format!("the result could not be written: {error}")));
            }
            Ok(()) => {}
        }
        Ok(())
    }

    fn news(&mut self, news: News) -> Result<(), Failure> {
        match news {
            News::Event(_, Spoken::Message(message)) => return self.message(&message),
            News::Away => aside("agentbotd is away; this goes on when it is back"),
            News::Back => aside("agentbotd is back"),
            _ => {}
        }
        Ok(())
    }
}

/// The one conversation that is meant, if it is one.
fn chosen(arguments: &Messages, all: &[ConversationView]) -> Result<Option<ConversationId>, Failure> {
    let none = |what: &str| {
        let name = arguments.name.as_str();
        Failure::new(Exit::NotFound, "not_found", format!("{name} has no conversation {what}"))
            .hint(format!("agentbotctl conversations {name}"))
    };
    if let Some(id) = &arguments.conversation {
        return all.iter().any(|one| one.id == *id).then(|| Some(id.clone())).ok_or_else(|| none(id.as_str()));
    }
    let Some(topic) = &arguments.topic else { return Ok(None) };
    let found = all.iter().find(|one| one.topic == *topic).map(|one| Some(one.id.clone()));
    found.ok_or_else(|| none(&format!("`{topic}`")))
}

/// The newest messages of all conversations, oldest first, and how many there are.
async fn pages(api: &Api, arguments: &Messages) -> Result<(Vec<Message>, u64), Failure> {
    let mut messages = Vec::new();
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    loop {
        let left = u32::try_from(limit - messages.len()).unwrap_or(u32::MAX).min(MAX_HISTORY_PAGE);
        let offset = u64::try_from(messages.len()).unwrap_or(u64::MAX);
        let page = api.messages(&arguments.name, left, offset).await?;
        let (total, came) = (page.total, page.messages.len());
        messages.extend(page.messages);
        if came == 0 || messages.len() >= limit || u64::try_from(messages.len()).unwrap_or(u64::MAX) >= total {
            messages.truncate(limit);
            messages.reverse();
            return Ok((messages, total));
        }
    }
}
