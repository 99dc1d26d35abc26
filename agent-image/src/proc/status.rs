//! `/proc/<pid>/status` and the id maps.

use serde::Serialize;

/// The five capability sets as the kernel writes them, 16 hex digits each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// Kept over exec.
    pub inheritable: Option<String>,
    /// May be made effective.
    pub permitted: Option<String>,
    /// In force.
    pub effective: Option<String>,
    /// The most that can ever be gained.
    pub bounding: Option<String>,
    /// Given to programs that have none.
    pub ambient: Option<String>,
}

/// What `status` says about a process; absent lines are `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Real, effective, saved and file system user id.
    pub uid: Vec<u32>,
    /// Real, effective, saved and file system group id.
    pub gid: Vec<u32>,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The capability sets.
    pub capabilities: Capabilities,
    /// Whether exec can no longer add privileges.
    pub no_new_privileges: Option<bool>,
    /// 0 off, 1 strict, 2 filter.
    pub seccomp: Option<u32>,
    /// Resident memory in KiB; absent for kernel threads and zombies.
    #[serde(skip)]
    pub resident_kib: Option<u64>,
}

impl Status {
    /// Reads the text; unknown lines are left out.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut status = Self::default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match key {
                "Uid" => status.uid = numbers(value),
                "Gid" => status.gid = numbers(value),
                "Groups" => status.groups = numbers(value),
                "CapInh" => status.capabilities.inheritable = Some(value.to_owned()),
                "CapPrm" => status.capabilities.permitted = Some(value.to_owned()),
                "CapEff" => status.capabilities.effective = Some(value.to_owned()),
                "CapBnd" => status.capabilities.bounding = Some(value.to_owned()),
                "CapAmb" => status.capabilities.ambient = Some(value.to_owned()),
                "NoNewPrivs" => status.no_new_privileges = value.parse::<u8>().ok().map(|set| set == 1),
                "Seccomp" => status.seccomp = value.parse().ok(),
                "VmRSS" => status.resident_kib = value.trim_end_matches("kB").trim().parse().ok(),
                _ => {}
            }
        }
        status
    }
}

/// One line of `/proc/<pid>/uid_map` or `gid_map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct IdRange {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many follow.
    pub count: u32,
}

/// Reads an id map.
#[must_use]
pub fn parse_id_map(text: &str) -> Vec<IdRange> {
    text.lines()
        .filter_map(|line| match numbers(line)[..] {
            [inside, outside, count] => Some(IdRange { inside, outside, count }),
            _ => None,
        })
        .collect()
}

fn numbers(text: &str) -> Vec<u32> {
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Recorded in a sealed container.
    const SEALED: &str = "\
Name:\tagentbot-agent
Umask:\t0022
State:\tS (sleeping)
Uid:\t20001\t20001\t20001\t20001
Gid:\t20001\t20001\t20001\t20001
Groups:\t 
VmRSS:\t     948 kB
CapInh:\t0000000000000000
CapPrm:\t0000000000000000
CapEff:\t0000000000000000
CapBnd:\t0000000000000000
CapAmb:\t0000000000000000
NoNewPrivs:\t1
Seccomp:\t2
Seccomp_filters:\t1
";

    #[test]
    fn a_sealed_process_is_read() {
        let status = Status::parse(SEALED);
        assert_eq!(status.uid, [20001; 4]);
        assert!(status.groups.is_empty());
        assert_eq!(status.capabilities.bounding.as_deref(), Some("0000000000000000"));
        assert_eq!((status.no_new_privileges, status.seccomp), (Some(true), Some(2)));
        assert_eq!(status.resident_kib, Some(948));
    }

    #[test]
    fn what_the_kernel_does_not_say_is_unknown_not_safe() {
        let status = Status::parse("Name:\tx\n");
        assert_eq!((status.no_new_privileges, status.seccomp), (None, None));
        assert_eq!(status.capabilities, Capabilities::default());
    }

    #[test]
    fn the_map_of_a_remapped_engine_is_read() {
        assert_eq!(
            parse_id_map("         0     100000      65536\n"),
            [IdRange { inside: 0, outside: 100_000, count: 65536 }]
        );
        assert_eq!(parse_id_map("0 0 4294967295\n")[0].count, u32::MAX);
    }
}
