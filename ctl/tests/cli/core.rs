//! What the twin knows: agents and operations in memory, and the answers of dialect B over them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use agentbot_wire::{
    AgentEntry, AgentList, ApiError, Code, ConversationList, Cpu, DaemonStatus, Discovered, Discovery, EngineStatus,
    Grade, Health, InstanceView, LifecycleReply, Memory, MemoryView, MemoryWrite, MessageList, ModelList, ModelTest,
    ModelTested, Operation, OperationId, OperationKind, OperationList, OperationStatus, Phase, ProvisionReply,
    ProvisionRequest, ProvisionedAgent, RepairReport, Step, StepStatus, TokenReply, TurnId, Usage,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::chat::{Chats, Job};
use crate::things::{agent, models};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub key: Option<String>,
    pub prefer: Option<String>,
    pub body: String,
}

/// What the twin holds, and what a test may bend.
pub struct State {
    pub agents: Vec<InstanceView>,
    pub seen: Vec<Seen>,
    /// How long each of an operation's steps takes.
    pub step: Duration,
    /// Operations wait and health says that the engine is away.
    pub engine_down: bool,
    /// Operations end with this error.
    pub failing: Option<ApiError>,
    /// Every answer is this one.
    pub refusal: Option<(u16, Value)>,
    /// So many changes are carried out and their answers dropped.
    pub lose_answers: usize,
    pub models: ModelList,
    pub discovered: Vec<Discovered>,
    /// What is said with the first agent.
    pub chats: Chats,
    /// What agents remember.
    pub memory: BTreeMap<String, Value>,
    itself: Weak<Mutex<State>>,
    operations: BTreeMap<OperationId, (Operation, Instant)>,
    keys: BTreeMap<String, OperationId>,
}

/// A status and its body.
type Answer = (u16, Value);

/// An error in dialect B's shape.
pub fn error(status: u16, code: Code, message: &str, hint: &str) -> Answer {
    let body = json!({"success": false, "status": "error", "error": message, "code": code, "message": message,
                      "hint": hint, "request_id": "req-1"});
    (status, body)
}

impl State {
    /// Agents of these names, all running.
    pub fn with(names: &[&str]) -> Self {
        Self {
            agents: names.iter().map(|name| agent(name, Phase::Running)).collect(),
            seen: Vec::new(),
            step: Duration::from_millis(20),
            engine_down: false,
            failing: None,
            refusal: None,
            lose_answers: 0,
            models: models(),
            discovered: Vec::new(),
            chats: Chats::default(),
            memory: BTreeMap::new(),
            itself: Weak::new(),
            operations: BTreeMap::new(),
            keys: BTreeMap::new(),
        }
    }

    /// From now on jobs go there; turns that were under way go on.
    pub fn serve(&mut self, itself: &Arc<Mutex<Self>>, jobs: mpsc::Sender<Job>) {
        self.itself = Arc::downgrade(itself);
        self.chats.jobs = Some(jobs);
        self.chats.cut();
        self.chats.open().into_iter().for_each(|turn| self.begin(turn));
    }

    /// Carries a turn on.
    pub fn begin(&self, turn: TurnId) {
        let job: Job = Box::pin(crate::chat::drive(self.itself.upgrade().unwrap(), turn));
        self.chats.jobs.as_ref().unwrap().try_send(job).unwrap_or_else(|_| panic!("too many turns at once"));
    }

