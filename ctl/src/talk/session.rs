//! A talk that outlives its connections: it comes back by itself, with its cursors, and sends again what nobody
//! answered.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use agentbot_wire::{
    ChatDone, ChatSend, ChatSent, ChatSubscribe, ChatSubscribed, ChatTurn, ConversationId, History, HistoryParams,
    InstanceId, MAX_HISTORY_PAGE, TurnId, TurnView, event, method,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::link::{Heard, Link};
use super::resume::{Resume, Spoken, Step};
use crate::client::bad_shape;
use crate::exit::{Exit, Failure};

/// Pauses between attempts to come back; the last one repeats.
const PAUSES: [Duration; 7] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1600),
    Duration::from_secs(3),
    Duration::from_secs(5),
];

/// What happens in a talk.
#[derive(Debug)]
pub enum News {
    /// Listening has begun.
    Ready,
    /// The connection is gone; said once until it is back.
    Away,
    /// The connection is back.
    Back,
    /// The message is stored.
    Sent(ChatSent),
    /// The turn is asked again, as this one.
    Retried(TurnView),
    /// What was asked for is not done.
    Refused(Failure),
    /// A page of messages.
    Page(History),
    /// An event that was not heard before, as a frame for programs and as what it says.
    Event(Value, Spoken),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Subscribe,
    /// What a turn left that had ended before listening began.
    Missed(ChatSent),
    Send,
    Abort,
    Retry(TurnId),
    History(HistoryParams),
    /// Nobody waits for the answer any more.
    Forgotten,
}

/// A connection that is being made.
type Opening = Pin<Box<dyn Future<Output = Result<Link, Failure>>>>;

/// A talk with one agent.
pub struct Session {
    socket: PathBuf,
    agent: InstanceId,
    only: Option<ConversationId>,
    resume: Resume,
    link: Option<Link>,
    opening: Option<Opening>,
    asked: BTreeMap<String, Asked>,
    unanswered: Option<ChatSend>,
    aborting: Option<TurnId>,
    /// What is asked again as soon as there is a connection.
    waiting: Vec<Asked>,
    queue: VecDeque<News>,
    attempts: usize,
    retry_at: Instant,
    ready: bool,
}

impl Session {
    /// A talk that begins with what happens from now on. `only` narrows it to one conversation.
    #[must_use]
    pub fn new(socket: PathBuf, agent: InstanceId, only: Option<ConversationId>) -> Self {
        Self {
            socket,
            resume: Resume::new(agent.clone()),
            agent,
            only,
            link: None,
            opening: None,
            asked: BTreeMap::new(),
            unanswered: None,
            aborting: None,
            waiting: Vec::new(),
            queue: VecDeque::new(),
            attempts: 0,
            retry_at: Instant::now(),
            ready: false,
        }
    }

    /// Sends a message; [`News::Sent`] tells that it is stored. The message needs a key, for it may be sent again.
    ///
    /// This and the next two are one question at a time: with the next one nobody waits for the answer to the last.
    pub fn send(&mut self, message: ChatSend) {
        self.forget();
        self.unanswered = Some(message);
        self.ask(Asked::Send);
    }

    /// Asks a turn again; [`News::Retried`] names the new one.
    pub fn retry(&mut self, turn: &TurnId) {
        self.forget();
        self.ask(Asked::Retry(turn.clone()));
    }

    /// Asks for stored messages; [`News::Page`] brings them.
    pub fn history(&mut self, params: HistoryParams) {
        self.forget();
        self.ask(Asked::History(params));
    }

    /// Ends a turn, now or as soon as the daemon is back.
    pub fn abort(&mut self, turn: &TurnId) {
        self.aborting = Some(turn.clone());
        self.ask(Asked::Abort);
    }

    /// Forgets the last question: a late answer must not be taken for that to the next one.
    fn forget(&mut self) {
        let question = |what: &Asked| matches!(what, Asked::Send | Asked::Retry(_) | Asked::History(_));
        self.unanswered = None;
        self.waiting.retain(|what| !question(what));
        self.asked.values_mut().filter(|what| question(what)).for_each(|what| *what = Asked::Forgotten);
        self.queue.retain(|news| !matches!(news, News::Sent(_) | News::Retried(_) | News::Refused(_) | News::Page(_)));
    }

    /// From now on the end of this turn is told, also when it came while the connection was away.
    pub fn follow(&mut self, sent: &ChatSent) {
        self.resume.follow(sent);
    }

