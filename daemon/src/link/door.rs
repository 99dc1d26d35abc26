//! The sockets of agents: one directory and listener per slot, for that slot's uid alone.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
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

/// Device and inode: which file it is, under whatever path.
type FileId = (u64, u64);

/// A door that was opened. Its listener ends with it.
struct Door {
    dir: PathBuf,
    socket: FileId,
    _listening: DropGuard,
}

/// The open doors.
#[derive(Clone)]
pub struct Doors {
    open: Arc<Mutex<HashMap<SlotId, Door>>>,
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

    fn table(&self) -> MutexGuard<'_, HashMap<SlotId, Door>> {
        // Every statement leaves the map whole, so a panic elsewhere cannot have broken it.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a slot's door is open: whoever looks into its directory finds the nonce and the socket that is listened
    /// on. A listener whose socket was taken away can be reached by nobody; it ends here.
    pub async fn is_open(&self, slot: &SlotId) -> bool {
        let Some((dir, socket)) = self.table().get(slot).map(|door| (door.dir.clone(), door.socket)) else {
            return false;
        };
        let whole = tokio::task::spawn_blocking(move || is_whole(&dir, socket)).await.unwrap_or(false);
        if !whole {
            let mut table = self.table();
            // Only the door that was looked at: another one may have been opened meanwhile.
            if table.get(slot).is_some_and(|door| door.socket == socket) {
                table.remove(slot);
            }
        }
        whole
    }

    /// Opens a slot's door; one that is open stays so. The directory is made if absent and never replaced: a running
    /// container may have it mounted.
    ///
    /// # Errors
    /// When directory, nonce or socket cannot be made.
    pub async fn open(&self, spec: DoorSpec) -> Result<()> {
        if self.is_open(&spec.slot).await {
            return Ok(());
        }
        let (slot, uid, dir) = (spec.slot.clone(), spec.host_uid, spec.dir.clone());
        let (listener, socket) = tokio::task::spawn_blocking(move || bind(&spec))
            .await
            .map_err(Error::internal)?
            .and_then(|(listener, socket)| Ok((UnixListener::from_std(listener)?, socket)))
            .map_err(|error| refuse(&dir, error))?;
        let stop = self.stop.child_token();
        let door = Door { dir, socket, _listening: stop.clone().drop_guard() };
        // The listener of a door that stood here ends with it.
        self.table().insert(slot.clone(), door);
        self.tasks.spawn(accept(listener, slot, uid, self.accepted.clone(), stop));
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

fn is_whole(dir: &Path, socket: FileId) -> bool {
    file_id(&dir.join(SOCKET)).is_ok_and(|found| found == socket) && dir.join(NONCE).is_file()
}

fn file_id(path: &Path) -> io::Result<FileId> {
    path.symlink_metadata().map(|found| (found.dev(), found.ino()))
}

fn bind(spec: &DoorSpec) -> io::Result<(std::os::unix::net::UnixListener, FileId)> {
    let gid = Gid::from_raw(spec.host_uid);
    make_dir(&spec.dir, gid)?;
    write_nonce(&spec.dir, spec.nonce.expose(), gid)?;
    let (unborn, socket) = (spec.dir.join(UNBORN), spec.dir.join(SOCKET));
    remove_if_there(&unborn)?;
    let listener = std::os::unix::net::UnixListener::bind(&unborn)?;
    own(&unborn, gid, 0o660)?;
    let id = file_id(&unborn)?;
    std::fs::rename(&unborn, &socket)?;
    listener.set_nonblocking(true)?;
    Ok((listener, id))
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

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    struct Scene {
        _home: TempDir,
        doors: Doors,
        queue: mpsc::Receiver<Accepted>,
        spec: DoorSpec,
    }

    /// A slot whose agent has the uid that runs the tests; its group may be given away by root alone.
    fn scene() -> Option<Scene> {
        let uid = nix::unistd::geteuid();
        if !uid.is_root() {
            return None;
        }
        let home = TempDir::new().unwrap();
        let (accepted, queue) = mpsc::channel(4);
        let doors = Doors::new(accepted, TaskTracker::new(), CancellationToken::new());
        let nonce = Secret::new("n".to_owned());
        let spec = DoorSpec { slot: SlotId::mint(), dir: home.path().join("run"), host_uid: uid.as_raw(), nonce };
        Some(Scene { _home: home, doors, queue, spec })
    }

    async fn knock(scene: &mut Scene) -> bool {
        let Ok(_stream) = UnixStream::connect(scene.spec.dir.join(SOCKET)).await else { return false };
        tokio::time::timeout(Duration::from_secs(5), scene.queue.recv()).await.is_ok_and(|heard| heard.is_some())
    }

    #[tokio::test]
    async fn a_door_that_is_opened_twice_is_one_door() {
        let Some(mut scene) = scene() else { return };
        assert!(!scene.doors.is_open(&scene.spec.slot).await);
        scene.doors.open(scene.spec.clone()).await.unwrap();
        let first = file_id(&scene.spec.dir.join(SOCKET)).unwrap();
        scene.doors.open(scene.spec.clone()).await.unwrap();
        assert_eq!(file_id(&scene.spec.dir.join(SOCKET)).unwrap(), first);
        assert!(scene.doors.is_open(&scene.spec.slot).await);
        assert!(knock(&mut scene).await);
    }

    #[tokio::test]
    async fn a_door_without_its_directory_socket_or_nonce_is_not_open_and_can_be_opened_again() {
        let Some(mut scene) = scene() else { return };
        let dir = scene.spec.dir.clone();
        let harms: [(&str, &dyn Fn()); 4] = [
            ("the directory is gone", &|| std::fs::remove_dir_all(&dir).unwrap()),
            ("the socket is gone", &|| std::fs::remove_file(dir.join(SOCKET)).unwrap()),
            ("the nonce is gone", &|| std::fs::remove_file(dir.join(NONCE)).unwrap()),
            ("somebody else's socket stands there", &|| {
                std::fs::remove_file(dir.join(SOCKET)).unwrap();
                drop(std::os::unix::net::UnixListener::bind(dir.join(SOCKET)).unwrap());
            }),
        ];
        for (what, harm) in harms {
            scene.doors.open(scene.spec.clone()).await.unwrap();
            assert!(knock(&mut scene).await, "before: {what}");
            harm();
            assert!(!scene.doors.is_open(&scene.spec.slot).await, "{what}");
            scene.doors.open(scene.spec.clone()).await.unwrap();
            assert!(scene.doors.is_open(&scene.spec.slot).await, "{what}");
            assert!(knock(&mut scene).await, "after: {what}");
        }
    }

    #[tokio::test]
    async fn a_door_that_took_anothers_place_is_listened_at() {
        let Some(mut scene) = scene() else { return };
        scene.doors.open(scene.spec.clone()).await.unwrap();
        std::fs::remove_file(scene.spec.dir.join(SOCKET)).unwrap();
        // Nobody asked whether it is open in between: the table still has the door without a socket.
        scene.doors.open(scene.spec.clone()).await.unwrap();
        assert!(knock(&mut scene).await);
    }

    #[tokio::test]
    async fn a_closed_door_has_no_socket_and_keeps_its_directory() {
        let Some(mut scene) = scene() else { return };
        scene.doors.open(scene.spec.clone()).await.unwrap();
        scene.doors.close(&scene.spec.slot, &scene.spec.dir).await;
        assert!(!scene.doors.is_open(&scene.spec.slot).await);
        assert!(scene.spec.dir.is_dir());
        assert!(!knock(&mut scene).await);
    }
}
