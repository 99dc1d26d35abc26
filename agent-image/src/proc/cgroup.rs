//! The limits of the own cgroup as seen from inside, on the first and the second version of the hierarchy.

use std::path::Path;

use serde::Serialize;

/// From this on a version 1 memory limit means none: the kernel writes the largest multiple of its page size.
const V1_NO_LIMIT: u64 = i64::MAX as u64 - 0xffff;

/// One limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Limit {
    /// At most this.
    Value(u64),
    /// No limit; written as `"max"`.
    Max(Unlimited),
}

/// The word `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unlimited {
    /// No limit.
    Max,
}

const UNLIMITED: Limit = Limit::Max(Unlimited::Max);

/// The limits; a `None` could not be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// 1 or 2.
    pub version: Option<u8>,
    /// Processes and threads.
    pub pids: Option<Limit>,
    /// Memory in bytes.
    pub memory: Option<Limit>,
    /// Memory and swap together in bytes.
    pub memory_and_swap: Option<Limit>,
    /// Processor time per period in microseconds.
    pub cpu_quota_us: Option<Limit>,
    /// The period in microseconds.
    pub cpu_period_us: Option<u64>,
    /// Share of a busy processor: `cpu.shares` on version 1.
    pub cpu_shares: Option<u64>,
    /// Share of a busy processor: `cpu.weight` on version 2.
    pub cpu_weight: Option<u64>,
}

impl Limits {
    /// Reads the limits below the usual mount point.
    #[must_use]
    pub fn of_this_process() -> Self {
        let root = Path::new("/sys/fs/cgroup");
        Self::read(|file| std::fs::read_to_string(root.join(file)).ok())
    }

    /// Reads the limits through `file`, which gives a file's text by its path below the mount point.
    pub fn read(file: impl Fn(&str) -> Option<String>) -> Self {
        if file("cgroup.controllers").is_some() { Self::v2(file) } else { Self::v1(file) }
    }

    fn v2(file: impl Fn(&str) -> Option<String>) -> Self {
        let limit = |name: &str| file(name).and_then(|text| limit(&text));
        let memory = limit("memory.max");
        let cpu = file("cpu.max").unwrap_or_default();
        let mut cpu = cpu.split_whitespace();
        Self {
            version: Some(2),
            pids: limit("pids.max"),
            memory,
            memory_and_swap: match (memory, limit("memory.swap.max")) {
                (Some(Limit::Value(memory)), Some(Limit::Value(swap))) => {
                    Some(Limit::Value(memory.saturating_add(swap)))
                }
                (Some(_), Some(_)) => Some(UNLIMITED),
                _ => None,
            },
            cpu_quota_us: cpu.next().and_then(limit_word),
            cpu_period_us: cpu.next().and_then(|word| word.parse().ok()),
            cpu_shares: None,
            cpu_weight: file("cpu.weight").and_then(|text| number(&text)),
        }
    }

    fn v1(file: impl Fn(&str) -> Option<String>) -> Self {
        let memory = |name: &str| {
            file(name)
                .and_then(|text| number(&text))
                .map(|bytes| if bytes >= V1_NO_LIMIT { UNLIMITED } else { Limit::Value(bytes) })
        };
        let cpu = |name: &str| file(&format!("cpu/{name}")).or_else(|| file(&format!("cpu,cpuacct/{name}")));
        let pids = file("pids/pids.max");
        let seen = pids.is_some() || file("memory/memory.limit_in_bytes").is_some();
        Self {
            version: seen.then_some(1),
            pids: pids.and_then(|text| limit(&text)),
            memory: memory("memory/memory.limit_in_bytes"),
            memory_and_swap: memory("memory/memory.memsw.limit_in_bytes"),
            cpu_quota_us: cpu("cpu.cfs_quota_us").and_then(|text| match text.trim() {
                "-1" => Some(UNLIMITED),
                quota => limit(quota),
            }),
            cpu_period_us: cpu("cpu.cfs_period_us").and_then(|text| number(&text)),
            cpu_shares: cpu("cpu.shares").and_then(|text| number(&text)),
            cpu_weight: None,
        }
    }
}

fn limit(text: &str) -> Option<Limit> {
    limit_word(text.trim())
}

fn limit_word(word: &str) -> Option<Limit> {
    if word == "max" { Some(UNLIMITED) } else { word.parse().ok().map(Limit::Value) }
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(files: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<String> {
        move |wanted| files.iter().find(|(name, _)| *name == wanted).map(|(_, text)| (*text).to_owned())
    }

    #[test]
    fn a_version_1_container_with_the_small_plan() {
        let limits = Limits::read(recorded(&[
            ("pids/pids.max", "128\n"),
            ("memory/memory.limit_in_bytes", "268435456\n"),
            ("memory/memory.memsw.limit_in_bytes", "268435456\n"),
            ("cpu/cpu.cfs_quota_us", "50000\n"),
            ("cpu/cpu.cfs_period_us", "100000\n"),
            ("cpu/cpu.shares", "512\n"),
        ]));
        assert_eq!(
            limits,
            Limits {
                version: Some(1),
                pids: Some(Limit::Value(128)),
                memory: Some(Limit::Value(268_435_456)),
                memory_and_swap: Some(Limit::Value(268_435_456)),
                cpu_quota_us: Some(Limit::Value(50_000)),
                cpu_period_us: Some(100_000),
                cpu_shares: Some(512),
                cpu_weight: None,
            }
        );
    }

    #[test]
    fn a_version_1_container_without_limits() {
        let limits = Limits::read(recorded(&[
            ("pids/pids.max", "max\n"),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
        ]));
        assert_eq!((limits.pids, limits.memory), (Some(UNLIMITED), Some(UNLIMITED)));
        assert_eq!((limits.cpu_quota_us, limits.memory_and_swap), (Some(UNLIMITED), None));
    }

    #[test]
    fn a_version_2_container_with_the_small_plan() {
        let limits = Limits::read(recorded(&[
            ("cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma misc\n"),
            ("pids.max", "128\n"),
            ("memory.max", "268435456\n"),
            ("memory.swap.max", "0\n"),
            ("cpu.max", "50000 100000\n"),
            ("cpu.weight", "20\n"),
        ]));
        assert_eq!(
            limits,
            Limits {
                version: Some(2),
                pids: Some(Limit::Value(128)),
                memory: Some(Limit::Value(268_435_456)),
                memory_and_swap: Some(Limit::Value(268_435_456)),
                cpu_quota_us: Some(Limit::Value(50_000)),
                cpu_period_us: Some(100_000),
                cpu_shares: None,
                cpu_weight: Some(20),
            }
        );
    }

    #[test]
    fn a_version_2_container_without_limits() {
        let limits = Limits::read(recorded(&[
            ("cgroup.controllers", "cpu memory pids\n"),
            ("memory.max", "268435456\n"),
            ("memory.swap.max", "max\n"),
            ("cpu.max", "max 100000\n"),
        ]));
        assert_eq!((limits.memory_and_swap, limits.cpu_quota_us), (Some(UNLIMITED), Some(UNLIMITED)));
    }

    #[test]
    fn what_cannot_be_seen_is_null_and_no_limit_is_max() {
        assert_eq!(Limits::read(|_| None), Limits::default());
        assert_eq!(
            serde_json::to_string(&[Some(UNLIMITED), Some(Limit::Value(7)), None]).unwrap(),
            r#"["max",7,null]"#
        );
    }
}
