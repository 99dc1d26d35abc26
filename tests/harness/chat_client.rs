//! A client of the chat socket that misses nothing it is shown.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use agentbot_wire::{
    ApiError, Bye, CHAT_PROTOCOL, ChatDone, ChatSend, ChatSent, ChatSubscribe, ChatSubscribed, ChatTurn, Connect,
    Connected, ConversationId, Frame, History, HistoryParams, Message, TurnId, TurnView, method,
};
use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Ws;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::daemon::Daemon;
use super::ledger::Ledger;
use super::shown::{Ended, Shown, shape};

/// How long anything may take that is waited for, unless a verb says otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// One connection to `GET /api/chat/ws`.
pub struct ChatClient {
    socket: WebSocketStream<Box<dyn Wire>>,
    next: u64,
    shown: VecDeque<Shown>,
    late: BTreeMap<String, Result<Value, ApiError>>,
    /// What it has seen, over all connections that it made.
    pub ledger: Ledger,
}

fn request(token: Option<&str>) -> tokio_tungstenite::tungstenite::handshake::client::Request {
    let mut request = "ws://localhost/api/chat/ws".into_client_request().expect("a fixed request");
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", CHAT_PROTOCOL.parse().expect("a fixed value"));
    if let Some(token) = token {
        headers.insert("authorization", format!("Bearer {token}").parse().expect("a token is plain text"));
    }
    request
}

impl ChatClient {
    async fn upgrade(stream: Box<dyn Wire>, token: Option<&str>) -> Result<Self, Ended> {
        let upgrade = tokio_tungstenite::client_async(request(token), stream);
        match tokio::time::timeout(PATIENCE, upgrade).await {
            Ok(Ok((socket, _))) => {
                Ok(Self { socket, next: 0, shown: VecDeque::new(), late: BTreeMap::new(), ledger: Ledger::default() })
            }
            Ok(Err(tokio_tungstenite::tungstenite::Error::Http(reply))) => Err(Ended::Status(reply.status().as_u16())),
            Ok(Err(error)) => Err(Ended::Broken(error.to_string())),
            Err(_) => Err(Ended::Silent),
        }
    }

    /// An upgraded connection on the admin socket; nothing is said yet.
    ///
    /// # Errors
    /// When the daemon does not upgrade it.
    pub async fn knock(socket: &Path) -> Result<Self, Ended> {
        let stream = UnixStream::connect(socket).await.map_err(|error| Ended::Broken(error.to_string()))?;
        Self::upgrade(Box::new(stream), None).await
    }

    /// An upgraded connection on the TCP door with a gateway token; nothing is said yet.
    ///
    /// # Errors
    /// When the daemon does not upgrade it.
    pub async fn knock_tcp(door: SocketAddr, token: &str) -> Result<Self, Ended> {
        let stream = TcpStream::connect(door).await.map_err(|error| Ended::Broken(error.to_string()))?;
        stream.set_nodelay(true).map_err(|error| Ended::Broken(error.to_string()))?;
        Self::upgrade(Box::new(stream), Some(token)).await
    }

    /// A connection on the admin socket that has said `connect`.
    ///
    /// # Errors
    /// When the daemon does not take it.
    pub async fn open(socket: &Path) -> Result<Self, Ended> {
        let mut client = Self::knock(socket).await?;
        client.connect().await?;
        Ok(client)
    }

