//! The twin's side of a client's socket.

use std::sync::{Arc, Mutex};

use agentbot_wire::{
    ChatDelta, ChatSend, ChatSent, ChatSubscribe, ChatSubscribed, ChatTurn, ClientPolicy, Connected, ConversationId,
    Frame, History, HistoryParams, Platform, Sender, TurnId, TurnStatus, TurnView, event, method,
};
use futures_util::{SinkExt as _, StreamExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as WsMessage;

use crate::chat::{Act, Chats, Turn};
use crate::core::State;

/// Serves one client.
pub async fn serve<S>(state: Arc<Mutex<State>>, mut socket: WebSocketStream<S>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (say, mut said) = mpsc::channel(4096);
    let mut say = Some(say);
    loop {
        tokio::select! {
            biased;
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
                if method == method::CHAT_SUBSCRIBE && state.lock().unwrap().chats.deaf {
                    return std::future::pending().await;
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
    if chats.hole.take_if(|of| *of == method).is_some() {
        chats.leave_a_hole();
        return Some(Vec::new());
    }
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
            if chats.deaf_to_aborts {
                return Some(Vec::new());
            }
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
            if let Some(text) = chats.between.take() {
                chats.store(&params.conversation, Sender::User, Platform::Http, &text, None);
            }
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
