//! Typed, sortable ids: a prefix and a UUIDv7 in base 32, as <https://github.com/jetify-com/typeid> defines them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// A text that is not an id of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdError {
    /// The prefix that was wanted, without its underscore.
    pub prefix: &'static str,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an id of the form {}_ and 26 characters is wanted", self.prefix)
    }
}

impl std::error::Error for IdError {}

const SUFFIX: usize = 26;
const ALPHABET: &[u8] = b"0123456789abcdefghjkmnpqrstvwxyz";

fn is_suffix(text: &str) -> bool {
    let bytes = text.as_bytes();
    // 26 characters carry 130 bits: the first may only fill the 128 that a UUID has.
    bytes.len() == SUFFIX && bytes[0] <= b'7' && bytes.iter().all(|byte| ALPHABET.contains(byte))
}

macro_rules! id {
    ($name:ident, $prefix:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// What every id of this kind begins with, without the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// A new id, later in order than every earlier one of this process.
            #[cfg(feature = "mint")]
            #[must_use]
            pub fn mint() -> Self {
                use mti::prelude::{MagicTypeIdExt, V7};
                Self($prefix.create_type_id::<V7>().to_string())
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix(concat!($prefix, "_"))
                    .filter(|suffix| is_suffix(suffix))
                    .map(|_| Self(text.to_owned()))
                    .ok_or(IdError { prefix: $prefix })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(InstanceId, "ins", "An agent as its owner sees it.");
id!(SlotId, "slt", "What an instance runs in: its containers, workspaces, socket directory and uid.");
id!(OperationId, "op", "One durable mutation.");
id!(EventId, "evt", "One entry of the event log.");
id!(ConversationId, "cnv", "A conversation with an agent.");
id!(MessageId, "msg", "One message of a conversation.");
id!(TurnId, "trn", "One message in, one answer out.");
id!(TenantId, "ten", "Who owns a row; one fixed tenant until there are several.");
id!(UserId, "usr", "A person with an account.");

impl TenantId {
    /// The tenant of everything until tenants exist.
    #[must_use]
    pub fn local() -> Self {
        Self("ten_local".to_owned())
    }

    /// A tenant id as the store holds it.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        Self(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_id_reads_back_as_itself() {
        let text = "ins_01kak2m5v5e7qrf9v3n6m8t0zx";
        assert_eq!(text.parse::<InstanceId>().unwrap().as_str(), text);
    }

    #[test]
    fn another_prefix_length_or_alphabet_is_refused() {
        for text in [
            "op_01kak2m5v5e7qrf9v3n6m8t0zx",
            "ins_01kak2m5v5e7qrf9v3n6m8t0z",
            "ins_01kak2m5v5e7qrf9v3n6m8t0zxx",
            "ins_01kak2m5v5e7qrf9v3n6m8t0zi",
            "ins_81kak2m5v5e7qrf9v3n6m8t0zx",
            "ins_01KAK2M5V5E7QRF9V3N6M8T0ZX",
            "ins_",
            "",
        ] {
            assert!(text.parse::<InstanceId>().is_err(), "{text}");
        }
    }

    #[cfg(feature = "mint")]
    #[test]
    fn minted_ids_read_back_and_sort_by_age() {
        let first = InstanceId::mint();
        assert_eq!(first.as_str().parse::<InstanceId>().unwrap(), first);
        // Ids of the same millisecond have no order; the clock moves on by itself.
        let born = std::time::Instant::now();
        while born.elapsed() < std::time::Duration::from_millis(2) {
            std::hint::spin_loop();
        }
        assert!(first < InstanceId::mint());
    }
}
