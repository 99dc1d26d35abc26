//! Values on the command line: what they look like and what is refused.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use agentbot_wire::{AgentName, InstanceId, MAX_CHAT_KEY, MAX_MEMORY_KEY, MAX_TOPIC};
use serde_json::Value;

/// The longest path that a Unix socket can have, in bytes.
pub const SOCKET_PATH_MAX: usize = 107;
/// The largest configuration of an agent, in bytes.
pub const CONFIG_MAX: usize = 64 * 1024;

/// An agent, by name or id. Nothing else can stand in a path that is asked of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(String);

impl Target {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.parse::<InstanceId>().is_ok() {
            return Ok(Self(text.to_owned()));
        }
        text.parse::<AgentName>().map(|name| Self(name.as_str().to_owned())).map_err(|error| error.to_string())
    }
}

/// A length of time: `500ms`, `90s`, `2m`, `1h`; a bare number is seconds. From 100 ms to 24 h.
///
/// # Errors
/// When it is none, or outside of these bounds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "wanted is a time such as 90s, 500ms, 2m or 1h".to_owned())?;
    let factor = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("`{unit}` is no unit of time; there are ms, s, m and h")),
    };
    match number.checked_mul(factor) {
        Some(millis @ 100..=86_400_000) => Ok(Duration::from_millis(millis)),
        _ => Err("the time must be from 100ms to 24h".to_owned()),
    }
}

/// An amount of memory: `256m`, `2g`, `512MiB`; a bare number is bytes. Units are binary, as Docker's are.
///
/// # Errors
/// When it is none, is 0, or does not fit 64 bits.
pub fn memory(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "wanted is an amount such as 256m or 2g".to_owned())?;
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(format!("`{unit}` is no unit of memory; there are b, k, m, g and t")),
    };
    match number.checked_mul(1 << shift) {
        Some(0) => Err("an agent cannot live without memory".to_owned()),
        Some(bytes) => Ok(bytes),
        None => Err("that is more than 64 bits can count".to_owned()),
    }
}

/// Processor cores, more than none.
///
/// # Errors
/// When it is no number, not finite, or not above 0.
pub fn cpus(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(cpus) if cpus.is_finite() && cpus > 0.0 => Ok(cpus),
        _ => Err("wanted is a number of cores above 0, such as 0.5".to_owned()),
    }
}

/// An agent's configuration: a JSON object, or `@FILE` that holds one; at most 64 KiB.
///
/// # Errors
/// When the file cannot be read, is too large, or is no JSON object.
pub fn config(text: &str) -> Result<Value, String> {
    let read;
    let json = match text.strip_prefix('@') {
        None => text,
        Some(path) => {
            read = read_bounded(Path::new(path))?;
            &read
        }
    };
    if json.len() > CONFIG_MAX {
        return Err(format!("a configuration has at most {CONFIG_MAX} bytes"));
    }
    match serde_json::from_str(json) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("a configuration is a JSON object: {\"key\": ...}".to_owned()),
        Err(error) => Err(format!("not JSON: {error}")),
    }
}

fn read_bounded(path: &Path) -> Result<String, String> {
    use std::io::Read;
    let mut text = String::new();
    let bound = CONFIG_MAX as u64 + 1;
    std::fs::File::open(path)
        .and_then(|file| file.take(bound).read_to_string(&mut text))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text)
}

/// The name of a conversation.
///
/// # Errors
/// When it is empty, too long, or has control characters.
pub fn topic(text: &str) -> Result<String, String> {
    word(text, "a topic", MAX_TOPIC)
}

/// A key of an agent's memory.
///
/// # Errors
/// When it is empty, too long, or has control characters.
pub fn memory_key(text: &str) -> Result<String, String> {
    word(text, "a key", MAX_MEMORY_KEY)
}

fn word(text: &str, what: &str, most: usize) -> Result<String, String> {
    match text.chars().count() {
        0 => Err(format!("{what} has at least one character")),
        count if count > most => Err(format!("{what} has at most {most} characters, this one has {count}")),
        _ if text.chars().any(char::is_control) => Err(format!("{what} has no control characters")),
        _ => Ok(text.to_owned()),
    }
}

