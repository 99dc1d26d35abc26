//! Tries system calls that a sealed container must refuse, and prints one line for each: its name and the errno.
//!
//! The arguments are chosen so that a kernel which allows the call answers with a harmless success or with another error
//! than EPERM and ENOSYS. It uses nothing but the standard library, so that the compiler can build it alone.

// There is no safe wrapper for calls that are meant to fail.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_long};
use std::fmt::Write as _;
use std::io::Write as _;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

#[cfg(target_arch = "x86_64")]
mod number {
    pub const ADD_KEY: i64 = 248;
    pub const BPF: i64 = 321;
    pub const CLONE3: i64 = 435;
    pub const FINIT_MODULE: i64 = 313;
    pub const IO_URING_SETUP: i64 = 425;
    pub const KEXEC_LOAD: i64 = 246;
    pub const KEYCTL: i64 = 250;
    pub const MOUNT: i64 = 165;
    pub const OPEN_BY_HANDLE_AT: i64 = 304;
    pub const PERF_EVENT_OPEN: i64 = 298;
    pub const PIVOT_ROOT: i64 = 155;
    pub const PTRACE: i64 = 101;
    pub const REBOOT: i64 = 169;
    pub const REQUEST_KEY: i64 = 249;
    pub const SETNS: i64 = 308;
    pub const SOCKET: i64 = 41;
    pub const UNSHARE: i64 = 272;
    pub const USERFAULTFD: i64 = 323;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const ADD_KEY: i64 = 217;
    pub const BPF: i64 = 280;
    pub const CLONE3: i64 = 435;
    pub const FINIT_MODULE: i64 = 273;
    pub const IO_URING_SETUP: i64 = 425;
    pub const KEXEC_LOAD: i64 = 104;
    pub const KEYCTL: i64 = 219;
    pub const MOUNT: i64 = 40;
    pub const OPEN_BY_HANDLE_AT: i64 = 265;
    pub const PERF_EVENT_OPEN: i64 = 241;
    pub const PIVOT_ROOT: i64 = 41;
    pub const PTRACE: i64 = 117;
    pub const REBOOT: i64 = 142;
    pub const REQUEST_KEY: i64 = 218;
    pub const SETNS: i64 = 268;
    pub const SOCKET: i64 = 198;
    pub const UNSHARE: i64 = 97;
    pub const USERFAULTFD: i64 = 282;
}

const CLONE_NEWNS: c_long = 0x0002_0000;
const CLONE_NEWUSER: c_long = 0x1000_0000;
const SOCK_STREAM: c_long = 1;
const SOCK_RAW: c_long = 3;
const SOCK_SEQPACKET: c_long = 5;
const AF_INET: c_long = 2;
const AF_PACKET: c_long = 17;
const AF_ALG: c_long = 38;
const AF_VSOCK: c_long = 40;
const NOWHERE: c_long = 0;
const NO_DESCRIPTOR: c_int = -1;

/// Calls with up to five plain numbers. No argument is an address that the kernel could write to: pointers are null, so
/// a kernel that gets past its permission check answers EFAULT or EINVAL.
fn attempt(number: c_long, arguments: [c_long; 5]) -> i32 {
    let [a, b, c, d, e] = arguments;
    // SAFETY: no argument points into this process, so nothing of it can be read or written through them.
    let result = unsafe { syscall(number, a, b, c, d, e) };
    if result >= 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap_or(-1) }
}

fn main() {
    let none = c_long::from(NO_DESCRIPTOR);
    let attempts: [(&str, c_long, [c_long; 5]); 22] = [
        ("add_key", number::ADD_KEY, [NOWHERE; 5]),
        ("bpf", number::BPF, [0, NOWHERE, 0, 0, 0]),
        ("clone3", number::CLONE3, [NOWHERE, 0, 0, 0, 0]),
        ("finit_module", number::FINIT_MODULE, [none, NOWHERE, 0, 0, 0]),
        ("io_uring_setup", number::IO_URING_SETUP, [1, NOWHERE, 0, 0, 0]),
        ("kexec_load", number::KEXEC_LOAD, [0, 0, NOWHERE, 0, 0]),
        // KEYCTL_GET_KEYRING_ID of the session keyring: succeeds wherever it is allowed.
        ("keyctl", number::KEYCTL, [0, -3, 0, 0, 0]),
        ("mount", number::MOUNT, [NOWHERE; 5]),
        ("open_by_handle_at", number::OPEN_BY_HANDLE_AT, [none, NOWHERE, 0, 0, 0]),
        ("perf_event_open", number::PERF_EVENT_OPEN, [NOWHERE, 0, -1, -1, 0]),
        ("pivot_root", number::PIVOT_ROOT, [NOWHERE; 5]),
        // PTRACE_PEEKUSER of nobody: ESRCH wherever ptrace is allowed.
        ("ptrace", number::PTRACE, [3, 0, 0, 0, 0]),
        // Wrong magic numbers: EINVAL for whoever may reboot, and nothing happens.
        ("reboot", number::REBOOT, [0, 0, 0, 0, 0]),
        ("request_key", number::REQUEST_KEY, [NOWHERE; 5]),
        ("setns", number::SETNS, [none, 0, 0, 0, 0]),
        ("unshare_user", number::UNSHARE, [CLONE_NEWUSER, 0, 0, 0, 0]),
        ("unshare_mount", number::UNSHARE, [CLONE_NEWNS, 0, 0, 0, 0]),
        ("userfaultfd", number::USERFAULTFD, [0, 0, 0, 0, 0]),
        ("socket_alg", number::SOCKET, [AF_ALG, SOCK_SEQPACKET, 0, 0, 0]),
        ("socket_packet", number::SOCKET, [AF_PACKET, SOCK_RAW, 0, 0, 0]),
        ("socket_raw", number::SOCKET, [AF_INET, SOCK_RAW, 1, 0, 0]),
        ("socket_vsock", number::SOCKET, [AF_VSOCK, SOCK_STREAM, 0, 0, 0]),
    ];
    let mut report = String::new();
    for (name, number, arguments) in attempts {
        let _ = writeln!(report, "{name} {}", attempt(number, arguments));
    }
    let _ = std::io::stdout().write_all(report.as_bytes());
}