    /// Asks, where there is a connection. Without one [`Self::reopened`] asks, unless the daemon is away.
    fn ask(&mut self, what: Asked) {
        let Some(link) = &mut self.link else {
            match self.attempts {
                0 => self.later(what),
                _ => self.unanswerable(what),
            }
            return;
        };
        let asked = match &what {
            Asked::Subscribe => {
                link.ask(method::CHAT_SUBSCRIBE, &subscription(&self.resume, &self.agent, self.only.as_ref()))
            }
            Asked::Send => link.ask(method::CHAT_SEND, &self.unanswered),
            Asked::Abort => link.ask(method::CHAT_ABORT, &self.aborting.clone().map(|turn| ChatTurn { turn })),
            Asked::Retry(turn) => link.ask(method::CHAT_RETRY, &ChatTurn { turn: turn.clone() }),
            Asked::History(params) => link.ask(method::CHAT_HISTORY, params),
            Asked::Missed(sent) => link.ask(method::CHAT_HISTORY, &after(sent)),
            Asked::Forgotten => return,
        };
        match asked {
            Ok(id) => {
                self.asked.insert(id, what);
            }
            Err(failure) => {
                self.unanswered = self.unanswered.take().filter(|_| what != Asked::Send);
                self.queue.push_back(News::Refused(failure));
            }
        }
    }

    /// Keeps a question for the next connection.
    fn later(&mut self, what: Asked) {
        // Messages and aborts are kept until they are answered anyway, and subscribing comes by itself.
        if matches!(what, Asked::Missed(_) | Asked::Retry(_) | Asked::History(_)) {
            self.waiting.push(what);
        }
    }

    /// The daemon is away: what somebody waits for fails, the rest is kept.
    fn unanswerable(&mut self, what: Asked) {
        if matches!(what, Asked::Retry(_) | Asked::History(_)) {
            let message = "agentbotd is away: that was not asked";
            self.queue.push_back(News::Refused(
                Failure::new(Exit::Unreachable, crate::exit::UNREACHABLE, message).hint("try again in a moment"),
            ));
        } else {
            self.later(what);
        }
    }

    /// The next thing that happens. It may be dropped while it waits without losing anything.
    ///
    /// # Errors
    /// When the first connection cannot be made, or the daemon refuses this talk for good.
    pub async fn next(&mut self) -> Result<News, Failure> {
        loop {
            if let Some(news) = self.queue.pop_front() {
                return Ok(news);
            }
            if let Some(done) = self.resume.due() {
                return Ok(ended(done));
            }
            match &mut self.link {
                None => self.open().await?,
                Some(link) => match link.next().await {
                    Ok(Heard::Answer(id, answer)) => self.answered(&id, answer)?,
                    Ok(Heard::Event(name, seq, payload)) => self.event(&name, seq, &payload),
                    Err(failure) => self.lose(&failure),
                },
            }
        }
    }

    async fn open(&mut self) -> Result<(), Failure> {
        sleep_until(self.retry_at).await;
        // Kept aside: who waits may look at something else in between.
        let socket = self.socket.clone();
        let opening = self.opening.get_or_insert_with(|| Box::pin(async move { Link::open(&socket).await }));
        let opened = opening.await;
        self.opening = None;
        match opened {
            Ok(link) => {
                self.link = Some(link);
                self.reopened();
                Ok(())
            }
            Err(failure) if !self.ready || matches!(failure.exit, Exit::NotAllowed | Exit::NotFound | Exit::Usage) => {
                Err(failure)
            }
            Err(failure) => {
                self.lose(&failure);
                Ok(())
            }
        }
    }

    /// Asks on a new connection what has no answer yet. Nothing is waited for here: who drops [`Self::next`] finds all of
    /// it asked, or none.
    fn reopened(&mut self) {
        self.ask(Asked::Subscribe);
        if self.unanswered.is_some() {
            self.ask(Asked::Send);
        }
        if self.aborting.is_some() {
            self.ask(Asked::Abort);
        }
        std::mem::take(&mut self.waiting).into_iter().for_each(|what| self.ask(what));
    }

    fn lose(&mut self, _why: &Failure) {
        self.link = None;
        let waiting = std::mem::take(&mut self.waiting);
        let asked = std::mem::take(&mut self.asked).into_values();
        asked.chain(waiting).for_each(|what| self.unanswerable(what));
        if self.attempts == 0 && self.ready {
            self.queue.push_back(News::Away);
        }
        let pause = PAUSES.get(self.attempts).or(PAUSES.last()).copied().unwrap_or_default();
        self.attempts += 1;
        self.retry_at = Instant::now() + pause;
    }

