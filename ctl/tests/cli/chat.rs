//! The twin's conversations: messages in memory, turns that follow a script, and the client's socket over them.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentbot_wire::{
    AgentPhase, ApiError, ChatDelta, ChatDone, ChatSend, ChatSent, ChatSubscribe, ChatTool, Code, Connect,
    ConversationId, ConversationView, Frame, Message, MessageId, Phase, Platform, Sender, ToolCall, ToolStatus, TurnId,
    TurnStatus, TurnView, event,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::core::State;

/// One step of a turn.
#[derive(Clone, Debug)]
pub enum Act {
    /// A piece of the answer.
    Say(String),
    /// The use of a tool, from its beginning to its end.
    Tool(&'static str, &'static str, ToolStatus),
    /// Nothing for a while.
    Pause(u64),
    /// Every connection is closed.
    Cut,
    /// The stored answer is this and not what the pieces said.
    Answer(String),
    /// There is no answer.
    Fail(ApiError),
    /// Waits until the test, or an abort, lets it go on.
    Hold,
}

/// A turn that has not ended, or has.
#[derive(Clone, Debug)]
pub struct Turn {
    pub view: TurnView,
    pub rest: VecDeque<Act>,
    pub text: String,
    pub index: u64,
    pub aborted: bool,
}

pub type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the twin knows of chats, and what a test may bend.
#[derive(Default)]
pub struct Chats {
    pub conversations: Vec<ConversationView>,
    pub messages: Vec<Message>,
    /// Steps of the turns to come, one list for each; without one the agent echoes.
    pub scripts: VecDeque<Vec<Act>>,
    /// Messages that were sent, as they came.
    pub sends: Vec<ChatSend>,
    pub aborts: Vec<TurnId>,
    pub connects: Vec<Connect>,
    pub subscribes: Vec<ChatSubscribe>,
    /// The next message is stored, and the connection cut before the answer.
    pub lose_ack: bool,
    pub held: bool,
    /// Aborts are taken and neither answered nor followed.
    pub deaf_to_aborts: bool,
    /// Who has subscribed is not read from any more.
    pub deaf: bool,
    /// The next question of this method is not answered; instead a message is stored and another one told.
    pub hole: Option<&'static str>,
    /// A message that is stored right after the next page.
    pub between: Option<String>,
    pub refuse: Option<ApiError>,
    pub turns: Vec<Turn>,
    pub keys: BTreeMap<String, ChatSent>,
    pub listeners: Vec<mpsc::Sender<String>>,
    pub jobs: Option<mpsc::Sender<Job>>,
}

impl Chats {
    /// Stores two messages of somebody else and tells of the second only, as a faulty daemon might.
    pub fn leave_a_hole(&mut self) {
        let (conversation, listeners) = (self.conversations[0].id.clone(), std::mem::take(&mut self.listeners));
        self.store(&conversation, Sender::User, Platform::Http, "in the hole", None);
        self.listeners = listeners;
        self.store(&conversation, Sender::User, Platform::Http, "behind the hole", None);
    }

    fn publish(&mut self, name: &str, seq: Option<u64>, payload: Value) {
        let text = Frame::Event { event: name.to_owned(), seq, payload }.to_text();
        self.listeners.retain(|listener| listener.try_send(text.clone()).is_ok());
    }

    pub fn conversation(&mut self, agent: &agentbot_wire::InstanceId, topic: &str) -> ConversationId {
        if let Some(known) = self.conversations.iter().find(|one| one.topic == topic) {
            return known.id.clone();
        }
        let (id, now) = (ConversationId::mint(), Timestamp::now());
        self.conversations.push(ConversationView {
            id: id.clone(),
            agent: agent.clone(),
            topic: topic.to_owned(),
            seq: 0,
            created_at: now,
            updated_at: now,
        });
        id
    }

    /// Stores a message and tells everybody.
    pub fn store(
        &mut self,
        conversation: &ConversationId,
        sender: Sender,
        platform: Platform,
        content: &str,
        turn: Option<TurnId>,
    ) -> Message {
        let one = self.conversations.iter_mut().find(|one| one.id == *conversation).unwrap();
        one.seq += 1;
        one.updated_at = Timestamp::now();
        let message = Message {
            id: MessageId::mint(),
            agent: one.agent.clone(),
            conversation: conversation.clone(),
            sender,
            content: content.to_owned(),
            timestamp: one.updated_at,
            platform,
            seq: one.seq,
            turn,
        };
        self.messages.push(message.clone());
        self.publish(event::CHAT_MESSAGE, Some(message.seq), json!(message));
        message
    }