    /// Says `connect`.
    ///
    /// # Errors
    /// When the connection ends instead of an answer.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn connect(&mut self) -> Result<Connected, Ended> {
        let hello = Connect { version: 1, client: Some("agentbot-tests".to_owned()) };
        Ok(self.ask(method::CONNECT, &hello).await?.expect("a valid connect"))
    }

    /// This connection is gone without a close; gives what it saw.
    #[must_use]
    pub fn cut(self) -> Ledger {
        self.ledger
    }

    /// A new connection in place of this one, with what was seen so far.
    ///
    /// # Errors
    /// When the daemon does not take it.
    pub async fn resume(ledger: Ledger, socket: &Path) -> Result<Self, Ended> {
        let mut client = Self::open(socket).await?;
        client.ledger = ledger;
        client.ledger.reconnected();
        Ok(client)
    }

    /// Sends any text as one frame.
    ///
    /// # Errors
    /// When the connection is over.
    pub async fn say(&mut self, text: impl Into<String>) -> Result<(), Ended> {
        let text: String = text.into();
        let sent = tokio::time::timeout(PATIENCE, self.socket.send(Ws::text(text))).await;
        sent.map_err(|_| Ended::Silent)?.map_err(|error| Ended::Broken(error.to_string()))
    }

    /// Sends a request and does not wait; gives its id.
    ///
    /// # Errors
    /// When the connection is over.
    pub async fn begin(&mut self, method: &str, params: &impl Serialize) -> Result<String, Ended> {
        self.next += 1;
        let id = format!("c{}", self.next);
        let params = serde_json::to_value(params).expect("plain data");
        self.say(Frame::request(&id, method, params).to_text()).await?;
        Ok(id)
    }

    /// Waits for the answer to a request; what is shown meanwhile is kept for later.
    ///
    /// # Errors
    /// When the connection ends instead.
    pub async fn answer(&mut self, id: &str) -> Result<Result<Value, ApiError>, Ended> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(reply) = self.late.remove(id) {
                return Ok(reply);
            }
            self.pump(deadline).await?;
        }
    }

    /// Asks, and gives the answer or the refusal.
    ///
    /// # Errors
    /// When the connection ends instead.
    ///
    /// # Panics
    /// When the answer is not of its documented shape.
    pub async fn ask<T: DeserializeOwned>(
        &mut self,
        method: &str,
        params: &impl Serialize,
    ) -> Result<Result<T, ApiError>, Ended> {
        let id = self.begin(method, params).await?;
        let reply = self.answer(&id).await?;
        let shaped = |value| serde_json::from_value(value).unwrap_or_else(|error| panic!("{method}: {error}"));
        Ok(reply.map(shaped))
    }

    async fn wanted<T: DeserializeOwned>(&mut self, method: &str, params: &impl Serialize) -> T {
        match self.ask(method, params).await {
            Ok(Ok(reply)) => reply,
            other => panic!("{method}: {:?}", other.map(|refused| refused.err())),
        }
    }

    /// `chat.send` of a text to an agent's topic.
    ///
    /// # Panics
    /// When it is not taken.
    pub async fn send(&mut self, agent: &str, topic: &str, text: &str) -> ChatSent {
        let (agent, topic) = (Some(agent.to_owned()), Some(topic.to_owned()));
        self.send_as(&ChatSend { agent, topic, text: text.to_owned(), ..ChatSend::default() }).await
    }

    /// `chat.send` as given.
    ///
    /// # Panics
    /// When it is not taken.
    pub async fn send_as(&mut self, send: &ChatSend) -> ChatSent {
        self.wanted(method::CHAT_SEND, send).await
    }

    /// Subscribes to all of an agent from now on.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn follow(&mut self, agent: &str) -> ChatSubscribed {
        let params = ChatSubscribe { agent: Some(agent.to_owned()), ..ChatSubscribe::default() };
        let id = self.begin(method::CHAT_SUBSCRIBE, &params).await.expect("an open connection");
        self.subscribed(&id).await.expect("an answer to chat.subscribe")
    }

    /// Subscribes to all of an agent from what was seen last.
    ///
    /// # Errors
    /// When the connection ends instead of an answer.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn follow_on(&mut self, agent: &str) -> Result<ChatSubscribed, Ended> {
        let cursors = Some(self.ledger.cursors());
        let params = ChatSubscribe { agent: Some(agent.to_owned()), cursors, ..ChatSubscribe::default() };
        Ok(self.ask(method::CHAT_SUBSCRIBE, &params).await?.expect("a valid subscription"))
    }

    /// Subscribes to one conversation.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn follow_one(&mut self, conversation: &ConversationId, after_seq: Option<u64>) -> ChatSubscribed {
        let params = ChatSubscribe { conversation: Some(conversation.clone()), after_seq, ..ChatSubscribe::default() };
        if let Some(seq) = after_seq {
            self.ledger.begin(&BTreeMap::from([(conversation.clone(), seq)]));
        }
        let id = self.begin(method::CHAT_SUBSCRIBE, &params).await.expect("an open connection");
        self.subscribed(&id).await.expect("an answer to chat.subscribe")
    }

    /// The answer to a subscription from now on. What is shown in the same moment counts from its places.
    async fn subscribed(&mut self, id: &str) -> Result<ChatSubscribed, Ended> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.pump(deadline).await?;
            if let Some(reply) = self.late.remove(id) {
                let subscribed: ChatSubscribed = shape(method::CHAT_SUBSCRIBE, reply.expect("a valid subscription"));
                self.ledger.begin(&subscribed.cursors);
                return Ok(subscribed);
            }
        }
    }

    /// `chat.abort`.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn abort(&mut self, turn: &TurnId) -> TurnView {
        self.wanted(method::CHAT_ABORT, &ChatTurn { turn: turn.clone() }).await
    }

    /// `chat.retry`.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn retry(&mut self, turn: &TurnId) -> TurnView {
        self.wanted(method::CHAT_RETRY, &ChatTurn { turn: turn.clone() }).await
    }

    /// The whole history of a conversation, page by page.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn history(&mut self, conversation: &ConversationId) -> Vec<Message> {
        let mut all: Vec<Message> = Vec::new();
        loop {
            let after_seq = Some(all.last().map_or(0, |message| message.seq));
            let params =
                HistoryParams { conversation: conversation.clone(), before_seq: None, after_seq, limit: Some(100) };
            let page: History = self.wanted(method::CHAT_HISTORY, &params).await;
            let more = page.more;
            assert!(!(more && page.messages.is_empty()), "an empty page with more behind it");
            all.extend(page.messages);
            if !more {
                return all;
            }
        }
    }

    /// The next thing that is shown.
    ///
    /// # Errors
    /// When the connection ends, or nothing comes within `deadline`.
    pub async fn next(&mut self, deadline: Duration) -> Result<Shown, Ended> {
        let deadline = Instant::now() + deadline;
        loop {
            if let Some(shown) = self.shown.pop_front() {
                return Ok(shown);
            }
            self.pump(deadline).await?;
        }
    }

    /// Passes over what is shown until something is it.
    ///
    /// # Panics
    /// When it does not come in time.
    pub async fn until<T>(&mut self, what: &str, mut pick: impl FnMut(&Shown) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut last = None;
        loop {
            match self.next(deadline.saturating_duration_since(Instant::now())).await {
                Ok(shown) => {
                    if let Some(found) = pick(&shown) {
                        return found;
                    }
                    last = Some(shown);
                }
                Err(ended) => panic!("{ended:?} instead of {what}; last seen: {last:?}"),
            }
        }
    }

    /// The end of a turn.
    ///
    /// # Panics
    /// When it does not come in time.
    pub async fn done(&mut self, turn: &TurnId) -> ChatDone {
        let is_it = |shown: &Shown| match shown {
            Shown::Done(done) if done.turn == *turn => Some(done.clone()),
            _ => None,
        };
        self.until(&format!("the end of {turn}"), is_it).await
    }

    /// The end of the connection, whatever is shown before.
    ///
    /// # Errors
    /// Never: the end is what is given. When nothing ends it in time, [`Ended::Silent`].
    pub async fn end(&mut self, deadline: Duration) -> (Option<Bye>, Ended) {
        let deadline = Instant::now() + deadline;
        let mut bye = None;
        loop {
            match self.next(deadline.saturating_duration_since(Instant::now())).await {
                Ok(Shown::Bye(said)) => bye = Some(said),
                Ok(_) => {}
                Err(ended) => return (bye, ended),
            }
        }
    }

    /// Takes one frame and files it.
    async fn pump(&mut self, deadline: Instant) -> Result<(), Ended> {
        let next = tokio::time::timeout_at(deadline.into(), self.socket.next()).await;
        match next.map_err(|_| Ended::Silent)? {
            Some(Ok(Ws::Text(text))) => self.file(Frame::parse(&text).expect("the daemon sends frames")),
            Some(Ok(Ws::Close(frame))) => {
                let (code, reason) =
                    frame.map_or((1005, String::new()), |frame| (frame.code.into(), frame.reason.as_str().to_owned()));
                return Err(Ended::Closed(code, reason));
            }
            Some(Ok(Ws::Binary(_))) => panic!("the daemon sends text frames"),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(Ended::Broken(error.to_string())),
            None => return Err(Ended::Broken("end of stream".to_owned())),
        }
        Ok(())
    }

    fn file(&mut self, frame: Frame) {
        let (name, seq, payload) = match frame {
            Frame::Res { id, ok, payload, error } => {
                let reply = if ok { Ok(payload.unwrap_or_default()) } else { Err(error.expect("a refusal says why")) };
                self.late.insert(id, reply);
                return;
            }
            Frame::Event { event, seq, payload } => (event, seq, payload),
            Frame::Req { method, .. } => panic!("the daemon asks a client for {method}"),
        };
        let shown = Shown::of(&name, payload);
        match &shown {
            Shown::Message(message) => self.ledger.message(seq, message),
            Shown::Delta(delta) => self.ledger.delta(delta),
            _ => {}
        }
        self.shown.push_back(shown);
    }
}

impl Daemon {
    /// A chat client of an operator.
    ///
    /// # Panics
    /// When the daemon does not take it.
    pub async fn chat(&self) -> ChatClient {
        ChatClient::open(&self.home().socket()).await.expect("the daemon takes a client")
    }
}
