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
use serde::Serialize;
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
    Retry,
    History,
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
    missed: Option<ChatSent>,
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
            missed: None,
            queue: VecDeque::new(),
            attempts: 0,
            retry_at: Instant::now(),
            ready: false,
        }
    }

    /// Sends a message; [`News::Sent`] tells that it is stored. The message needs a key, for it may be sent again.
    pub async fn send(&mut self, message: ChatSend) {
        self.unanswered = Some(message.clone());
        self.ask(Asked::Send, method::CHAT_SEND, &message).await;
    }

    /// Ends a turn, now or as soon as the daemon is back.
    pub async fn abort(&mut self, turn: &TurnId) {
        self.aborting = Some(turn.clone());
        self.ask(Asked::Abort, method::CHAT_ABORT, &ChatTurn { turn: turn.clone() }).await;
    }

    /// Asks a turn again; [`News::Retried`] names the new one.
    pub async fn retry(&mut self, turn: &TurnId) {
        self.ask(Asked::Retry, method::CHAT_RETRY, &ChatTurn { turn: turn.clone() }).await;
    }

    /// Asks for stored messages; [`News::Page`] brings them.
    pub async fn history(&mut self, params: &HistoryParams) {
        self.ask(Asked::History, method::CHAT_HISTORY, params).await;
    }

    /// From now on the end of this turn is told, also when it came while the connection was away.
    pub fn follow(&mut self, sent: &ChatSent) {
        self.resume.follow(sent);
    }

    /// Asks if there is a connection. A question whose loss matters is asked again by [`Self::reopened`].
    async fn ask(&mut self, what: Asked, method: &str, params: &impl Serialize) {
        let Some(link) = &mut self.link else {
            self.unanswerable(&what);
            return;
        };
        match link.ask(method, params).await {
            Ok(id) => {
                self.asked.insert(id, what);
            }
            Err(failure) => {
                self.unanswerable(&what);
                self.lose(&failure);
            }
        }
    }

    fn unanswerable(&mut self, what: &Asked) {
        if let Asked::Missed(sent) = what {
            self.missed = Some(sent.clone());
        }
        if matches!(what, Asked::Retry | Asked::History) {
            let message = "agentbotd is away: that was not asked";
            self.queue.push_back(News::Refused(
                Failure::new(Exit::Unreachable, crate::exit::UNREACHABLE, message).hint("try again in a moment"),
            ));
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
                    Ok(Heard::Answer(id, answer)) => self.answered(&id, answer).await?,
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
                self.reopened().await;
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

    async fn reopened(&mut self) {
        let cursors = self.resume.cursors();
        let params = match &self.only {
            Some(conversation) => ChatSubscribe {
                after_seq: cursors.map(|cursors| cursors.get(conversation).copied().unwrap_or_default()),
                conversation: Some(conversation.clone()),
                ..ChatSubscribe::default()
            },
            None => ChatSubscribe {
                agent: Some(self.agent.to_string()),
                cursors: cursors.cloned(),
                ..ChatSubscribe::default()
            },
        };
        self.ask(Asked::Subscribe, method::CHAT_SUBSCRIBE, &params).await;
        if let Some(message) = self.unanswered.clone() {
            self.ask(Asked::Send, method::CHAT_SEND, &message).await;
        }
        if let Some(turn) = self.aborting.clone() {
            self.ask(Asked::Abort, method::CHAT_ABORT, &ChatTurn { turn }).await;
        }
        if let Some(sent) = self.missed.take() {
            self.make_up(sent).await;
        }
    }

    async fn make_up(&mut self, sent: ChatSent) {
        let params = HistoryParams {
            conversation: sent.conversation.clone(),
            before_seq: None,
            after_seq: Some(sent.seq),
            limit: Some(MAX_HISTORY_PAGE),
        };
        self.ask(Asked::Missed(sent), method::CHAT_HISTORY, &params).await;
    }

    fn lose(&mut self, _why: &Failure) {
        self.link = None;
        let asked = std::mem::take(&mut self.asked);
        asked.into_values().for_each(|what| self.unanswerable(&what));
        if self.attempts == 0 && self.ready {
            self.queue.push_back(News::Away);
        }
        let pause = PAUSES.get(self.attempts).or(PAUSES.last()).copied().unwrap_or_default();
        self.attempts += 1;
        self.retry_at = Instant::now() + pause;
    }

    async fn answered(&mut self, id: &str, answer: Result<Value, Failure>) -> Result<(), Failure> {
        let Some(what) = self.asked.remove(id) else { return Ok(()) };
        let payload = match answer {
            Ok(payload) => payload,
            Err(failure) if what == Asked::Subscribe && failure.code == "cursor_expired" => {
                self.resume.start_over();
                self.reopened().await;
                return Ok(());
            }
            Err(failure) if what == Asked::Subscribe => return Err(failure),
            Err(failure) => {
                match what {
                    Asked::Send => self.unanswered = None,
                    // It had ended by itself: its end is told as every other.
                    Asked::Abort => {
                        self.aborting = None;
                        return Ok(());
                    }
                    Asked::Subscribe | Asked::Retry | Asked::History | Asked::Missed(_) => {}
                }
                self.queue.push_back(News::Refused(failure));
                return Ok(());
            }
        };
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
                    self.make_up(sent).await;
                }
            }
            Asked::Retry => {
                let view = read(payload)?;
                self.queue.push_back(News::Retried(view));
            }
            Asked::History => {
                let page = read(payload)?;
                self.queue.push_back(News::Page(page));
            }
            Asked::Missed(sent) => {
                let page: History = read(payload)?;
                for message in self.resume.make_up(&sent, page.messages) {
                    let frame = json!({"event": event::CHAT_MESSAGE, "seq": message.seq, "payload": message});
                    self.queue.push_back(News::Event(frame, Spoken::Message(Box::new(message))));
                }
            }
            Asked::Abort => self.aborting = None,
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
                // No connection was lost, so nobody needs to hear of it.
                self.link = None;
                self.asked.clear();
                self.retry_at = Instant::now();
            }
        }
    }
}

/// The end of a turn that came while nobody listened, in the shape of the event that was missed.
fn ended(done: ChatDone) -> News {
    News::Event(json!({"event": event::CHAT_DONE, "payload": done}), Spoken::Done(done))
}

fn read<T: DeserializeOwned>(payload: Value) -> Result<T, Failure> {
    serde_json::from_value(payload).map_err(|error| bad_shape(&error.to_string()))
}
