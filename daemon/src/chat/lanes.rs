//! The turns of one agent: which runs, which waits, and what each sign of the agent means for them. Pure: the time comes as
//! an argument, and what is to be done goes out as effects.

mod active;
mod effect;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use agentbot_wire::{
    ApiError, ChatDelta, Code, ConversationId, InstanceId, MAX_MESSAGE, MessageId, ToolCall, TurnId, TurnStatus,
};
use tokio::time::Instant;

use active::{Active, Stage, too_long};
pub use effect::{Effect, End, Limits, Presence};

use super::event::Event;
use super::text;
use crate::store::turns::Turn;

/// Turns of one agent that run at once, each in a conversation of its own.
pub const MAX_ACTIVE: usize = 4;
/// Processes of an agent that may take a turn before it counts as interrupted.
pub const MAX_ATTEMPTS: u32 = 2;
/// Pause before a turn is offered again to an agent that was busy.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Default)]
struct Lane {
    active: Option<Active>,
    waiting: VecDeque<Waiting>,
}

#[derive(Clone, Debug)]
struct Waiting {
    /// Counts the turns of all conversations.
    number: u64,
    turn: TurnId,
    message: MessageId,
}

/// What has been shown of a turn under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    /// The turn.
    pub turn: TurnId,
    /// Its conversation.
    pub conversation: ConversationId,
    /// The index of the newest piece.
    pub index: u64,
    /// All pieces together.
    pub text: String,
}

impl Partial {
    /// The event that shows it whole.
    #[must_use]
    pub fn into_event(self, agent: InstanceId) -> Event {
        let Self { turn, conversation, index, text } = self;
        Event::delta(ChatDelta { agent, conversation, turn, index, text, snapshot: true })
    }
}

/// The conversations of one agent that have open turns.
#[derive(Clone, Debug, Default)]
pub struct Lanes {
    agent: Option<Presence>,
    lanes: BTreeMap<ConversationId, Lane>,
    queued: u64,
}

