//! The duties of PID 1: end when told to, and bury every orphan.

use std::io;

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals an agent minds. The kernel keeps every other one from PID 1.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    child: Signal,
}

impl Signals {
    /// Catches the signals from now on.
    ///
    /// # Errors
    /// When the kernel refuses a handler.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            child: signal(SignalKind::child())?,
        })
    }

    /// Returns at the next SIGTERM or SIGINT; reaps children until then.
    pub async fn until_stop(&mut self) {
        loop {
            // Before every wait: one SIGCHLD may stand for many children, or be older than the handler.
            reap();
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.child.recv() => {}
            }
        }
    }
}

/// Collects every child that has ended.
fn reap() {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
            // Interrupted, or another child is buried: look again.
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}
