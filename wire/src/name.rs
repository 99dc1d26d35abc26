//! The name of an agent.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// An agent's name: 1 to 40 lower-case letters, digits and inner hyphens; unique per tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct AgentName(String);

/// Why a text is no agent name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// Not of the form `^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$`.
    Form,
    /// `v1` and `provision` are words of the API's paths.
    Reserved,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => {
                "a name has 1 to 40 lower-case letters, digits or hyphens, and begins and ends with a letter or digit"
            }
            Self::Reserved => "`v1` and `provision` are reserved words",
        })
    }
}

impl std::error::Error for NameError {}

impl AgentName {
    /// The longest name, in characters.
    pub const MAX: usize = 40;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AgentName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let formed = (1..=Self::MAX).contains(&bytes.len())
            && bytes.iter().all(|byte| plain(byte) || *byte == b'-')
            && bytes.first().is_some_and(plain)
            && bytes.last().is_some_and(plain);
        if !formed {
            return Err(NameError::Form);
        }
        if matches!(text, "v1" | "provision") {
            return Err(NameError::Reserved);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for AgentName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_both_sides_of_each_border() {
        let longest = "a".repeat(AgentName::MAX);
        for good in ["a", "0", "a-b", "a--b", "agent-7", longest.as_str()] {
            assert!(good.parse::<AgentName>().is_ok(), "{good}");
        }
        let long = "a".repeat(AgentName::MAX + 1);
        for bad in ["", "-", "-a", "a-", "A", "a_b", "a.b", "a/b", "../a", "ä", "a b", "a\n", "a\0", long.as_str()] {
            assert_eq!(bad.parse::<AgentName>(), Err(NameError::Form), "{bad:?}");
        }
        for word in ["v1", "provision"] {
            assert_eq!(word.parse::<AgentName>(), Err(NameError::Reserved));
        }
    }
}
