//! One turn from its question to its end.

use std::time::Duration;

use agentbot_wire::{ChatDone, ChatSend, ChatSent, ConversationId, InstanceView, Phase, Sender, TurnId, TurnStatus};
use serde_json::Value;
use tokio::signal::unix::Signal;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::resume::Spoken;
use super::safe;
use super::session::{News, Session};
use super::view::View;
use crate::exit::{Exit, Failure};
use crate::output::text;

/// How often a view that moves is painted.
const TICK: Duration = Duration::from_millis(80);
/// How soon a piece that has come is on the screen.
const PAINT: Duration = Duration::from_millis(25);
/// How long the end of an aborted turn is waited for.
const ABORT: Duration = Duration::from_secs(1);

/// So many events are kept until it is known which of them belong to the turn.
const EARLY: usize = 4096;

/// What is asked.
#[derive(Clone, Debug)]
pub enum Question {
    /// A message.
    Send(ChatSend),
    /// A turn that has no answer, once more.
    Retry(TurnId),
}

/// How a turn ended.
#[derive(Debug)]
pub enum End {
    /// With an answer.
    Answered,
    /// Without one, and why.
    Failed(Failure),
    /// Not heard: the question was refused, or the time is over.
    Unheard(Failure),
    /// By the user.
    Aborted(Aborted),
}

/// How far an abort came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aborted {
    /// The turn has ended, in this way.
    Ended(TurnStatus),
    /// It was asked for, and the turn's end not heard.
    Asked,
    /// Nobody knows whether the message arrived.
    Unknown,
}

/// Whom one talks with, and about what.
pub struct Talk {
    /// The connection.
    pub session: Session,
    /// The agent as it was when the talk began, with its phase kept up.
    pub agent: InstanceView,
    /// The conversation; none until its first message is sent.
    pub conversation: Option<ConversationId>,
    /// The conversation's name.
    pub topic: String,
    /// The last turn that was asked for.
    pub last: Option<ChatSent>,
    /// The user has interrupted the last turn, however it ended.
    pub interrupted: bool,
}

impl Talk {
    /// The agent's name, safe to show.
    #[must_use]
    pub fn name(&self) -> String {
        text::line(self.agent.name.as_str())
    }

    /// Why an answer has to wait, where it has to.
    #[must_use]
    pub fn waits(&self) -> Option<String> {
        let (name, phase) = (self.name(), self.agent.phase);
        if phase == Phase::Running {
            return None;
        }
        // What is on its way needs no help, and who sleeps is woken by the message.
        let helps = match phase {
            Phase::Provisioning | Phase::Starting | Phase::Updating | Phase::Repairing | Phase::Hibernated => None,
            other => other.way_out(),
        };
        let way = helps.map(|verb| format!(": agentbotctl {verb} {name}")).unwrap_or_default();
        Some(format!("{name} is {phase}; the message waits{way}"))
    }

    /// Asks, and shows the turn until it has ended.
    ///
    /// # Errors
    /// When the talk cannot go on.
    pub async fn turn(
        &mut self,
        view: &mut dyn View,
        question: &Question,
        interrupts: &mut Signal,
        until: Option<Instant>,
    ) -> Result<End, Failure> {
        let mut turn = Turn { id: None, message: None, why: None, early: Vec::new() };
        let mut abort: Option<Instant> = None;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut paint: Option<Instant> = None;
        view.begin();
        match question {
            Question::Send(message) => self.session.send(message.clone()),
            Question::Retry(turn) => self.session.retry(turn),
        }
        let far = Instant::now() + Duration::from_secs(365 * 24 * 3600);
        let end = loop {
            let news = tokio::select! {
                news = self.session.next() => news,
                _ = interrupts.recv() => {
                    if abort.is_some() {
                        break Ok(turn.unfinished());
                    }
                    abort = Some(Instant::now() + ABORT);
                    if let Some(id) = &turn.id {
                        self.session.abort(id);
                    }
                    continue;
                }
                () = sleep_until(abort.unwrap_or(far)) => break Ok(turn.unfinished()),
                () = sleep_until(until.unwrap_or(far)), if abort.is_none() => break Ok(End::Unheard(self.late(&turn))),
                () = sleep_until(paint.unwrap_or(far)) => {
                    paint = None;
                    view.tick();
                    continue;
                }
                _ = ticks.tick(), if view.moves() && paint.is_none() => {
                    view.tick();
                    continue;
                }
            };
            let told = match news {
                Ok(News::Refused(failure)) => break Ok(End::Unheard(failure)),
                Ok(news) => self.hear(view, &mut turn, news),
                Err(failure) => break Err(failure),
            };
            if paint.is_none() {
                paint = Some(Instant::now() + PAINT);
            }
            match told {
                Told::Begun => {
                    if let (Some(_), Some(id)) = (abort, &turn.id) {
                        self.session.abort(id);
                    }
                    let early = std::mem::take(&mut turn.early);
                    let ended =
                        early.into_iter().find_map(|(frame, spoken)| self.show(view, &mut turn, &frame, spoken));
                    if let Some(done) = ended {
                        break Ok(turn.end(&done, abort.is_some()));
                    }
                }
                Told::Ended(done) => break Ok(turn.end(&done, abort.is_some())),
                Told::More => {}
            }
        };
        self.interrupted = abort.is_some();
        view.end(matches!(end, Ok(End::Answered)));
        view.written()?;
        end
    }

