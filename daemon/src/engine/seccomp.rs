//! Our system call filter: what programs of agents need, and nothing that opens the kernel further.

use std::sync::LazyLock;

/// The filter as it travels with every container: without white space.
pub static SECCOMP: LazyLock<String> = LazyLock::new(|| compact(include_str!("../../../config/seccomp.json")));

fn compact(json: &str) -> String {
    let (mut quoted, mut escaped) = (false, false);
    json.chars()
        .filter(|&c| {
            let keep = quoted || !c.is_ascii_whitespace();
            if c == '"' && !escaped {
                quoted = !quoted;
            }
            escaped = quoted && c == '\\' && !escaped;
            keep
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const NEVER: &[&str] = &[
        "_sysctl",
        "acct",
        "add_key",
        "adjtimex",
        "afs_syscall",
        "bpf",
        "chroot",
        "clock_adjtime",
        "clock_settime",
        "create_module",
        "delete_module",
        "fanotify_init",
        "finit_module",
        "fsconfig",
        "fsmount",
        "fsopen",
        "fspick",
        "get_kernel_syms",
        "init_module",
        "io_uring_enter",
        "io_uring_register",
        "io_uring_setup",
        "ioperm",
        "iopl",
        "kcmp",
        "kexec_file_load",
        "kexec_load",
        "keyctl",
        "listmount",
        "lookup_dcookie",
        "modify_ldt",
        "mount",
        "mount_setattr",
        "move_mount",
        "move_pages",
        "name_to_handle_at",
        "nfsservctl",
        "open_by_handle_at",
        "open_tree",
        "perf_event_open",
        "pidfd_getfd",
        "pivot_root",
        "process_vm_readv",
        "process_vm_writev",
        "ptrace",
        "query_module",
        "quotactl",
        "quotactl_fd",
        "reboot",
        "request_key",
        "setdomainname",
        "sethostname",
        "setns",
        "settimeofday",
        "socketcall",
        "statmount",
        "stime",
        "swapoff",
        "swapon",
        "syslog",
        "umount",
        "umount2",
        "unshare",
        "uselib",
        "userfaultfd",
        "ustat",
        "vhangup",
        "vm86",
        "vm86old",
    ];

    fn profile() -> Value {
        serde_json::from_str(&SECCOMP).unwrap()
    }

    fn rules(profile: &Value, name: &str) -> Vec<Value> {
        let rules = profile["syscalls"].as_array().unwrap().iter();
        rules.filter(|rule| rule["names"].as_array().unwrap().iter().any(|it| it == name)).cloned().collect()
    }

    #[test]
    fn what_is_not_listed_fails_on_both_architectures_and_nowhere_else() {
        let profile = profile();
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        let architectures: Vec<_> =
            profile["archMap"].as_array().unwrap().iter().map(|it| &it["architecture"]).collect();
        assert_eq!(architectures, ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"]);
        assert!(
            profile["archMap"].as_array().unwrap().iter().all(|it| it["subArchitectures"] == serde_json::json!([]))
        );
    }

    #[test]
    fn what_opens_the_kernel_is_in_no_rule() {
        let profile = profile();
        for name in NEVER {
            assert_eq!(rules(&profile, name), Vec::<Value>::new(), "{name}");
        }
    }

    #[test]
    fn every_call_without_a_condition_is_named_once() {
        let profile = profile();
        let mut seen = std::collections::BTreeSet::new();
        for rule in profile["syscalls"].as_array().unwrap().iter().filter(|rule| rule["args"].is_null()) {
            for name in rule["names"].as_array().unwrap() {
                assert!(seen.insert(name.as_str().unwrap().to_owned()), "{name}");
            }
        }
        assert!(["socket", "socketpair", "clone", "personality"].iter().all(|name| !seen.contains(*name)));
        assert!(
            ["openat", "mmap", "futex", "execve", "connect", "epoll_pwait"].iter().all(|name| seen.contains(*name))
        );
    }

    #[test]
    fn sockets_are_unix_internet_or_routing_netlink_and_so_neither_vsock_nor_alg() {
        let domains: Vec<_> = rules(&profile(), "socket")
            .iter()
            .map(|rule| {
                let args = rule["args"].as_array().unwrap();
                assert!(args.iter().all(|arg| arg["op"] == "SCMP_CMP_EQ"));
                assert_eq!((args[0]["index"].as_u64(), rule["action"].as_str()), (Some(0), Some("SCMP_ACT_ALLOW")));
                let domain = args[0]["value"].as_u64().unwrap();
                assert!(domain != 16 || (args[1]["index"] == 2 && args[1]["value"] == 0));
                domain
            })
            .collect();
        assert_eq!(domains, [1, 2, 10, 16]);
    }

    #[test]
    fn no_child_begins_in_a_namespace_of_its_own() {
        const NEW: u64 =
            0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000;
        let clone = &rules(&profile(), "clone");
        assert_eq!(clone.len(), 1);
        let arg = &clone[0]["args"][0];
        assert_eq!((arg["index"].as_u64(), arg["op"].as_str()), (Some(0), Some("SCMP_CMP_MASKED_EQ")));
        assert_eq!((arg["value"].as_u64(), arg["valueTwo"].as_u64()), (Some(NEW), Some(0)));
        let clone3 = &rules(&profile(), "clone3");
        assert_eq!((clone3.len(), clone3[0]["action"].as_str()), (1, Some("SCMP_ACT_ERRNO")));
        assert_eq!(clone3[0]["errnoRet"], 38);
    }

    #[test]
    fn compacting_keeps_what_is_quoted() {
        assert_eq!(
            compact("{ \"a b\" : [ 1,\n 2 ], \"c\\\" d\": \"\\\\\" , \"e\" : 1 }"),
            r#"{"a b":[1,2],"c\" d":"\\","e":1}"#
        );
    }
}