/// A key that makes sending a message twice harmless.
///
/// # Errors
/// When it is empty, too long, or has characters that cannot be seen.
pub fn chat_key(text: &str) -> Result<String, String> {
    if (1..=MAX_CHAT_KEY).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err(format!("a key has 1 to {MAX_CHAT_KEY} visible ASCII characters"))
}

/// The path of the daemon's socket.
///
/// # Errors
/// When it is empty or longer than a socket's path can be.
pub fn socket(text: &str) -> Result<PathBuf, String> {
    match text.len() {
        0 => Err("the path is empty".to_owned()),
        1..=SOCKET_PATH_MAX => Ok(PathBuf::from(text)),
        length => Err(format!("a socket's path has at most {SOCKET_PATH_MAX} bytes, this one has {length}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_target_is_a_name_or_an_id_and_never_a_path() {
        for good in ["helper", "a", "ins_01kak2m5v5e7qrf9v3n6m8t0zx"] {
            assert_eq!(good.parse::<Target>().unwrap().as_str(), good);
        }
        for bad in ["", "..", "a/b", "a?x=1", "A", "provision", "op_01kak2m5v5e7qrf9v3n6m8t0zx", "a b", "%2e"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[test]
    fn topics_and_keys_are_refused_past_their_bounds() {
        assert!(topic(&"ä".repeat(MAX_TOPIC)).is_ok() && topic(&"ä".repeat(MAX_TOPIC + 1)).is_err());
        assert!(
            memory_key(&"k".repeat(MAX_MEMORY_KEY)).is_ok() && memory_key(&"k".repeat(MAX_MEMORY_KEY + 1)).is_err()
        );
        assert!(chat_key(&"k".repeat(MAX_CHAT_KEY)).is_ok() && chat_key(&"k".repeat(MAX_CHAT_KEY + 1)).is_err());
        for bad in ["", "a\nb", "\u{1b}[31m"] {
            assert!(topic(bad).is_err() && memory_key(bad).is_err() && chat_key(bad).is_err(), "{bad:?}");
        }
        assert!(chat_key("two words").is_err() && topic("two words").is_ok());
    }

    #[test]
    fn times_are_read_on_both_sides_of_their_bounds() {
        for (text, millis) in [("100ms", 100), ("1", 1000), ("90s", 90_000), ("2m", 120_000), ("24h", 86_400_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in
            ["", "s", "0", "99ms", "25h", "86401s", "-1", "1.5s", "1d", "99999999999999999999", "18446744073709551615h"]
        {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn memory_is_read_in_binary_units() {
        for (text, bytes) in [("1", 1), ("256m", 256 << 20), ("2g", 2 << 30), ("512MiB", 512 << 20), ("1GB", 1 << 30)] {
            assert_eq!(memory(text), Ok(bytes), "{text}");
        }
        for bad in ["", "0", "0g", "m", "-1", "1.5g", "1x", "16777216t", "99999999999999999999"] {
            assert!(memory(bad).is_err(), "{bad}");
        }
        assert_eq!(memory("16777215t"), Ok(16_777_215 << 40));
    }

    #[test]
    fn cores_are_more_than_none() {
        assert_eq!(cpus("0.5"), Ok(0.5));
        for bad in ["0", "-1", "NaN", "inf", "two", ""] {
            assert!(cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_configuration_is_an_object_of_at_most_64_kib() {
        assert!(config(r#"{"persona": "kind"}"#).is_ok());
        for bad in ["[]", "1", "{", "", "@/nonexistent"] {
            assert!(config(bad).is_err(), "{bad}");
        }
        let of = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8));
        assert_eq!(of(100).len(), 100);
        assert!(config(&of(CONFIG_MAX)).is_ok());
        assert!(config(&of(CONFIG_MAX + 1)).unwrap_err().contains("at most"));
    }

    #[test]
    fn a_socket_path_has_its_limit() {
        assert!(socket(&"s".repeat(SOCKET_PATH_MAX)).is_ok());
        assert!(socket(&"s".repeat(SOCKET_PATH_MAX + 1)).is_err());
        assert!(socket("").is_err());
    }
}