    /// Takes one piece of news.
    fn hear(&mut self, view: &mut dyn View, turn: &mut Turn, news: News) -> Told {
        match news {
            News::Sent(sent) => {
                turn.begun(&sent);
                self.conversation = Some(sent.conversation.clone());
                self.last = Some(sent);
                if let Some(line) = self.waits() {
                    view.note(&line);
                    view.waits(Some(&format!("waiting for {}", self.name())));
                }
                return Told::Begun;
            }
            News::Retried(again) => {
                let sent =
                    ChatSent { message: again.message, conversation: again.conversation, seq: 0, turn: again.turn };
                self.session.follow(&sent);
                turn.begun(&sent);
                self.last = Some(sent);
                return Told::Begun;
            }
            News::Away => {
                view.note("agentbotd is away; the talk goes on when it is back");
                view.waits(Some("waiting for agentbotd"));
            }
            News::Back => {
                view.note("agentbotd is back");
                view.waits(None);
            }
            News::Event(frame, spoken) if turn.id.is_none() => {
                if turn.early.len() < EARLY {
                    turn.early.push((frame, spoken));
                }
            }
            News::Event(frame, spoken) => {
                if let Some(done) = self.show(view, turn, &frame, spoken) {
                    return Told::Ended(done);
                }
            }
            News::Ready | News::Page(_) | News::Refused(_) => {}
        }
        Told::More
    }

    /// Shows an event; gives the end of the turn if it is that.
    fn show(&mut self, view: &mut dyn View, turn: &mut Turn, frame: &Value, spoken: Spoken) -> Option<ChatDone> {
        let ours = |id: &TurnId| turn.id.as_ref() == Some(id);
        match spoken {
            Spoken::Message(message) => {
                if self.conversation.as_ref() != Some(&message.conversation) {
                    return None;
                }
                let own = message.turn.as_ref().is_some_and(ours);
                if own || turn.message.as_ref() == Some(&message.id.to_string()) {
                    view.frame(frame);
                }
                match message.sender {
                    Sender::Agent if own => view.answer(&message.content),
                    Sender::System if own => turn.why = Some(safe::clean(&message.content)),
                    Sender::User if own || turn.message.as_ref() == Some(&message.id.to_string()) => {}
                    _ => view.other(&message),
                }
            }
            Spoken::Delta(delta) if ours(&delta.turn) => {
                view.frame(frame);
                view.waits(None);
                view.delta(&delta.text, delta.snapshot);
            }
            Spoken::Tool(tool) if ours(&tool.turn) => {
                view.frame(frame);
                view.waits(None);
                view.tool(&tool.call);
            }
            Spoken::Done(done) if ours(&done.turn) => {
                view.frame(frame);
                return Some(done);
            }
            Spoken::Phase(phase) if phase.agent == self.agent.id => {
                view.frame(frame);
                let before = std::mem::replace(&mut self.agent.phase, phase.phase);
                match self.waits() {
                    Some(line) if before != phase.phase => {
                        view.note(&line);
                        view.waits(Some(&format!("waiting for {}", self.name())));
                    }
                    Some(_) => {}
                    None => view.waits(None),
                }
            }
            Spoken::Delta(_) | Spoken::Tool(_) | Spoken::Done(_) | Spoken::Phase(_) => {}
        }
        None
    }

    fn late(&self, turn: &Turn) -> Failure {
        let name = self.name();
        let failure = |message: &str| Failure::new(Exit::TimedOut, "timed_out", message);
        if turn.id.is_some() {
            failure(&format!("{name} did not answer in time; the turn goes on"))
                .hint(format!("see it with: agentbotctl messages {name} --follow\ngive more time with --timeout"))
        } else {
            failure("agentbotd did not take the message in time")
                .hint("look at `journalctl -u agentbotd`; give more time with --timeout")
        }
    }
}

/// What news means for the turn.
enum Told {
    Begun,
    More,
    Ended(ChatDone),
}

struct Turn {
    id: Option<TurnId>,
    message: Option<String>,
    why: Option<String>,
    /// What came before anybody knew which turn it is.
    early: Vec<(Value, Spoken)>,
}

impl Turn {
    fn begun(&mut self, sent: &ChatSent) {
        self.id = Some(sent.turn.clone());
        self.message = Some(sent.message.to_string());
    }

    /// The end for a user who waits no longer.
    fn unfinished(&self) -> End {
        End::Aborted(if self.id.is_some() { Aborted::Asked } else { Aborted::Unknown })
    }

    fn end(self, done: &ChatDone, aborted: bool) -> End {
        if done.status == TurnStatus::Done {
            return End::Answered;
        }
        if aborted {
            return End::Aborted(Aborted::Ended(done.status));
        }
        let error = done.error.as_ref();
        let code = error.map_or(done.status.as_str(), |error| error.code.as_str());
        let message = error
            .map(|error| error.message.clone())
            .or(self.why)
            .unwrap_or_else(|| format!("the turn is {}, without an answer", done.status));
        let hint = error.and_then(|error| error.hint.clone());
        End::Failed(Failure { hint, ..Failure::new(Exit::Failed, code, message) })
    }
}
