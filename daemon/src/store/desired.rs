//! What owners want, apart from what is there.

use std::fmt;

use agentbot_wire::Phase;

/// What the owner wants of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Desired {
    /// Running, whatever happens.
    Running,
    /// Not running.
    Stopped,
    /// Without a container; workspace and uid are kept.
    Deleted,
    /// Without a trace.
    Purged,
}

impl Desired {
    /// The word in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Deleted => "deleted",
            Self::Purged => "purged",
        }
    }

    pub(super) fn from_word(word: &str) -> Option<Self> {
        [Self::Running, Self::Stopped, Self::Deleted, Self::Purged].into_iter().find(|desired| desired.as_str() == word)
    }

    /// Whether the owner has given it up.
    #[must_use]
    pub fn is_gone(self) -> bool {
        matches!(self, Self::Deleted | Self::Purged)
    }
}

impl fmt::Display for Desired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A counter of requests and of how many of them were served: equal when nothing is owed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owed {
    /// Requests so far.
    pub wanted: u32,
    /// The last request that was served.
    pub done: u32,
}

impl Owed {
    /// Whether a request waits.
    #[must_use]
    pub fn is_due(self) -> bool {
        self.done < self.wanted
    }
}

/// What an accepted request changes of what is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// The new aim.
    pub desired: Desired,
    /// Whether it must be down once first.
    pub restart: bool,
    /// Whether it needs a new container.
    pub rebuild: bool,
    /// The phase until the reconciler has looked.
    pub phase: Phase,
}
