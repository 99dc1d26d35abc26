//! `kill -9` of the daemon, of the agent and of both, at each point of a turn.

use std::time::Duration;

use agentbot_tests::{ChatClient, Daemon, ScriptedAgent, Setup, Shown, eventually};
use agentbot_wire::{ChatSent, Code, Message, Sender, TurnRun, TurnStatus};

const A_WHILE: Duration = Duration::from_millis(500);
const SOON: Duration = Duration::from_secs(30);
const SAME: &str = "boot-1";
const OTHER: &str = "boot-2";

/// How far a turn is when somebody dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    BeforeAck,
    AfterAck,
    AfterDelta,
    AfterTool,
    AfterDone,
}

const POINTS: [Point; 5] = [Point::BeforeAck, Point::AfterAck, Point::AfterDelta, Point::AfterTool, Point::AfterDone];

/// Who dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Daemon,
    Agent,
    Both,
}

/// One daemon with one agent and one client, who go through it again and again.
struct Scene {
    daemon: Daemon,
    agent: Option<ScriptedAgent>,
    client: Option<ChatClient>,
}

impl Scene {
    async fn new() -> Self {
        let daemon = Daemon::start(Setup::scripted()).await;
        let (_, agent) = daemon.scripted("helper").await;
        let mut client = daemon.chat().await;
        client.follow("helper").await;
        Self { daemon, agent: Some(agent), client: Some(client) }
    }

    fn agent(&mut self) -> &mut ScriptedAgent {
        self.agent.as_mut().expect("an agent")
    }

    fn client(&mut self) -> &mut ChatClient {
        self.client.as_mut().expect("a client")
    }

    /// A turn that has got this far, as far as client and daemon know.
    async fn bring_to(&mut self, point: Point) -> (ChatSent, TurnRun) {
        let sent = self.client().send("helper", &format!("{point:?}"), "go").await;
        let run = self.agent().turn().await;
        if point != Point::BeforeAck {
            self.agent().ack(&run.turn).await;
        }
        match point {
            Point::BeforeAck => {}
            Point::AfterAck => self.written(&run, "attempts").await,
            Point::AfterDelta => {
                self.agent().delta(&run.turn, "a beginning").await;
                self.client().until("a piece", |shown| matches!(shown, Shown::Delta(_)).then_some(())).await;
                self.written(&run, "output").await;
            }
            Point::AfterTool => {
                self.agent().tool(&run.turn, "files").await;
                self.client().until("a tool", |shown| matches!(shown, Shown::Tool(_)).then_some(())).await;
                self.written(&run, "output").await;
            }
            Point::AfterDone => {
                self.agent().done(&run.turn, "the answer").await;
                self.client().done(&run.turn).await;
            }
        }
        (sent, run)
    }

    /// Waits until the disk knows what the daemon knows of a turn.
    async fn written(&self, run: &TurnRun, column: &str) {
        let sql = format!("SELECT {column} FROM turns WHERE id = '{}'", run.turn);
        eventually(&format!("{column} on the disk"), SOON, async || match self.daemon.count(&sql) {
            1.. => Ok(()),
            zero => Err(zero.to_string()),
        })
        .await;
    }

    /// Somebody dies and comes back; the agent as this process.
    async fn kill(&mut self, victim: Victim, boot: &str) {
        if victim != Victim::Daemon {
            self.agent.take().expect("an agent").cut().await;
        }
        if victim != Victim::Agent {
            self.daemon.kill9().await;
            self.daemon.restart().await;
            let ledger = self.client.take().expect("a client").cut();
            let socket = self.daemon.home().socket();
            let mut client = ChatClient::resume(ledger, &socket).await.expect("the daemon takes a client");
            client.follow_on("helper").await.expect("a subscription");
            self.client = Some(client);
        }
        self.agent = Some(self.daemon.rejoin("helper", boot).await);
    }

    async fn stored(&mut self, sent: &ChatSent) -> Vec<(Sender, String)> {
        let said: Vec<Message> = self.client().history(&sent.conversation).await;
        said.into_iter().skip(1).map(|message| (message.sender, message.content)).collect()
    }

