//! Types that cross a process border: ids, frames, views, requests and errors.
//!
//! The daemon, the command line and the agent share nothing else. Everything here is plain data with serde; nothing
//! opens a socket or waits.
#![forbid(unsafe_code)]

mod chat;
mod client;
mod error;
mod frame;
mod health;
mod id;
mod instance;
mod model;
mod name;
mod operation;
mod phase;
mod turn;
mod words;

pub use chat::{
    ChatLog, ChatReply, ChatRequest, ConversationList, ConversationView, HISTORY_PAGE, MAIN_TOPIC, MAX_CHAT_KEY,
    MAX_HISTORY_PAGE, MAX_MESSAGE, MAX_TOPIC, Message, MessageList, Platform, Sender, TurnStatus,
};
pub use client::{
    AgentPhase, Bye, ChatDelta, ChatDone, ChatSend, ChatSent, ChatSubscribe, ChatSubscribed, ChatTool, ChatTurn,
    ClientPolicy, Connect, Connected, History, HistoryParams, TurnView,
};
pub use error::{ApiError, Code};
pub use frame::{
    AGENT_PROTOCOL, AgentPolicy, Beat, CHAT_PROTOCOL, Frame, FrameError, Hello, MAX_FRAME, PROTOCOL_VERSION, Welcome,
    event, method,
};
pub use health::{Cpu, DaemonStatus, EngineStatus, Grade, Health, Memory, TaskStatus};
pub use id::{ConversationId, EventId, IdError, InstanceId, MessageId, OperationId, SlotId, TenantId, TurnId, UserId};
pub use instance::{
    AgentEntry, AgentList, ContainerView, InstanceHealth, InstanceView, LifecycleReply, Plan, ProvisionReply,
    ProvisionRequest, ProvisionedAgent, RepairReport, TokenReply, UndeleteRequest,
};
pub use model::{Discovered, Discovery, ModelList, ModelTest, ModelTested, ModelView, ProviderView, Usage};
pub use name::{AgentName, NameError};
pub use operation::{Operation, OperationKind, OperationList, OperationStatus, Step, StepStatus};
pub use phase::Phase;
pub use turn::{
    MAX_MEMORY_BULK, MAX_MEMORY_KEY, MAX_MEMORY_KEYS, MAX_MEMORY_VALUE, MAX_TOOL_DETAIL, MemoryFound, MemoryGet,
    MemoryPut, MemorySaved, MemorySearch, MemoryView, MemoryWrite, ToolCall, ToolStatus, TurnCancel, TurnDelta,
    TurnDone, TurnFailed, TurnFault, TurnRun, TurnTool,
};
