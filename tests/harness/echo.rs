//! A well-behaved agent that answers every message with its own text, in pieces, and survives whatever happens to the
//! daemon: it comes back as the same process and says again what may not have been heard.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use agentbot_wire::TurnId;
use tokio::task::JoinSet;

use super::daemon::Daemon;
use super::scripted_agent::{ScriptedAgent, Seat};

const PAUSE: Duration = Duration::from_millis(50);
const ENOUGH: Duration = Duration::from_secs(3600);

/// What an echo answers with before the message's own text.
pub const ECHO: &str = "you said: ";

/// An agent that answers by itself until it is dropped.
pub struct EchoAgent {
    seat: Arc<Seat>,
    pieces: usize,
    pause: Duration,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    work: JoinSet<()>,
}

impl EchoAgent {
    /// Takes an agent's seat. Each answer comes in this many pieces with this pause before each.
    ///
    /// # Panics
    /// When the agent has no seat in time.
    pub async fn at(daemon: &Daemon, name: &str, pieces: usize, pause: Duration) -> Self {
        let seat = Arc::new(Seat::of(daemon, name).await);
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut echo = Self { seat, pieces, pause, stop, answered, work: JoinSet::new() };
        echo.live("boot-1");
        echo
    }

    fn live(&mut self, boot: &str) {
        self.stop = Arc::new(AtomicBool::new(false));
        let (seat, boot, pieces, pause) = (self.seat.clone(), boot.to_owned(), self.pieces, self.pause);
        let (stop, answered) = (self.stop.clone(), self.answered.clone());
        self.work.spawn(async move {
            let mut known = BTreeMap::new();
            while !stop.load(Ordering::Relaxed) && seat.run.exists() {
                if let Ok(agent) = seat.come(&boot).await {
                    serve(agent, &mut known, pieces, pause, &answered).await;
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
    }

    /// How many answers it gave.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// It dies, and another process of it starts that knows of no turn.
    pub async fn die(&mut self, boot: &str) {
        self.work.shutdown().await;
        self.live(boot);
    }
}

/// Answers until the link is over.
async fn serve(
    mut agent: ScriptedAgent,
    known: &mut BTreeMap<TurnId, String>,
    pieces: usize,
    pause: Duration,
    answered: &AtomicU64,
) {
    // The daemon reads what is said in order: the pieces of several turns need no task each.
    while agent.is_linked() {
        let Some(run) = agent.turn_within(ENOUGH).await else { return };
        agent.ack(&run.turn).await;
        if let Some(text) = known.get(&run.turn) {
            agent.done(&run.turn, text).await;
            continue;
        }
        let text = format!("{ECHO}{}", run.message.content);
        let letters: Vec<char> = text.chars().collect();
        for piece in letters.chunks(letters.len().div_ceil(pieces.max(1)).max(1)) {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            if !agent.is_linked() {
                break;
            }
            agent.delta(&run.turn, &piece.iter().collect::<String>()).await;
        }
        known.insert(run.turn.clone(), text.clone());
        answered.fetch_add(1, Ordering::Relaxed);
        if !agent.is_linked() {
            return;
        }
        agent.done(&run.turn, &text).await;
    }
}
