//! Types that cross a process border: ids, frames, views, requests and errors.
//!
//! The daemon, the command line and the agent share nothing else. Everything here is plain data with serde; nothing
//! opens a socket or waits.
#![forbid(unsafe_code)]

mod error;
mod frame;
mod health;
mod id;
mod instance;
mod name;
mod operation;
mod phase;
mod words;

pub use error::{ApiError, Code};
pub use frame::{AGENT_PROTOCOL, AgentPolicy, Beat, Frame, FrameError, Hello, MAX_FRAME, Welcome, event, method};
pub use health::{Cpu, DaemonStatus, EngineStatus, Grade, Health, Memory, TaskStatus};
pub use id::{EventId, IdError, InstanceId, OperationId, SlotId, TenantId, UserId};
pub use instance::{
    AgentEntry, AgentList, ContainerView, InstanceHealth, InstanceView, LifecycleReply, Plan, ProvisionReply,
    ProvisionRequest, ProvisionedAgent, RepairReport, TokenReply, UndeleteRequest,
};
pub use name::{AgentName, NameError};
pub use operation::{Operation, OperationKind, OperationList, OperationStatus, Step, StepStatus};
pub use phase::Phase;
