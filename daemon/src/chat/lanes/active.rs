//! A turn that is with its agent, or was.

use agentbot_wire::{ApiError, Code, ConversationId, MAX_MESSAGE, MessageId, TurnId, TurnStatus};
use tokio::time::Instant;

use super::{Effect, End, Limits, MAX_ATTEMPTS, Presence};
use crate::store::turns::Turn;

/// How far a turn is with its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The agent is away, or asked for patience until a time.
    Parked(Option<Instant>),
    /// Sent to the agent, which has not said that it has it.
    Offered,
    /// The agent has it.
    Running,
    /// Its end is being written down.
    Ending,
}

/// The one turn of a conversation that is not waiting.
#[derive(Clone, Debug)]
pub(super) struct Active {
    pub(super) turn: TurnId,
    /// What it answers.
    pub(super) message: MessageId,
    pub(super) stage: Stage,
    pub(super) attempt: u32,
    /// Whether a process of the agent has it, or had; which one.
    pub(super) taken: bool,
    pub(super) boot: Option<String>,
    pub(super) output: bool,
    pub(super) text: String,
    pub(super) index: u64,
    pub(super) since: Instant,
    pub(super) sign: Instant,
}

impl Active {
    /// A turn that the agent is to have.
    pub(super) fn new(turn: TurnId, message: MessageId, now: Instant) -> Self {
        Self {
            turn,
            message,
            stage: Stage::Offered,
            attempt: 1,
            taken: false,
            boot: None,
            output: false,
            text: String::new(),
            index: 0,
            since: now,
            sign: now,
        }
    }

    /// A turn that an earlier run of the daemon left with its agent.
    pub(super) fn left_open(turn: &Turn, now: Instant) -> Self {
        Self {
            stage: Stage::Parked(None),
            attempt: turn.attempts.max(1),
            taken: true,
            boot: turn.boot.clone(),
            output: turn.output,
            ..Self::new(turn.id.clone(), turn.message.clone(), now)
        }
    }

    pub(super) fn offer(&self, to: &Presence) -> Effect {
        Effect::Offer { turn: self.turn.clone(), attempt: self.attempt, to: to.clone() }
    }

    pub(super) fn offer_again(
        &mut self,
        conversation: &ConversationId,
        agent: &Presence,
        now: Instant,
    ) -> Option<Effect> {
        if self.stage == Stage::Ending {
            return None;
        }
        let lives = self.boot.is_some() && self.boot == agent.boot;
        if self.taken && !lives {
            if self.output || self.attempt >= MAX_ATTEMPTS {
                return Some(self.end(conversation, TurnStatus::Interrupted, Some(interrupted())));
            }
            self.attempt += 1;
            self.taken = false;
        }
        if !self.taken {
            self.since = now;
        }
        self.stage = Stage::Offered;
        self.sign = now;
        Some(self.offer(agent))
    }

    /// Why it has taken too long, if it has.
    pub(super) fn overdue(&self, limits: Limits, now: Instant) -> Option<ApiError> {
        let message = if self.stage == Stage::Running && now.duration_since(self.sign) >= limits.idle {
            format!("the agent showed nothing of its answer for {:?}", limits.idle)
        } else if now.duration_since(self.since) >= limits.total {
            let what = if self.taken { "end its answer" } else { "take the message" };
            format!("the agent did not {what} within {:?}", limits.total)
        } else {
            return None;
        };
        let hint = "ask again with chat.retry; `agentbotctl restart` helps with an agent that hangs";
        Some(ApiError { code: Code::TimedOut, message, hint: Some(hint.to_owned()) })
    }

    pub(super) fn show(&mut self) -> Option<Effect> {
        let first = !self.output;
        self.output = true;
        first.then(|| Effect::Shown { turn: self.turn.clone() })
    }

    pub(super) fn end(&mut self, conversation: &ConversationId, status: TurnStatus, error: Option<ApiError>) -> Effect {
        self.stage = Stage::Ending;
        Effect::End(End {
            turn: self.turn.clone(),
            message: self.message.clone(),
            conversation: conversation.clone(),
            status,
            answer: std::mem::take(&mut self.text),
            error,
        })
    }
}

fn interrupted() -> ApiError {
    ApiError {
        code: Code::Interrupted,
        message: "the agent stopped in the middle of its answer".to_owned(),
        hint: Some("ask again with chat.retry, or `/retry` in `agentbotctl chat`".to_owned()),
    }
}

/// The reason of an answer over its limit.
pub(super) fn too_long() -> ApiError {
    ApiError {
        code: Code::TooLarge,
        message: format!("the answer is longer than {MAX_MESSAGE} bytes, and was cut there"),
        hint: Some("ask for a shorter one, or for a file in the workspace".to_owned()),
    }
}
