//! The sockets of agents: one directory and listener per slot, for that slot's uid alone.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agentbot_wire::{Code, SlotId};
use nix::unistd::{Gid, Uid};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::error::{Error, Result};
use crate::secret::Secret;

/// Name of the socket in the slot's directory.
const SOCKET: &str = "agentbot.sock";
/// Name under which it is bound before it is moved into place.
const UNBORN: &str = ".new";
/// Name of the file with the nonce.
const NONCE: &str = "nonce";
/// Pause after an accept failed, mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection from the right uid on a slot's socket.
#[derive(Debug)]
pub struct Accepted {
    /// Whose socket it came in by.
    pub slot: SlotId,
    /// The connection.
    pub stream: UnixStream,
}

/// What a door is made from.
#[derive(Clone, Debug)]
pub struct DoorSpec {
    /// Whose it is.
    pub slot: SlotId,
    /// The directory that the container mounts.
    pub dir: PathBuf,
    /// The only uid that may connect, as the host sees it; also the gid that may open socket and nonce.
    pub host_uid: u32,
    /// What the agent must show.
    pub nonce: Secret<String>,
}

/// The open doors.
#[derive(Clone)]
pub struct Doors {
    open: Arc<Mutex<HashMap<SlotId, DropGuard>>>,
    accepted: mpsc::Sender<Accepted>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Doors {
    /// No door yet. Connections go to `accepted`; `stop` closes all.
    #[must_use]
    pub fn new(accepted: mpsc::Sender<Accepted>, tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self { open: Arc::default(), accepted, tasks, stop }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<SlotId, DropGuard>> {
        // Every statement leaves the map whole, so a panic elsewhere cannot have broken it.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a slot's door is open.
    #[must_use]
    pub fn is_open(&self, slot: &SlotId) -> bool {
        self.table().contains_key(slot)
    }

    /// Opens a slot's door; one that is open stays so. The directory is made if absent and never replaced: a running
    /// container may have it mounted.
    ///
    /// # Errors
    /// When directory, nonce or socket cannot be made.
    pub async fn open(&self, spec: DoorSpec) -> Result<()> {
        if self.is_open(&spec.slot) {
            return Ok(());
        }
        let (slot, uid) = (spec.slot.clone(), spec.host_uid);
        let dir = spec.dir.clone();
        let listener = tokio::task::spawn_blocking(move || bind(&spec))
            .await
            .map_err(Error::internal)?
            .and_then(UnixListener::from_std)
            .map_err(|error| refuse(&dir, error))?;
        let stop = self.stop.child_token();
        let guard = stop.clone().drop_guard();
        if self.table().insert(slot.clone(), guard).is_none() {
            self.tasks.spawn(accept(listener, slot, uid, self.accepted.clone(), stop));
        }
        Ok(())
    }

    /// Closes a slot's door to new connections and takes its socket away. The directory stays.
    pub async fn close(&self, slot: &SlotId, dir: &Path) {
        self.table().remove(slot);
        let socket = dir.join(SOCKET);
        // A socket that is not there any more is as closed as can be.
        let _ = tokio::task::spawn_blocking(move || std::fs::remove_file(socket)).await;
    }
}

fn refuse(dir: &Path, error: io::Error) -> Error {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::StorageFull,
        _ => Code::Internal,
    };
    Error::new(code, format!("the agent's socket could not be made: {error}"))
        .hint(format!("look at the directory {}", dir.display()))
        .caused_by(error)
}

fn bind(spec: &DoorSpec) -> io::Result<std::os::unix::net::UnixListener> {
    let gid = Gid::from_raw(spec.host_uid);
    make_dir(&spec.dir, gid)?;
    write_nonce(&spec.dir, spec.nonce.expose(), gid)?;
    let (unborn, socket) = (spec.dir.join(UNBORN), spec.dir.join(SOCKET));
    remove_if_there(&unborn)?;
    let listener = std::os::unix::net::UnixListener::bind(&unborn)?;
    own(&unborn, gid, 0o660)?;
    std::fs::rename(&unborn, &socket)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn make_dir(dir: &Path, gid: Gid) -> io::Result<()> {
    match std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir) {
        Ok(()) => own(dir, gid, 0o750),
        Err(error) => Err(error),
    }
}

fn write_nonce(dir: &Path, nonce: &str, gid: Gid) -> io::Result<()> {
    use std::io::Write;
    let (unborn, file) = (dir.join(".nonce"), dir.join(NONCE));
    remove_if_there(&unborn)?;
    let mut open = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(&unborn)?;
    open.write_all(nonce.as_bytes())?;
    open.sync_all()?;
    own(&unborn, gid, 0o440)?;
    std::fs::rename(unborn, file)
}

fn own(path: &Path, gid: Gid, mode: u32) -> io::Result<()> {
    nix::unistd::chown(path, Some(Uid::from_raw(0)), Some(gid))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

async fn accept(
    listener: UnixListener,
    slot: SlotId,
    uid: u32,
    accepted: mpsc::Sender<Accepted>,
    stop: CancellationToken,
) {
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            stream = listener.accept() => stream,
        };
        match stream {
            Ok((stream, _)) => match stream.peer_cred() {
                Ok(peer) if peer.uid() == uid => {
                    if accepted.send(Accepted { slot: slot.clone(), stream }).await.is_err() {
                        return;
                    }
                }
                peer => {
                    let found = peer.map(|peer| peer.uid()).ok();
                    tracing::warn!(slot.id = %slot, peer.uid = ?found, wanted.uid = uid, "stranger on an agent socket");
                }
            },
            Err(error) => {
                tracing::warn!(slot.id = %slot, %error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