    async fn finish(mut self) {
        self.client().ledger.check();
        drop((self.agent, self.client));
        self.daemon.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_killed_at_any_point_of_a_turn_asks_the_same_process_again_and_the_turn_goes_on() {
    let mut scene = Scene::new().await;
    for point in POINTS {
        let (sent, run) = scene.bring_to(point).await;
        scene.kill(Victim::Daemon, SAME).await;
        if point == Point::AfterDone {
            assert!(scene.agent().turn_within(A_WHILE).await.is_none(), "an answered turn is not asked for again");
        } else {
            let again = scene.agent().take().await;
            assert_eq!((&again.turn, again.attempt), (&run.turn, 1), "{point:?}");
            scene.agent().snapshot(&run.turn, "a beginning and more").await;
            scene.agent().done(&run.turn, "the answer").await;
            let done = scene.client().done(&run.turn).await;
            assert_eq!(done.status, TurnStatus::Done, "{point:?}");
        }
        assert_eq!(scene.stored(&sent).await, [(Sender::Agent, "the answer".to_owned())], "{point:?}");
    }
    scene.finish().await;
}

async fn an_agent_dies_at_each_point(victim: Victim) {
    let mut scene = Scene::new().await;
    for (number, point) in POINTS.into_iter().enumerate() {
        let (sent, run) = scene.bring_to(point).await;
        let boot = format!("{OTHER}-{number}");
        scene.kill(victim, &boot).await;
        match point {
            Point::BeforeAck | Point::AfterAck => {
                let again = scene.agent().take().await;
                let attempt = if point == Point::BeforeAck { 1 } else { 2 };
                assert_eq!((&again.turn, again.attempt), (&run.turn, attempt), "{point:?}");
                scene.agent().done(&run.turn, "the answer").await;
                assert_eq!(scene.client().done(&run.turn).await.status, TurnStatus::Done);
                assert_eq!(scene.stored(&sent).await, [(Sender::Agent, "the answer".to_owned())], "{point:?}");
            }
            Point::AfterDelta | Point::AfterTool => {
                let done = scene.client().done(&run.turn).await;
                assert_eq!(done.status, TurnStatus::Interrupted, "{point:?}");
                assert_eq!(done.error.as_ref().map(|error| error.code), Some(Code::Interrupted), "{done:?}");
                assert!(scene.agent().turn_within(A_WHILE).await.is_none(), "it is not asked for again by itself");
                let stored = scene.stored(&sent).await;
                let senders: Vec<Sender> = stored.iter().map(|(sender, _)| *sender).collect();
                // Pieces that only a daemon knew that is dead too are gone with it.
                if point == Point::AfterDelta && victim == Victim::Agent {
                    assert_eq!(senders, [Sender::Agent, Sender::System], "{stored:?}");
                    assert_eq!(stored[0].1, "a beginning");
                } else {
                    assert_eq!(senders, [Sender::System], "{stored:?}");
                }
                let retry = scene.client().retry(&run.turn).await;
                assert_ne!(retry.turn, run.turn);
                let again = scene.agent().take().await;
                assert_eq!((&again.turn, again.attempt, again.message.content.as_str()), (&retry.turn, 1, "go"));
                scene.agent().done(&again.turn, "the answer").await;
                assert_eq!(scene.client().done(&again.turn).await.status, TurnStatus::Done);
            }
            Point::AfterDone => {
                assert!(scene.agent().turn_within(A_WHILE).await.is_none());
                assert_eq!(scene.stored(&sent).await, [(Sender::Agent, "the answer".to_owned())]);
            }
        }
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_at_any_point_of_a_turn_is_asked_again_or_the_turn_is_interrupted_in_sight() {
    an_agent_dies_at_each_point(Victim::Agent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn daemon_and_agent_killed_together_come_to_the_same() {
    an_agent_dies_at_each_point(Victim::Both).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_killed_two_processes_is_not_tried_on_a_third() {
    let mut scene = Scene::new().await;
    let (sent, run) = scene.bring_to(Point::AfterAck).await;
    scene.kill(Victim::Agent, "second").await;
    let again = scene.agent().take().await;
    assert_eq!(again.attempt, 2);
    scene.written(&again, "attempts = 2").await;
    scene.kill(Victim::Agent, "third").await;

    assert_eq!(scene.client().done(&run.turn).await.status, TurnStatus::Interrupted);
    assert!(scene.agent().turn_within(A_WHILE).await.is_none());
    let stored = scene.stored(&sent).await;
    assert_eq!(stored.iter().map(|(sender, _)| *sender).collect::<Vec<_>>(), [Sender::System], "{stored:?}");
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_only_lost_its_connection_goes_on() {
    let mut scene = Scene::new().await;
    for point in [Point::BeforeAck, Point::AfterAck, Point::AfterDelta, Point::AfterTool] {
        let (sent, run) = scene.bring_to(point).await;
        scene.kill(Victim::Agent, SAME).await;
        let again = scene.agent().take().await;
        assert_eq!((&again.turn, again.attempt), (&run.turn, 1), "{point:?}");
        scene.agent().snapshot(&run.turn, "a beginning").await;
        scene.agent().delta(&run.turn, " and more").await;
        scene.agent().done(&run.turn, "a beginning and more").await;
        assert_eq!(scene.client().done(&run.turn).await.status, TurnStatus::Done, "{point:?}");
        assert_eq!(scene.client().ledger.text(&run.turn), "a beginning and more", "{point:?}");
        assert_eq!(scene.stored(&sent).await.len(), 1, "{point:?}");
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_ends_does_not_wait_for_an_agent_to_take_a_turn() {
    let mut scene = Scene::new().await;
    let (sent, run) = scene.bring_to(Point::BeforeAck).await;

    let exited = scene.daemon.sigterm().await;

    assert!(exited.status.success() && exited.after < Duration::from_secs(5), "{exited:?}");
    scene.daemon.restart().await;
    scene.agent.take().expect("an agent").cut().await;
    scene.agent = Some(scene.daemon.rejoin("helper", SAME).await);
    scene.client = Some(scene.daemon.chat().await);
    scene.client().follow_one(&sent.conversation, Some(0)).await;
    assert_eq!(scene.agent().take().await.turn, run.turn, "it is asked again");
    scene.agent().done(&run.turn, "the answer").await;
    assert_eq!(scene.client().done(&run.turn).await.status, TurnStatus::Done);
    scene.finish().await;
}
