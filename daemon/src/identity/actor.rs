//! Who asks.

use std::fmt;

use agentbot_wire::{InstanceId, SlotId, TenantId};

/// Who asks, as a value through every call of the core.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// Somebody on this host who may do everything: root, or a member of the admin group.
    Operator {
        /// The user id that the kernel vouches for.
        uid: u32,
    },
    /// Whoever holds an agent's gateway token: may talk to that agent, and nothing else.
    Gateway {
        /// The agent.
        instance: InstanceId,
        /// SHA-256 of the token, by which one that was replaced since is known.
        token: [u8; 32],
    },
    /// An agent, over its own socket.
    Agent {
        /// The slot whose socket it is.
        slot: SlotId,
        /// The instance in that slot.
        instance: InstanceId,
    },
    /// The daemon itself.
    System,
}

impl Actor {
    /// The one agent that it may talk to or about; `None` means every agent of its tenant.
    #[must_use]
    pub fn only_agent(&self) -> Option<&InstanceId> {
        match self {
            Self::Gateway { instance, .. } | Self::Agent { instance, .. } => Some(instance),
            Self::Operator { .. } | Self::System => None,
        }
    }

    /// Whose things it may see.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        match self {
            Self::Operator { .. } | Self::Gateway { .. } | Self::Agent { .. } | Self::System => TenantId::local(),
        }
    }
}

/// The words that rows and events hold: `operator:0`, `gateway:ins_…`, `agent:ins_…`, `system`.
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator { uid } => write!(f, "operator:{uid}"),
            Self::Gateway { instance, .. } => write!(f, "gateway:{instance}"),
            Self::Agent { instance, .. } => write!(f, "agent:{instance}"),
            Self::System => f.write_str("system"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_actor_has_its_words() {
        let instance: InstanceId = "ins_01kak2m5v5e7qrf9v3n6m8t0zx".parse().unwrap();
        let agent = Actor::Agent { slot: SlotId::mint(), instance };
        assert_eq!(agent.to_string(), "agent:ins_01kak2m5v5e7qrf9v3n6m8t0zx");
        let instance: InstanceId = "ins_01kak2m5v5e7qrf9v3n6m8t0zx".parse().unwrap();
        assert_eq!(Actor::Gateway { instance, token: [0; 32] }.to_string(), "gateway:ins_01kak2m5v5e7qrf9v3n6m8t0zx");
        assert_eq!(Actor::Operator { uid: 1000 }.to_string(), "operator:1000");
        assert_eq!(Actor::System.to_string(), "system");
    }
}
