//! The twin's conversations: messages in memory, turns that follow a script, and the client's socket over them.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentbot_wire::{
    AgentPhase, ApiError, ChatDelta, ChatDone, ChatSend, ChatSent, ChatSubscribe, ChatSubscribed, ChatTool, ChatTurn,
    ClientPolicy, Code, Connect, Connected, ConversationId, ConversationView, Frame, History, HistoryParams, Message,
    MessageId, Phase, Platform, Sender, ToolCall, ToolStatus, TurnId, TurnStatus, TurnView, event, method,
};
use futures_util::{SinkExt as _, StreamExt as _};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as WsMessage;

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
struct Turn {
    view: TurnView,
    rest: VecDeque<Act>,
    text: String,
    index: u64,
    aborted: bool,
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
    pub refuse: Option<ApiError>,
    turns: Vec<Turn>,
    keys: BTreeMap<String, ChatSent>,
    listeners: Vec<mpsc::Sender<String>>,
    pub jobs: Option<mpsc::Sender<Job>>,
}

impl Chats {
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

    fn turn(&mut self, id: &TurnId) -> Option<&mut Turn> {
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

/// Serves one client.
pub async fn serve<S>(state: Arc<Mutex<State>>, mut socket: WebSocketStream<S>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (say, mut said) = mpsc::channel(4096);
    let mut say = Some(say);
    loop {
        tokio::select! {
            text = said.recv() => match text {
                Some(text) => if socket.send(WsMessage::text(text)).await.is_err() { return },
                None => return,
            },
            frame = socket.next() => {
                let Some(Ok(WsMessage::Text(text))) = frame else { return };
                let Frame::Req { id, method, params } = Frame::parse(&text).unwrap() else { return };
                let answers = {
                    let mut state = state.lock().unwrap();
                    let Some(answers) = answer(&mut state, &id, &method, params) else { return };
                    if method == method::CHAT_SUBSCRIBE && let Some(say) = say.take() {
                        state.chats.listeners.push(say);
                    }
                    answers
                };
                for frame in answers {
                    if socket.send(WsMessage::text(frame.to_text())).await.is_err() { return }
                }
            }
        }
    }
}

fn read<T: DeserializeOwned>(params: Value) -> T {
    serde_json::from_value(params).unwrap()
}

/// The answer, and what follows it at once; none cuts the connection.
fn answer(state: &mut State, id: &str, method: &str, params: Value) -> Option<Vec<Frame>> {
    let agent = state.agents[0].clone();
    let chats = &mut state.chats;
    let one = |frame| Some(vec![frame]);
    match method {
        method::CONNECT => {
            chats.connects.push(read(params));
            let connected = Connected {
                version: 1,
                policy: ClientPolicy { max_frame: 256 * 1024, beat_ms: 10_000 },
                actor: "operator:0".to_owned(),
                agent: None,
            };
            one(Frame::answer(id, json!(connected)))
        }
        method::CHAT_SUBSCRIBE => Some(subscribe(chats, id, &read(params), &agent.id)),
        method::CHAT_SEND => {
            let send: ChatSend = read(params);
            chats.sends.push(send.clone());
            if let Some(error) = chats.refuse.take() {
                return one(Frame::refusal(id, error));
            }
            let key = send.idempotency_key.clone().expect("ctl always sends a key");
            if let Some(sent) = chats.keys.get(&key) {
                return one(Frame::answer(id, json!(sent)));
            }
            let conversation = chats.conversation(&agent.id, send.topic.as_deref().unwrap());
            let turn = TurnId::mint();
            let message = chats.store(&conversation, Sender::User, Platform::Ctl, &send.text, Some(turn.clone()));
            let sent = ChatSent { message: message.id, conversation, seq: message.seq, turn };
            chats.keys.insert(key, sent.clone());
            let script = chats.scripts.pop_front();
            let script = script.unwrap_or_else(|| vec![Act::Say("echo: ".to_owned()), Act::Say(send.text.clone())]);
            begin(state, &sent, script);
            if std::mem::take(&mut state.chats.lose_ack) {
                return None;
            }
            one(Frame::answer(id, json!(sent)))
        }
        method::CHAT_ABORT => {
            let params: ChatTurn = read(params);
            chats.aborts.push(params.turn.clone());
            let turn = chats.turn(&params.turn).unwrap();
            turn.aborted = true;
            one(Frame::answer(id, json!(turn.view)))
        }
        method::CHAT_RETRY => {
            let params: ChatTurn = read(params);
            let old = chats.turn(&params.turn).unwrap().view.clone();
            let sent = ChatSent { message: old.message, conversation: old.conversation, seq: 1, turn: TurnId::mint() };
            let script = chats.scripts.pop_front().unwrap_or_else(|| vec![Act::Say("again".to_owned())]);
            begin(state, &sent, script);
            let view = state.chats.turn(&sent.turn).unwrap().view.clone();
            one(Frame::answer(id, json!(view)))
        }
        method::CHAT_HISTORY => {
            let params: HistoryParams = read(params);
            let after = params.after_seq.unwrap_or_default();
            let mine = chats
                .messages
                .iter()
                .filter(|message| message.conversation == params.conversation && message.seq > after);
            let mut mine: Vec<_> =
                mine.filter(|message| params.before_seq.is_none_or(|seq| message.seq < seq)).cloned().collect();
            let limit = params.limit.unwrap_or(50) as usize;
            let more = mine.len() > limit;
            let messages = mine.split_off(mine.len().saturating_sub(limit));
            one(Frame::answer(id, json!(History { messages, more })))
        }
        other => panic!("{other} is no method"),
    }
}

fn begin(state: &mut State, sent: &ChatSent, script: Vec<Act>) {
    let view = TurnView {
        turn: sent.turn.clone(),
        conversation: sent.conversation.clone(),
        message: sent.message.clone(),
        status: TurnStatus::Queued,
        error: None,
    };
    state.chats.turns.push(Turn { view, rest: script.into(), text: String::new(), index: 0, aborted: false });
    state.begin(sent.turn.clone());
}

fn subscribe(chats: &mut Chats, id: &str, params: &ChatSubscribe, agent: &agentbot_wire::InstanceId) -> Vec<Frame> {
    chats.subscribes.push(params.clone());
    let wanted = |conversation: &ConversationId| params.conversation.as_ref().is_none_or(|only| only == conversation);
    let turns: Vec<_> =
        chats.turns.iter().filter(|turn| !turn.view.status.is_ended() && wanted(&turn.view.conversation)).collect();
    let subscribed = ChatSubscribed {
        cursors: chats
            .conversations
            .iter()
            .filter(|one| wanted(&one.id))
            .map(|one| (one.id.clone(), one.seq))
            .collect(),
        turns: turns.iter().map(|turn| turn.view.clone()).collect(),
    };
    let mut frames = vec![Frame::answer(id, json!(subscribed))];
    let after = |conversation: &ConversationId| match (&params.cursors, params.after_seq) {
        (Some(cursors), _) => Some(cursors.get(conversation).copied().unwrap_or_default()),
        (None, seq) => seq,
    };
    for message in chats.messages.iter().filter(|message| wanted(&message.conversation)) {
        if after(&message.conversation).is_some_and(|seq| message.seq > seq) {
            frames.push(Frame::Event {
                event: event::CHAT_MESSAGE.to_owned(),
                seq: Some(message.seq),
                payload: json!(message),
            });
        }
    }
    for turn in turns.iter().filter(|turn| turn.index > 0) {
        let delta = ChatDelta {
            agent: agent.clone(),
            conversation: turn.view.conversation.clone(),
            turn: turn.view.turn.clone(),
            index: turn.index - 1,
            text: turn.text.clone(),
            snapshot: true,
        };
        frames.push(Frame::event(event::CHAT_DELTA, json!(delta)));
    }
    frames
}
