//! An agent that speaks its protocol by hand, one verb at a time.
//!
//! Its container sleeps: see [`Setup::scripted`]. The script runs beside it and comes in by the same socket with the same
//! uid and nonce.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use agentbot_wire::{
    ApiError, Beat, Frame, InstanceView, Phase, ToolCall, ToolStatus, TurnCancel, TurnDelta, TurnDone, TurnFailed,
    TurnFault, TurnId, TurnRun, TurnTool, event, method,
};
use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message as Ws;

use super::daemon::Daemon;
use super::door::{FakeAgent, Refusal};
use super::poll::eventually;
use super::verbs::SOON;

const PATIENCE: Duration = Duration::from_secs(30);
const BEAT: Duration = Duration::from_millis(500);
/// Frames on their way in a script, each direction.
const QUEUE: usize = 4096;

/// Where an agent comes in, and as whom.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Its socket directory.
    pub run: PathBuf,
    /// Its uid, which is its gid too.
    pub uid: u32,
    /// What it shows.
    pub nonce: String,
}

impl Seat {
    /// The seat of an agent that need not run.
    ///
    /// # Panics
    /// When it has no workspace or no nonce in time.
    pub async fn of(daemon: &Daemon, name: &str) -> Self {
        let slot = daemon.agent(name).await.slot;
        let run = daemon.run_dir(&slot);
        eventually("the agent's socket", SOON, async || {
            let there = run.join("agentbot.sock").exists() && run.join("nonce").exists();
            if there { Ok(()) } else { Err(format!("{}", run.display())) }
        })
        .await;
        let nonce = std::fs::read_to_string(run.join("nonce")).expect("a nonce").trim().to_owned();
        let uid = run.join("agentbot.sock").metadata().expect("a socket").gid();
        Self { run, uid, nonce }
    }

    /// Connects and says hello as this process.
    ///
    /// # Errors
    /// When it is not let in.
    pub async fn come(&self, boot: &str) -> Result<ScriptedAgent, Refusal> {
        let mut agent = FakeAgent::connect(&self.run, self.uid, self.uid, &self.nonce).await?;
        agent.hello_as(&self.nonce, Some(boot)).await?;
        Ok(ScriptedAgent::drive(agent))
    }
}

/// An agent under a script.
pub struct ScriptedAgent {
    said: mpsc::Sender<Ws>,
    heard: mpsc::Receiver<Frame>,
    kept: Vec<Frame>,
    runs: BTreeMap<TurnId, String>,
    next: u64,
    driver: JoinSet<()>,
}