impl Lanes {
    /// Whether there is nothing to remember.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.agent.is_none() && self.lanes.is_empty()
    }

    /// Takes a stored turn in: one that was just asked for, or one that an earlier run of the daemon left open.
    pub fn queue(&mut self, turn: &Turn, now: Instant) -> Vec<Effect> {
        self.queued += 1;
        let lane = self.lanes.entry(turn.conversation.clone()).or_default();
        if turn.status == TurnStatus::Running && lane.active.is_none() {
            lane.active = Some(Active::left_open(turn, now));
            return Vec::new();
        }
        lane.waiting.push_back(Waiting { number: self.queued, turn: turn.id.clone(), message: turn.message.clone() });
        self.fill(now)
    }

    /// The agent said hello: turns that it had, or was to have, are offered again, unless what it showed died with it.
    pub fn joined(&mut self, agent: Presence, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        // Two connections may say so in the wrong order: the newer one stays.
        if self.agent.as_ref().is_some_and(|present| present.connection > agent.connection) {
            return effects;
        }
        for (conversation, lane) in &mut self.lanes {
            if let Some(active) = &mut lane.active {
                effects.extend(active.offer_again(conversation, &agent, now));
            }
        }
        self.agent = Some(agent);
        effects.extend(self.fill(now));
        effects
    }

    /// A connection of the agent is over.
    pub fn left(&mut self, connection: u64) {
        if self.is_present(connection) {
            self.agent = None;
            for active in self.lanes.values_mut().filter_map(|lane| lane.active.as_mut()) {
                if active.stage != Stage::Ending {
                    active.stage = Stage::Parked(None);
                }
            }
        }
    }

    fn is_present(&self, connection: u64) -> bool {
        self.agent.as_ref().is_some_and(|agent| agent.connection == connection)
    }

    /// The agent has the turn. `None` when the turn is not open for this connection.
    pub fn acked(&mut self, turn: &TurnId, connection: u64, now: Instant) -> Option<Vec<Effect>> {
        self.signed(turn, connection, now).map(|(_, effects)| effects)
    }

    /// The agent will not take the turn.
    pub fn refused(&mut self, turn: &TurnId, connection: u64, error: ApiError, now: Instant) -> Vec<Effect> {
        let Some((conversation, active, _)) = self.offered(turn, connection) else { return Vec::new() };
        if matches!(error.code, Code::Busy | Code::ShuttingDown) {
            active.stage = Stage::Parked(Some(now + BUSY_PAUSE));
            return Vec::new();
        }
        Vec::from([active.end(&conversation, TurnStatus::Failed, Some(error))])
    }

    /// The agent did not say in time whether it takes the turn.
    pub fn unanswered(&mut self, turn: &TurnId, connection: u64, error: ApiError) -> Vec<Effect> {
        let Some((conversation, active, to)) = self.offered(turn, connection) else { return Vec::new() };
        let turn = turn.clone();
        Vec::from([active.end(&conversation, TurnStatus::Failed, Some(error)), Effect::Cancel { turn, to }])
    }

    fn offered(&mut self, turn: &TurnId, connection: u64) -> Option<(ConversationId, &mut Active, Presence)> {
        let to = self.agent.clone().filter(|agent| agent.connection == connection)?;
        let (conversation, active) = self.active(turn)?;
        (active.stage == Stage::Offered).then_some((conversation, active, to))
    }

    fn active(&mut self, turn: &TurnId) -> Option<(ConversationId, &mut Active)> {
        self.lanes.iter_mut().find_map(|(conversation, lane)| {
            let active = lane.active.as_mut().filter(|active| active.turn == *turn)?;
            Some((conversation.clone(), active))
        })
    }

    /// A sign of a turn that the agent may work on. It says too that the agent has it: the answer to the offer may be
    /// heard after what followed it.
    fn signed(
        &mut self,
        turn: &TurnId,
        connection: u64,
        now: Instant,
    ) -> Option<((ConversationId, &mut Active), Vec<Effect>)> {
        let boot = self.agent.as_ref().filter(|agent| agent.connection == connection)?.boot.clone();
        let (conversation, active) = self.active(turn)?;
        let mut effects = Vec::new();
        match active.stage {
            Stage::Ending => return None,
            Stage::Running => {}
            Stage::Offered | Stage::Parked(_) => {
                active.stage = Stage::Running;
                if !active.taken {
                    active.taken = true;
                    active.boot.clone_from(&boot);
                    effects.push(Effect::Taken { turn: turn.clone(), attempt: active.attempt, boot });
                }
            }
        }
        active.sign = now;
        Some(((conversation, active), effects))
    }

    /// A piece of the answer. `None` when the turn is not open for this connection.
    pub fn delta(
        &mut self,
        turn: &TurnId,
        connection: u64,
        text: &str,
        snapshot: bool,
        now: Instant,
    ) -> Option<Vec<Effect>> {
        let to = self.agent.clone()?;
        let ((conversation, active), mut effects) = self.signed(turn, connection, now)?;
        let before = if snapshot { 0 } else { active.text.len() };
        if before + text.len() > MAX_MESSAGE {
            if snapshot {
                active.text.clear();
            }
            active.text.push_str(text);
            active.text.truncate(text::cut(&active.text).len());
            effects.push(active.end(&conversation, TurnStatus::Failed, Some(too_long())));
            effects.push(Effect::Cancel { turn: turn.clone(), to });
            return Some(effects);
        }
        if text.is_empty() && !snapshot {
            return Some(effects);
        }
        if snapshot {
            active.text.clear();
        }
        active.text.push_str(text);
        let index = active.index;
        active.index += 1;
        effects.extend(active.show());
        effects.push(Effect::Delta { turn: turn.clone(), conversation, index, text: text.to_owned(), snapshot });
        Some(effects)
    }

    /// The use of a tool. `None` when the turn is not open for this connection.
    pub fn tool(&mut self, turn: &TurnId, connection: u64, call: ToolCall, now: Instant) -> Option<Vec<Effect>> {
        let ((conversation, active), mut effects) = self.signed(turn, connection, now)?;
        effects.extend(active.show());
        effects.push(Effect::Tool { turn: turn.clone(), conversation, call });
        Some(effects)
    }

    /// The answer. `None` when the turn is not open for this connection.
    pub fn done(&mut self, turn: &TurnId, connection: u64, text: String, now: Instant) -> Option<Vec<Effect>> {
        let ((conversation, active), mut effects) = self.signed(turn, connection, now)?;
        let too_long = (text.len() > MAX_MESSAGE).then(too_long);
        active.text = text;
        active.text.truncate(text::cut(&active.text).len());
        let status = if too_long.is_some() { TurnStatus::Failed } else { TurnStatus::Done };
        effects.push(active.end(&conversation, status, too_long));
        Some(effects)
    }

    /// The agent gave up. `None` when the turn is not open for this connection.
    pub fn failed(&mut self, turn: &TurnId, connection: u64, error: ApiError, now: Instant) -> Option<Vec<Effect>> {
        let ((conversation, active), mut effects) = self.signed(turn, connection, now)?;
        let status = match error.code {
            Code::Interrupted => TurnStatus::Interrupted,
            Code::Cancelled => TurnStatus::Cancelled,
            _ => TurnStatus::Failed,
        };
        effects.push(active.end(&conversation, status, Some(error)));
        Some(effects)
    }

    /// Somebody wants no answer any more. `None` when the turn is not open, or ends already.
    pub fn abort(&mut self, turn: &TurnId, error: ApiError) -> Option<Vec<Effect>> {
        let to = self.agent.clone();
        if let Some((conversation, active)) = self.active(turn) {
            if active.stage == Stage::Ending {
                return None;
            }
            let has_it = matches!(active.stage, Stage::Offered | Stage::Running);
            let mut effects = Vec::from([active.end(&conversation, TurnStatus::Cancelled, Some(error))]);
            if let Some(to) = to.filter(|_| has_it) {
                effects.push(Effect::Cancel { turn: turn.clone(), to });
            }
            return Some(effects);
        }
        let waits = |lane: &Lane| lane.waiting.iter().position(|waiting| waiting.turn == *turn);
        let (conversation, waiting) = self
            .lanes
            .iter_mut()
            .find_map(|(conversation, lane)| Some((conversation, lane.waiting.remove(waits(lane)?)?)))?;
        Some(Vec::from([Effect::End(End {
            turn: waiting.turn,
            message: waiting.message,
            conversation: conversation.clone(),
            status: TurnStatus::Cancelled,
            answer: String::new(),
            error: Some(error),
        })]))
    }

    /// Every turn that has not ended.
    #[must_use]
    pub fn open(&self) -> Vec<TurnId> {
        let active = |lane: &Lane| lane.active.as_ref().map(|active| active.turn.clone());
        let waiting = |lane: &Lane| lane.waiting.iter().map(|waiting| waiting.turn.clone()).collect::<Vec<_>>();
        self.lanes.values().flat_map(|lane| active(lane).into_iter().chain(waiting(lane))).collect()
    }

    /// The end of a turn is written down: the next of its conversation may run.
    pub fn ended(&mut self, turn: &TurnId, now: Instant) -> Vec<Effect> {
        for lane in self.lanes.values_mut() {
            if lane.active.as_ref().is_some_and(|active| active.turn == *turn) {
                lane.active = None;
            }
        }
        self.lanes.retain(|_, lane| lane.active.is_some() || !lane.waiting.is_empty());
        self.fill(now)
    }

    /// Looks at the clock.
    pub fn tick(&mut self, limits: Limits, now: Instant) -> Vec<Effect> {
        let Some(agent) = self.agent.clone() else { return Vec::new() };
        let mut effects = Vec::new();
        for (conversation, lane) in &mut self.lanes {
            let Some(active) = &mut lane.active else { continue };
            match active.stage {
                Stage::Running | Stage::Parked(Some(_)) if active.overdue(limits, now).is_some() => {
                    let error = active.overdue(limits, now);
                    let turn = active.turn.clone();
                    effects.push(active.end(conversation, TurnStatus::Failed, error));
                    effects.push(Effect::Cancel { turn, to: agent.clone() });
                }
                Stage::Parked(Some(until)) if until <= now => {
                    active.stage = Stage::Offered;
                    effects.push(active.offer(&agent));
                }
                _ => {}
            }
        }
        effects
    }

    /// Whether a turn is under way with the agent, so that the clock has to be looked at.
    #[must_use]
    pub fn needs_clock(&self) -> bool {
        self.agent.is_some() && self.lanes.values().any(|lane| lane.active.is_some())
    }

    /// What has been shown of turns under way, in one conversation or in all.
    #[must_use]
    pub fn partials(&self, of: Option<&ConversationId>) -> Vec<Partial> {
        let wanted = |conversation: &ConversationId| of.is_none_or(|of| of == conversation);
        let shown = self.lanes.iter().filter(|(conversation, _)| wanted(conversation));
        shown
            .filter_map(|(conversation, lane)| {
                let active = lane.active.as_ref().filter(|active| active.index > 0 && active.stage != Stage::Ending)?;
                Some(Partial {
                    turn: active.turn.clone(),
                    conversation: conversation.clone(),
                    index: active.index - 1,
                    text: active.text.clone(),
                })
            })
            .collect()
    }

    /// Offers what waits, the oldest first, while the agent is there and has room.
    fn fill(&mut self, now: Instant) -> Vec<Effect> {
        let Some(agent) = self.agent.clone() else { return Vec::new() };
        let mut effects = Vec::new();
        let mut active = self.lanes.values().filter(|lane| lane.active.is_some()).count();
        while active < MAX_ACTIVE {
            let free = self.lanes.values_mut().filter(|lane| lane.active.is_none() && !lane.waiting.is_empty());
            let next = free.min_by_key(|lane| lane.waiting.front().map(|waiting| waiting.number));
            let Some(lane) = next else { break };
            let Some(waiting) = lane.waiting.pop_front() else { break };
            let next = Active::new(waiting.turn, waiting.message, now);
            effects.push(next.offer(&agent));
            lane.active = Some(next);
            active += 1;
        }
        effects
    }
}

#[cfg(test)]
mod tests;