    /// The answer to a request.
    pub fn handle(&mut self, seen: &Seen) -> Result<Answer, Answer> {
        let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
        let parts: Vec<_> = path.trim_start_matches("/api/").split('/').collect();
        let ok = |value: Value| Ok((200, value));
        match (seen.method.as_str(), parts.as_slice()) {
            ("GET", ["health"]) => ok(json!(self.health())),
            ("GET", ["status"]) => ok(json!(self.status())),
            ("GET", ["agents"]) => ok(json!(self.list(query.contains("deleted=true")))),
            ("POST", ["agents", "provision"]) => self.provision(seen),
            ("GET", ["instance", name]) => ok(json!(self.agents[self.find(name)?])),
            ("GET", ["instance", name, "token"]) => {
                self.find(name)?;
                ok(json!(TokenReply { token: "0123456789abcdef".repeat(4) }))
            }
            ("POST", ["instance", name, "token", "rotate"]) => {
                self.find(name)?;
                ok(json!(TokenReply { token: "fedcba9876543210".repeat(4) }))
            }
            ("GET", ["conversations"]) => {
                self.find(query.trim_start_matches("agentId="))?;
                let conversations = self.chats.conversations.clone();
                ok(json!(ConversationList { count: conversations.len(), conversations }))
            }
            ("GET", ["agents", name, "messages"]) => {
                self.find(name)?;
                ok(self.messages(query))
            }
            ("GET", ["memory"]) => {
                let index = self.find(query.trim_start_matches("agentId="))?;
                let (memory, agent) = (self.memory.clone(), self.agents[index].id.clone());
                let count = memory.len();
                ok(json!(MemoryView { memory, agent, count, last_updated: Some(Timestamp::now()) }))
            }
            ("POST", ["memory"]) => {
                let write: MemoryWrite = serde_json::from_str(&seen.body).unwrap();
                let index = self.find(write.agent.as_deref().unwrap())?;
                let key = write.key.unwrap();
                if write.memory.is_null() {
                    self.memory.remove(&key);
                } else {
                    self.memory.insert(key.clone(), write.memory);
                }
                let agent = &self.agents[index].id;
                ok(json!({"success": true, "agentId": agent, "key": key, "saved": self.memory.contains_key(&key)}))
            }
            ("GET", ["models"]) => ok(json!(self.models)),
            ("POST", ["models", "test"]) => {
                let request: ModelTest = serde_json::from_str(&seen.body).unwrap();
                let model = request.model.unwrap_or_else(|| self.models.default.clone());
                if !self.models.models.iter().any(|one| one.id == model) {
                    return Err(error(400, Code::Invalid, "there is no such model", "models: builtin/basic"));
                }
                let usage = Some(Usage { prompt_tokens: 12, completion_tokens: 5 });
                let reply = "Hello \u{1b}[31mthere".to_owned();
                ok(json!(ModelTested { model, reply, first_token_ms: Some(40), total_ms: 1200, usage }))
            }
            ("GET", ["models", "discover"]) => {
                let found = self.discovered.clone();
                ok(json!(Discovery { count: found.len(), found }))
            }
            ("DELETE", ["instance", name]) => {
                let purge = query.contains("purge=true");
                self.change(seen, name, if purge { OperationKind::Purge } else { OperationKind::Delete })
            }
            ("POST", ["instance", name, verb]) => match OperationKind::from_word(verb) {
                Some(kind) => self.change(seen, name, kind),
                None => Err(error(404, Code::NotFound, "no such route", "")),
            },
            ("GET", ["operations"]) => {
                let operations: Vec<_> = self.all_operations();
                ok(json!(OperationList { count: operations.len(), operations }))
            }
            ("GET", ["operations", id] | ["operations", id, "wait"]) => ok(json!(self.known(id)?)),
            ("POST", ["operations", id, "cancel"]) => {
                let mut operation = self.known(id)?;
                operation.status = OperationStatus::Cancelled;
                self.operations.insert(operation.id.clone(), (operation.clone(), Instant::now()));
                ok(json!(operation))
            }
            _ => Err(error(404, Code::NotFound, "no such route", "")),
        }
    }

    fn messages(&self, query: &str) -> Value {
        let number = |name: &str| -> usize {
            query.split('&').find_map(|part| part.strip_prefix(name)).unwrap().parse().unwrap()
        };
        let (limit, offset) = (number("limit="), number("offset="));
        let messages: Vec<_> = self.chats.messages.iter().rev().skip(offset).take(limit).cloned().collect();
        json!(MessageList {
            messages,
            total: self.chats.messages.len() as u64,
            limit: u32::try_from(limit).unwrap(),
            offset: offset as u64,
            status: "ok".to_owned(),
        })
    }