    /// Tells everybody of an agent's phase.
    pub fn phase(&mut self, agent: &agentbot_wire::InstanceView) {
        let phase = AgentPhase { agent: agent.id.clone(), name: agent.name.clone(), phase: agent.phase, reason: None };
        self.publish(event::AGENT_PHASE, Some(7), json!(phase));
    }

    /// Closes every connection.
    pub fn cut(&mut self) {
        self.listeners.clear();
    }

    pub fn turn(&mut self, id: &TurnId) -> Option<&mut Turn> {
        self.turns.iter_mut().find(|turn| turn.view.turn == *id)
    }

    /// Turns that have not ended.
    pub fn open(&self) -> Vec<TurnId> {
        self.turns.iter().filter(|turn| !turn.view.status.is_ended()).map(|turn| turn.view.turn.clone()).collect()
    }

    fn end(&mut self, id: &TurnId, status: TurnStatus, error: Option<ApiError>, answer: Option<&str>) {
        let turn = self.turn(id).unwrap();
        turn.view.status = status;
        turn.view.error = error.clone();
        let (conversation, partial) = (turn.view.conversation.clone(), turn.text.clone());
        if status != TurnStatus::Done && !partial.is_empty() {
            self.store(&conversation, Sender::Agent, Platform::Agent, &partial, Some(id.clone()));
        }
        let (sender, content) = match (&error, answer) {
            (Some(error), _) => (Sender::System, error.message.clone()),
            (None, answer) => (Sender::Agent, answer.unwrap_or(&partial).to_owned()),
        };
        let last = self.store(&conversation, sender, Platform::Agent, &content, Some(id.clone()));
        let done = ChatDone {
            agent: last.agent.clone(),
            conversation,
            turn: id.clone(),
            status,
            message: last.id,
            last_seq: last.seq,
            error,
        };
        self.publish(event::CHAT_DONE, None, json!(done));
    }
}

/// Carries a turn through its script.
pub async fn drive(state: Arc<Mutex<State>>, id: TurnId) {
    loop {
        let pause = {
            let mut state = state.lock().unwrap();
            if state.agents[0].phase != Phase::Running {
                Duration::from_millis(10)
            } else {
                match step(&mut state.chats, &id) {
                    Some(pause) => pause,
                    None => return,
                }
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// One step; none when the turn has ended.
fn step(chats: &mut Chats, id: &TurnId) -> Option<Duration> {
    let held = chats.held;
    let turn = chats.turn(id)?;
    if turn.view.status.is_ended() {
        return None;
    }
    turn.view.status = TurnStatus::Running;
    if turn.aborted {
        let error = ApiError { code: Code::Cancelled, message: "aborted by the user".to_owned(), hint: None };
        chats.end(id, TurnStatus::Cancelled, Some(error), None);
        return None;
    }
    let Some(act) = turn.rest.pop_front() else {
        chats.end(id, TurnStatus::Done, None, None);
        return None;
    };
    let (turn_id, conversation) = (id.clone(), turn.view.conversation.clone());
    let agent = chats.conversations.iter().find(|one| one.id == conversation).unwrap().agent.clone();
    match act {
        Act::Say(text) => {
            let turn = chats.turn(id).unwrap();
            turn.text.push_str(&text);
            let index = turn.index;
            turn.index += 1;
            let delta = ChatDelta { agent, conversation, turn: turn_id, index, text, snapshot: false };
            chats.publish(event::CHAT_DELTA, None, json!(delta));
        }
        Act::Tool(name, detail, status) => {
            for status in [ToolStatus::Started, status] {
                let call =
                    ToolCall { id: "c1".to_owned(), name: name.to_owned(), status, detail: Some(detail.to_owned()) };
                let tool =
                    ChatTool { agent: agent.clone(), conversation: conversation.clone(), turn: turn_id.clone(), call };
                chats.publish(event::CHAT_TOOL, None, json!(tool));
            }
        }
        Act::Pause(millis) => return Some(Duration::from_millis(millis)),
        Act::Cut => chats.cut(),
        Act::Answer(text) => {
            chats.end(id, TurnStatus::Done, None, Some(&text));
            return None;
        }
        Act::Fail(error) => {
            chats.end(id, TurnStatus::Failed, Some(error), None);
            return None;
        }
        Act::Hold if held => chats.turn(id).unwrap().rest.push_front(Act::Hold),
        Act::Hold => {}
    }
    Some(Duration::from_millis(3))
}
