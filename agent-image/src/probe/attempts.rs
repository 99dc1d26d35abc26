//! What a locked-down process is refused. Each attempt that succeeds is undone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Command, Stdio};

use io_uring::IoUring;
use linux_keyutils::{KeyError, KeyRing, KeyRingIdentifier};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Uid, chroot, gethostname, sethostname, setuid};

use super::files::{scratch, try_write};
use super::{WORKSPACE, outcome};

/// Where nothing should be run from.
const TMP: &str = "/tmp";

/// Where files may be made for an attempt: the first that lets itself be written.
const SCRATCH: [&str; 2] = [TMP, WORKSPACE];

/// A name and what is tried under it.
type Attempt = (&'static str, fn() -> io::Result<()>);

/// Tries everything, what changes this very process last.
pub fn all() -> BTreeMap<&'static str, String> {
    let attempts: [Attempt; 18] = [
        ("mount", try_mount),
        ("mknod", try_mknod),
        ("chown_to_root", try_chown),
        ("exec_from_tmp", try_exec),
        ("sethostname", || Ok(sethostname(gethostname()?)?)),
        ("chroot", || Ok(chroot("/")?)),
        ("raw_socket", || open(AddressFamily::Inet, SockType::Raw, Some(SockProtocol::Icmp))),
        ("raw_socket_v6", || open(AddressFamily::Inet6, SockType::Raw, Some(SockProtocol::IcmpV6))),
        ("packet_socket", || open(AddressFamily::Packet, SockType::Raw, None)),
        ("vsock_socket", || open(AddressFamily::Vsock, SockType::Stream, None)),
        ("alg_socket", || open(AddressFamily::Alg, SockType::SeqPacket, None)),
        ("io_uring", || IoUring::new(1).map(drop)),
        ("keyctl", || KeyRing::from_special_id(KeyRingIdentifier::Session, false).map(drop).map_err(key_error)),
        ("setuid_root", || Ok(setuid(Uid::from_raw(0))?)),
        ("unshare_mount", || Ok(unshare(CloneFlags::CLONE_NEWNS)?)),
        ("unshare_net", || Ok(unshare(CloneFlags::CLONE_NEWNET)?)),
        ("unshare_pid", || Ok(unshare(CloneFlags::CLONE_NEWPID)?)),
        ("unshare_user", || Ok(unshare(CloneFlags::CLONE_NEWUSER)?)),
    ];
    attempts.into_iter().map(|(name, attempt)| (name, outcome(attempt()))).collect()
}

fn somewhere() -> &'static Path {
    Path::new(SCRATCH.into_iter().find(|directory| try_write(Path::new(directory)) == "ok").unwrap_or(TMP))
}

fn open(family: AddressFamily, kind: SockType, protocol: Option<SockProtocol>) -> io::Result<()> {
    socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol)?;
    Ok(())
}

fn try_mount() -> io::Result<()> {
    let path = scratch(somewhere(), "mount");
    fs::create_dir(&path)?;
    let mounted = mount(Some("none"), &path, Some("tmpfs"), MsFlags::empty(), None::<&str>);
    if mounted.is_ok() {
        umount2(&path, MntFlags::MNT_DETACH)?;
    }
    fs::remove_dir(path)?;
    Ok(mounted?)
}

fn try_mknod() -> io::Result<()> {
    let path = scratch(somewhere(), "null");
    mknod(&path, SFlag::S_IFCHR, Mode::S_IRUSR, makedev(1, 3))?;
    fs::remove_file(path)
}

fn try_chown() -> io::Result<()> {
    let path = scratch(somewhere(), "chown");
    File::create_new(&path)?;
    let changed = chown(&path, Some(0), Some(0));
    fs::remove_file(path)?;
    changed
}

/// Copies this program to a place where nothing should be run, and runs it there.
fn try_exec() -> io::Result<()> {
    let path = scratch(Path::new(TMP), "exec");
    let ran = fs::copy("/proc/self/exe", &path).and_then(|_| {
        let quiet = Command::new(&path).arg("version").stdin(Stdio::null()).stdout(Stdio::null()).status();
        quiet.map(drop)
    });
    // Not there if the copy could not be made; the attempt's own error says so.
    let _ = fs::remove_file(path);
    ran
}

fn key_error(error: KeyError) -> io::Error {
    match error {
        KeyError::PermissionDenied => Errno::EPERM.into(),
        KeyError::AccessDenied => Errno::EACCES.into(),
        KeyError::KeyDoesNotExist => Errno::ENOKEY.into(),
        KeyError::Unknown(code) => io::Error::from_raw_os_error(code),
        other => io::Error::other(format!("{other:?}")),
    }
}