    fn find(&self, name: &str) -> Result<usize, Answer> {
        let is = |agent: &InstanceView| agent.name.as_str() == name || agent.id.as_str() == name;
        let message = format!("there is no agent {name}");
        let none = || error(404, Code::NotFound, &message, "`agentbotctl list` shows all agents");
        self.agents.iter().rposition(is).ok_or_else(none)
    }

    fn known(&self, id: &str) -> Result<Operation, Answer> {
        let id = id.parse().map_err(|_| error(400, Code::Invalid, "that is no operation's id", ""))?;
        self.operation(&id).ok_or_else(|| error(404, Code::NotFound, "there is no such operation", ""))
    }

    fn provision(&mut self, seen: &Seen) -> Result<Answer, Answer> {
        let request: ProvisionRequest = serde_json::from_str(&seen.body).unwrap();
        let name = request.name.clone().unwrap();
        if request.plan.as_deref() == Some("huge") {
            return Err(error(400, Code::Invalid, "plan: there is no plan `huge`", "plans: small, solo"));
        }
        let repeat = seen.key.as_ref().is_some_and(|key| self.keys.contains_key(key));
        if !repeat {
            if self.find(&name).is_ok() {
                let message = format!("the name {name} is taken");
                return Err(error(409, Code::Conflict, &message, "choose another name"));
            }
            self.agents.push(agent(&name, Phase::Provisioning));
        }
        let (_, reply) = self.change(seen, &name, OperationKind::Provision)?;
        let view = &self.agents[self.find(&name)?];
        let agent = ProvisionedAgent {
            id: view.id.clone(),
            name: view.name.clone(),
            status: Phase::Provisioning,
            websocket_url: format!("/api/chat/ws?agent={}", view.id),
            model: view.model.clone(),
            created_at: view.created_at,
        };
        let operation = serde_json::from_value(reply["operation"].clone()).unwrap();
        Ok((201, json!(ProvisionReply { success: true, agent, operation })))
    }

    fn change(&mut self, seen: &Seen, name: &str, kind: OperationKind) -> Result<Answer, Answer> {
        let index = self.find(name)?;
        let key = seen.key.clone().expect("a change carries an idempotency key");
        let id = self.keys.entry(key).or_insert_with(OperationId::mint).clone();
        let agent = &mut self.agents[index];
        let now = Timestamp::now();
        let steps = match kind {
            OperationKind::Provision => ["image", "create", "hello"].as_slice(),
            OperationKind::Stop => &["stop"],
            OperationKind::Delete | OperationKind::Purge => &["stop", "remove"],
            _ => &["start", "hello"],
        };
        let operation = Operation {
            id: id.clone(),
            kind,
            agent: agent.id.clone(),
            agent_name: agent.name.to_string(),
            status: OperationStatus::Pending,
            steps: steps.iter().map(|name| Step::pending(name)).collect(),
            progress: 0.0,
            actor: "operator:0".to_owned(),
            result: None,
            error: None,
            created_at: now,
            updated_at: now,
        };
        agent.phase = match kind {
            OperationKind::Provision | OperationKind::Start | OperationKind::Restart => Phase::Running,
            OperationKind::Repair | OperationKind::Undelete => Phase::Running,
            OperationKind::Stop => Phase::Stopped,
            OperationKind::Delete | OperationKind::Purge => Phase::Deleted,
        };
        agent.status = agent.phase;
        agent.deleted_at = (agent.phase == Phase::Deleted).then_some(now);
        if let (OperationKind::Undelete, Ok(body)) = (kind, serde_json::from_str::<Value>(&seen.body))
            && let Some(new_name) = body["as"].as_str()
        {
            agent.name = new_name.parse().unwrap();
        }
        let status = agent.phase;
        self.operations.entry(id.clone()).or_insert_with(|| (operation, Instant::now()));
        let operation = self.operation(&id).unwrap();
        Ok((202, json!(LifecycleReply { success: true, status, operation })))
    }

