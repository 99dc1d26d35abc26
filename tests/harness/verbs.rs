//! What stories do with agents.

use std::time::Duration;

use agentbot_wire::{
    AgentEntry, AgentList, ContainerView, InstanceView, LifecycleReply, Operation, OperationId, OperationList,
    OperationStatus, Phase, ProvisionReply,
};
use serde_json::{Value, json};

use super::daemon::Daemon;
use super::engine::ExecOutput;
use super::http::{self, Call, Reply};
use super::poll::eventually;

/// How long an agent may take to a phase on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

impl Daemon {
    /// Accepts a new agent of this name with the default plan.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn provision(&self, name: &str) -> ProvisionReply {
        self.try_provision(&json!({ "name": name })).await.expect(201).json()
    }

    /// Asks for a new agent by any body.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn try_provision(&self, body: &Value) -> Reply {
        self.call(Call::post("/api/agents/provision").json(body)).await
    }

    /// Accepts a new agent and waits until it runs.
    ///
    /// # Panics
    /// When it is refused or does not run in time.
    pub async fn running(&self, name: &str) -> InstanceView {
        self.provision(name).await;
        self.wait_phase(name, Phase::Running, SOON).await
    }

    /// One agent by id or name.
    ///
    /// # Panics
    /// When there is none.
    pub async fn agent(&self, name: &str) -> InstanceView {
        self.get(&format!("/api/instance/{name}")).await.expect(200).json()
    }

    /// Every agent: those that live by name, then the deleted ones.
    ///
    /// # Panics
    /// When a list is not answered, or miscounts.
    pub async fn agents(&self) -> Vec<AgentEntry> {
        let mut all = Vec::new();
        for path in ["/api/agents", "/api/agents?deleted=true"] {
            let list: AgentList = self.get(path).await.expect(200).json();
            assert_eq!(list.count, list.agents.len(), "{path} counts what it lists");
            all.extend(list.agents);
        }
        all
    }

    /// Waits for a phase.
    ///
    /// # Panics
    /// When it does not come in time.
    pub async fn wait_phase(&self, name: &str, phase: Phase, deadline: Duration) -> InstanceView {
        self.wait_agent(name, &format!("phase {phase}"), deadline, |view| view.phase == phase).await
    }

    /// Waits until something is true of an agent.
    ///
    /// # Panics
    /// When it does not come true in time.
    pub async fn wait_agent(
        &self,
        name: &str,
        what: &str,
        deadline: Duration,
        mut holds: impl FnMut(&InstanceView) -> bool,
    ) -> InstanceView {
        let path = format!("/api/instance/{name}");
        let socket = self.home().socket();
        eventually(&format!("{what} of {name}"), deadline, async || {
            let reply = http::send(&socket, Call::get(path.clone())).await?;
            if reply.status != 200 {
                return Err(reply.to_string());
            }
            let view: InstanceView = reply.json();
            if holds(&view) { Ok(view) } else { Err(format!("phase {}: {:?}", view.phase, view.reason)) }
        })
        .await
    }

    /// Waits until the daemon has reached its engine: from then on lifecycle calls wait for their outcome.
    ///
    /// # Panics
    /// When that does not happen in time.
    pub async fn engine_reached(&self) {
        eventually("the daemon to reach its engine", SOON, async || {
            let health = self.get("/api/health").await.expect(200).value();
            if health["engine"]["available"] == true { Ok(()) } else { Err(health["engine"].to_string()) }
        })
        .await;
    }

    /// A lifecycle verb that is waited for: `start`, `stop`, `restart`, `repair`.
    ///
    /// # Panics
    /// When it does not succeed.
    pub async fn act(&self, name: &str, verb: &str) -> Value {
        self.post(&format!("/api/instance/{name}/{verb}")).await.expect(200).value()
    }

    /// A lifecycle verb that is only accepted; gives its operation.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn begin(&self, name: &str, verb: &str) -> Operation {
        let call = Call::post(format!("/api/instance/{name}/{verb}")).respond_async();
        self.call(call).await.expect(202).json::<LifecycleReply>().operation
    }

    /// Deletes an agent and waits for it.
    ///
    /// # Panics
    /// When it does not succeed.
    pub async fn delete_agent(&self, name: &str) -> Value {
        self.delete(&format!("/api/instance/{name}")).await.expect(200).value()
    }

    /// Deletes an agent with everything it has and waits for it.
    ///
    /// # Panics
    /// When it does not succeed.
    pub async fn purge(&self, name: &str) -> Value {
        self.delete(&format!("/api/instance/{name}?purge=true")).await.expect(200).value()
    }

    /// One operation.
    ///
    /// # Panics
    /// When there is none.
    pub async fn operation(&self, id: &OperationId) -> Operation {
        self.get(&format!("/api/operations/{id}")).await.expect(200).json()
    }

    /// The newest operations.
    ///
    /// # Panics
    /// When the list is not answered.
    pub async fn operations(&self) -> Vec<Operation> {
        self.get("/api/operations?limit=200").await.expect(200).json::<OperationList>().operations
    }

    /// Waits until an operation ends, however it ends.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn ended(&self, id: &OperationId, deadline: Duration) -> Operation {
        eventually(&format!("the end of {id}"), deadline, async || {
            let operation = self.operation(id).await;
            if operation.status.is_ended() { Ok(operation) } else { Err(format!("{operation:?}")) }
        })
        .await
    }

    /// Waits until an operation succeeds.
    ///
    /// # Panics
    /// When it ends otherwise or not in time.
    pub async fn succeeded(&self, id: &OperationId) -> Operation {
        let operation = self.ended(id, SOON).await;
        assert_eq!(operation.status, OperationStatus::Succeeded, "{operation:?}");
        operation
    }

    /// An agent's container.
    ///
    /// # Panics
    /// When the agent has none.
    pub async fn container(&self, name: &str) -> ContainerView {
        self.agent(name).await.container.unwrap_or_else(|| panic!("{name} has a container"))
    }

    /// An agent's container as the engine shows it.
    ///
    /// # Panics
    /// When there is none.
    pub async fn inspect(&self, name: &str) -> Value {
        let container = self.container(name).await;
        self.engine().inspect(&container.id).await.unwrap_or_else(|| panic!("{name}'s container exists"))
    }

    /// When an agent's container was last started, by the engine's word.
    ///
    /// # Panics
    /// When there is none.
    pub async fn started_at(&self, name: &str) -> String {
        self.inspect(name).await["State"]["StartedAt"].as_str().expect("StartedAt").to_owned()
    }

    /// Runs the agent binary's own tools in an agent's container.
    ///
    /// # Panics
    /// When the container does not run.
    pub async fn exec(&self, name: &str, command: &[&str]) -> ExecOutput {
        let container = self.container(name).await;
        self.engine().exec(&container.id, command).await
    }

    /// What the agent's own `probe` sees from inside.
    ///
    /// # Panics
    /// When the probe fails.
    pub async fn probe(&self, name: &str) -> Value {
        let output = self.exec(name, &["/agentbot-agent", "probe"]).await;
        assert_eq!(output.code, 0, "probe: {output:?}");
        serde_json::from_slice(&output.stdout).expect("the probe prints one JSON document")
    }

    /// A file in an agent's current workspace, by its path on the host.
    ///
    /// # Panics
    /// When the agent has not exactly one workspace.
    pub async fn workspace_file(&self, name: &str, file: &str) -> std::path::PathBuf {
        let view = self.agent(name).await;
        let mut generations: Vec<_> =
            std::fs::read_dir(self.work_dir(&view.slot)).expect("a slot has workspaces").flatten().collect();
        assert_eq!(generations.len(), 1, "one workspace generation of {name}");
        generations.remove(0).path().join(file)
    }
}