impl ScriptedAgent {
    /// Reads, beats and answers pings until it is dropped.
    fn drive(agent: FakeAgent) -> Self {
        let (socket, helper) = agent.into_parts();
        let (said, mut to_say) = mpsc::channel::<Ws>(QUEUE);
        let (hear, heard) = mpsc::channel(QUEUE);
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            let _helper = helper;
            let (mut sink, mut stream) = socket.split();
            let speak = async {
                let mut beat = tokio::time::interval(BEAT);
                loop {
                    let next = tokio::select! {
                        next = to_say.recv() => match next {
                            Some(next) => next,
                            None => return,
                        },
                        _ = beat.tick() => {
                            let payload = serde_json::to_value(Beat::default()).expect("plain data");
                            Ws::text(Frame::event(event::BEAT, payload).to_text())
                        }
                    };
                    if sink.send(next).await.is_err() {
                        return;
                    }
                }
            };
            let listen = async {
                while let Some(Ok(message)) = stream.next().await {
                    if let Ws::Text(text) = message
                        && hear.send(Frame::parse(&text).expect("the daemon sends frames")).await.is_err()
                    {
                        return;
                    }
                }
            };
            tokio::select! { () = speak => {}, () = listen => {} }
        });
        Self { said, heard, kept: Vec::new(), runs: BTreeMap::new(), next: 0, driver }
    }

    /// Says any text as one frame. Nobody hears it when the link is over.
    pub async fn say(&mut self, text: String) {
        let _ = self.said.send(Ws::text(text)).await;
    }

    async fn event(&mut self, name: &str, payload: impl Serialize) {
        let payload = serde_json::to_value(payload).expect("plain data");
        self.say(Frame::event(name, payload).to_text()).await;
    }

    /// The next request or answer of the daemon that is wanted; others are kept.
    async fn next<T>(&mut self, what: &str, mut pick: impl FnMut(&Frame) -> Option<T>) -> T {
        match self.heard_within(PATIENCE, &mut pick).await {
            Some(found) => found,
            None => panic!("{what} did not come in time; kept: {:?}", self.kept),
        }
    }

    async fn heard_within<T>(&mut self, limit: Duration, pick: &mut impl FnMut(&Frame) -> Option<T>) -> Option<T> {
        if let Some((index, found)) =
            self.kept.iter().enumerate().find_map(|(index, frame)| Some((index, pick(frame)?)))
        {
            self.kept.remove(index);
            return Some(found);
        }
        let end = tokio::time::Instant::now() + limit;
        while let Ok(Some(frame)) = tokio::time::timeout_at(end, self.heard.recv()).await {
            if let Some(found) = pick(&frame) {
                return Some(found);
            }
            self.kept.push(frame);
        }
        None
    }

    /// Waits for a turn, and does not say that it has it.
    ///
    /// # Panics
    /// When none comes in time.
    pub async fn turn(&mut self) -> TurnRun {
        let (id, run) = self.next("turn.run", turn_run).await;
        self.runs.insert(run.turn.clone(), id);
        run
    }

    /// A turn that comes within this time, if one does.
    pub async fn turn_within(&mut self, limit: Duration) -> Option<TurnRun> {
        let (id, run) = self.heard_within(limit, &mut turn_run).await?;
        self.runs.insert(run.turn.clone(), id);
        Some(run)
    }

    /// Says that it has a turn.
    ///
    /// # Panics
    /// When that turn was not heard of.
    pub async fn ack(&mut self, turn: &TurnId) {
        let id = self.runs.get(turn).expect("a turn that was heard of").clone();
        self.say(Frame::answer(&id, json!({})).to_text()).await;
    }

    /// Says that it will not have a turn.
    ///
    /// # Panics
    /// When that turn was not heard of.
    pub async fn refuse(&mut self, turn: &TurnId, error: ApiError) {
        let id = self.runs.get(turn).expect("a turn that was heard of").clone();
        self.say(Frame::refusal(&id, error).to_text()).await;
    }

    /// Waits for a turn and says that it has it.
    ///
    /// # Panics
    /// When none comes in time.
    pub async fn take(&mut self) -> TurnRun {
        let run = self.turn().await;
        self.ack(&run.turn).await;
        run
    }

    /// Waits for a turn of the conversation in which this text was sent, and says that it has it.
    ///
    /// # Panics
    /// When it does not come in time.
    pub async fn take_text(&mut self, text: &str) -> TurnRun {
        let pick = |frame: &Frame| turn_run(frame).filter(|(_, run)| run.message.content == text);
        let (id, run) = self.next(&format!("turn.run of {text:?}"), pick).await;
        self.runs.insert(run.turn.clone(), id);
        self.ack(&run.turn).await;
        run
    }

    /// A piece of an answer.
    pub async fn delta(&mut self, turn: &TurnId, text: &str) {
        self.event(event::TURN_DELTA, TurnDelta { turn: turn.clone(), text: text.to_owned(), snapshot: false }).await;
    }

    /// The whole answer so far.
    pub async fn snapshot(&mut self, turn: &TurnId, text: &str) {
        self.event(event::TURN_DELTA, TurnDelta { turn: turn.clone(), text: text.to_owned(), snapshot: true }).await;
    }

    /// The beginning of a use of a tool.
    pub async fn tool(&mut self, turn: &TurnId, name: &str) {
        let status = ToolStatus::Started;
        let call = ToolCall { id: "call-1".to_owned(), name: name.to_owned(), status, detail: None };
        self.event(event::TURN_TOOL, TurnTool { turn: turn.clone(), call }).await;
    }

    /// The answer.
    pub async fn done(&mut self, turn: &TurnId, text: &str) {
        self.event(event::TURN_DONE, TurnDone { turn: turn.clone(), text: text.to_owned() }).await;
    }

    /// That there will be none.
    pub async fn failed(&mut self, turn: &TurnId, code: &str, message: &str) {
        let error = TurnFault { code: Some(code.to_owned()), message: message.to_owned(), hint: None };
        self.event(event::TURN_FAILED, TurnFailed { turn: turn.clone(), error }).await;
    }

    /// Waits for the cancel of a turn, and says that it heard it.
    ///
    /// # Panics
    /// When it does not come in time.
    pub async fn cancelled(&mut self, turn: &TurnId) {
        let pick = |frame: &Frame| match frame {
            Frame::Req { id, method, params } if method == method::TURN_CANCEL => {
                let cancel: TurnCancel = serde_json::from_value(params.clone()).expect("the shape of turn.cancel");
                (cancel.turn == *turn).then(|| id.clone())
            }
            _ => None,
        };
        let id = self.next("turn.cancel", pick).await;
        self.say(Frame::answer(&id, json!({})).to_text()).await;
    }

    /// Asks the daemon, and gives its answer or refusal.
    ///
    /// # Panics
    /// When neither comes in time.
    pub async fn ask(&mut self, method: &str, params: Value) -> Result<Value, ApiError> {
        self.next += 1;
        let wanted = format!("a{}", self.next);
        self.say(Frame::request(&wanted, method, params).to_text()).await;
        let pick = |frame: &Frame| match frame {
            Frame::Res { id, ok, payload, error } if *id == wanted => Some(if *ok {
                Ok(payload.clone().unwrap_or_default())
            } else {
                Err(error.clone().expect("a refusal says why"))
            }),
            _ => None,
        };
        self.next(&format!("the answer to {method}"), pick).await
    }

    /// Waits for so many answers to requests, whatever they are; gives how many came.
    pub async fn answers(&mut self, count: usize) -> usize {
        let mut any = |frame: &Frame| matches!(frame, Frame::Res { .. }).then_some(());
        let mut came = 0;
        while came < count && self.heard_within(PATIENCE, &mut any).await.is_some() {
            came += 1;
        }
        came
    }

    /// Whether the link still stands.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        !self.said.is_closed()
    }

    /// Waits for the end of the link, passing over what is said.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn ended(&mut self) {
        let over = async { while self.heard.recv().await.is_some() {} };
        tokio::time::timeout(PATIENCE, over).await.expect("the link ends");
    }

    /// Is gone without a close, as a killed process.
    pub async fn cut(mut self) {
        self.driver.shutdown().await;
    }
}

fn turn_run(frame: &Frame) -> Option<(String, TurnRun)> {
    match frame {
        Frame::Req { id, method, params } if method == method::TURN_RUN => {
            Some((id.clone(), serde_json::from_value(params.clone()).expect("the shape of turn.run")))
        }
        _ => None,
    }
}

impl Daemon {
    /// An agent whose container sleeps, and its script, which has said hello.
    ///
    /// # Panics
    /// When it does not run in time.
    pub async fn scripted(&self, name: &str) -> (InstanceView, ScriptedAgent) {
        self.provision(name).await;
        let agent = self.rejoin(name, "boot-1").await;
        (self.wait_phase(name, Phase::Running, SOON).await, agent)
    }

    /// The script of an agent comes in (again) as this process.
    ///
    /// # Panics
    /// When it is not let in within some time.
    pub async fn rejoin(&self, name: &str, boot: &str) -> ScriptedAgent {
        let seat = Seat::of(self, name).await;
        eventually("the script to be let in", SOON, async || {
            seat.come(boot).await.map_err(|refusal| format!("{refusal:?}"))
        })
        .await
    }
}