    fn all_operations(&self) -> Vec<Operation> {
        self.operations.keys().rev().filter_map(|id| self.operation(id)).collect()
    }

    /// An operation as far as its time has brought it.
    pub fn operation(&self, id: &OperationId) -> Option<Operation> {
        let (operation, began) = self.operations.get(id)?;
        let mut operation = operation.clone();
        if operation.status.is_ended() {
            return Some(operation);
        }
        if self.engine_down {
            operation.status = OperationStatus::Waiting;
            return Some(operation);
        }
        let done = began.elapsed().as_millis() / self.step.as_millis();
        let all = operation.steps.len() as u128;
        for (index, step) in (0_u32..).zip(&mut operation.steps) {
            let at = |steps: u32| Some(operation.created_at + SignedDuration::try_from(self.step * steps).unwrap());
            if u128::from(index) < done {
                (step.status, step.started_at, step.ended_at) = (StepStatus::Succeeded, at(index), at(index + 1));
            } else if u128::from(index) == done {
                (step.status, step.started_at) = (StepStatus::Running, at(index));
            }
        }
        operation.status = match (done >= all, &self.failing) {
            (false, _) => OperationStatus::Running,
            (true, None) => OperationStatus::Succeeded,
            (true, Some(error)) => {
                operation.error = Some(error.clone());
                OperationStatus::Failed
            }
        };
        if operation.kind == OperationKind::Repair && operation.status == OperationStatus::Succeeded {
            let report = RepairReport {
                findings: vec!["the container was gone".to_owned()],
                actions: vec!["made it anew around its workspace".to_owned()],
                left: Vec::new(),
            };
            operation.result = Some(json!({"report": report}));
        }
        Some(operation)
    }

    fn list(&self, deleted: bool) -> AgentList {
        let agents: Vec<_> = self
            .agents
            .iter()
            .filter(|agent| agent.deleted_at.is_some() == deleted)
            .map(|agent| AgentEntry {
                id: agent.id.clone(),
                name: agent.name.clone(),
                model: agent.model.clone(),
                status: agent.phase,
                websocket_url: format!("/api/chat/ws?agent={}", agent.id),
                created_at: agent.created_at,
                updated_at: agent.created_at,
                plan: agent.plan.clone(),
                phase_since: agent.phase_since,
                reason: agent.reason.clone(),
                deleted_at: agent.deleted_at,
            })
            .collect();
        AgentList { count: agents.len(), agents }
    }

    fn engine(&self) -> EngineStatus {
        EngineStatus {
            available: !self.engine_down,
            since: Timestamp::now(),
            version: Some("20.10.24".to_owned()),
            api_version: Some("1.41".to_owned()),
            error: self.engine_down.then(|| "connection refused".to_owned()),
        }
    }

    fn health(&self) -> Health {
        Health {
            status: "ok".to_owned(),
            health: if self.engine_down { Grade::Degraded } else { Grade::Healthy },
            timestamp: Timestamp::now(),
            cpu: Cpu { usage: None, cores: 2 },
            memory: Memory { usage: None, total: 1, used: 0, free: 1 },
            uptime: 5,
            engine: self.engine(),
            version: "9.9.9".to_owned(),
        }
    }

    fn status(&self) -> DaemonStatus {
        DaemonStatus {
            version: "9.9.9".to_owned(),
            pid: 42,
            started_at: Timestamp::now(),
            state_dir: "/var/lib/agentbot".to_owned(),
            daemon_id: "d1".to_owned(),
            engine: self.engine(),
            agents: BTreeMap::from([("running".to_owned(), self.agents.len())]),
            operations_open: 0,
            unknown_containers: Vec::new(),
            tasks: Vec::new(),
            warnings: vec!["the clock is not synchronised".to_owned()],
            safe_mode: None,
            drops: std::collections::BTreeMap::from([("client_slow".to_owned(), 2), ("agent_slow".to_owned(), 0)]),
        }
    }
}