    fn answered(&mut self, id: &str, answer: Result<Value, Failure>) -> Result<(), Failure> {
        let Some(what) = self.asked.remove(id) else { return Ok(()) };
        match answer {
            Ok(payload) => self.granted(what, payload),
            Err(failure) => self.refused(&what, failure),
        }
    }

    fn refused(&mut self, what: &Asked, failure: Failure) -> Result<(), Failure> {
        match what {
            Asked::Subscribe if failure.code == "cursor_expired" => {
                self.resume.start_over();
                self.ask(Asked::Subscribe);
            }
            Asked::Subscribe => return Err(failure),
            Asked::Forgotten => {}
            // It had ended by itself: its end is told as every other.
            Asked::Abort => self.aborting = None,
            Asked::Send => {
                self.unanswered = None;
                self.queue.push_back(News::Refused(failure));
            }
            Asked::Retry(_) | Asked::History(_) | Asked::Missed(_) => self.queue.push_back(News::Refused(failure)),
        }
        Ok(())
    }

    fn granted(&mut self, what: Asked, payload: Value) -> Result<(), Failure> {
        match what {
            Asked::Subscribe => {
                let answer: ChatSubscribed = read(payload)?;
                self.resume.subscribed(&answer);
                if !std::mem::replace(&mut self.ready, true) {
                    self.queue.push_back(News::Ready);
                } else if self.attempts > 0 {
                    self.queue.push_back(News::Back);
                }
                self.attempts = 0;
            }
            Asked::Send => {
                let sent: ChatSent = read(payload)?;
                self.unanswered = None;
                self.resume.follow(&sent);
                self.queue.push_back(News::Sent(sent.clone()));
                if self.resume.missed(&sent) {
                    self.ask(Asked::Missed(sent));
                }
            }
            Asked::Retry(_) => self.queue.push_back(News::Retried(read(payload)?)),
            Asked::History(_) => self.queue.push_back(News::Page(read(payload)?)),
            Asked::Missed(sent) => {
                let page: History = read(payload)?;
                for message in self.resume.make_up(&sent, page.messages) {
                    let frame = json!({"event": event::CHAT_MESSAGE, "seq": message.seq, "payload": message});
                    self.queue.push_back(News::Event(frame, Spoken::Message(Box::new(message))));
                }
            }
            Asked::Abort => self.aborting = None,
            Asked::Forgotten => {}
        }
        Ok(())
    }

    fn event(&mut self, name: &str, seq: Option<u64>, payload: &Value) {
        match self.resume.event(name, payload) {
            Step::Show(spoken) => {
                if let Spoken::Done(done) = &spoken
                    && self.aborting.as_ref() == Some(&done.turn)
                {
                    self.aborting = None;
                }
                let mut frame = json!({"event": name, "payload": payload});
                if let Some(seq) = seq {
                    frame["seq"] = json!(seq);
                }
                self.queue.push_back(News::Event(frame, spoken));
            }
            Step::Nothing => {}
            Step::Resync => {
                // No connection was lost, so nobody needs to hear of it; what is under way is asked again on the next.
                self.link = None;
                std::mem::take(&mut self.asked).into_values().for_each(|what| self.later(what));
                self.retry_at = Instant::now();
            }
        }
    }
}

/// What to listen to, from the last place that was heard on.
fn subscription(resume: &Resume, agent: &InstanceId, only: Option<&ConversationId>) -> ChatSubscribe {
    let cursors = resume.cursors();
    match only {
        Some(conversation) => ChatSubscribe {
            after_seq: cursors.map(|cursors| cursors.get(conversation).copied().unwrap_or_default()),
            conversation: Some(conversation.clone()),
            ..ChatSubscribe::default()
        },
        None => ChatSubscribe { agent: Some(agent.to_string()), cursors: cursors.cloned(), ..ChatSubscribe::default() },
    }
}

/// The messages that came after one that was sent.
fn after(sent: &ChatSent) -> HistoryParams {
    HistoryParams {
        conversation: sent.conversation.clone(),
        before_seq: None,
        after_seq: Some(sent.seq),
        limit: Some(MAX_HISTORY_PAGE),
    }
}

/// The end of a turn that came while nobody listened, in the shape of the event that was missed.
fn ended(done: ChatDone) -> News {
    News::Event(json!({"event": event::CHAT_DONE, "payload": done}), Spoken::Done(done))
}

fn read<T: DeserializeOwned>(payload: Value) -> Result<T, Failure> {
    serde_json::from_value(payload).map_err(|error| bad_shape(&error.to_string()))
}
