//! A Docker Engine of one's own: to prune, to break, to restart.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::engine::Engine;
use super::leftovers::{mounts_below, processes_naming};
use super::poll::eventually;

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(60);

/// The host's uid that is root inside the containers of [`PrivateDocker::start_remapped`].
pub const REMAP_BASE: u32 = 100_000;

/// A second engine with its own data, containers, images and containerd, gone without trace when it is dropped.
#[derive(Debug)]
pub struct PrivateDocker {
    dir: TempDir,
    child: Option<Child>,
    extra: Vec<String>,
    remapped: bool,
}

impl PrivateDocker {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// When there is no `dockerd`, or it does not come up.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one with more arguments, such as `--live-restore`.
    ///
    /// # Panics
    /// When there is no `dockerd`, or it does not come up.
    pub async fn start_with(extra: &[&str]) -> Self {
        let mut docker = Self::prepare(extra);
        docker.resume().await;
        docker
    }

    /// Starts one that remaps container ids to the host's from [`REMAP_BASE`] on. It alone sees the range: the files of the
    /// machine that grant such ranges stay as they are.
    ///
    /// # Panics
    /// When there is no `dockerd`, or it does not come up.
    pub async fn start_remapped() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let mut docker = Self::prepare(&["--userns-remap=daemon:daemon"]);
        docker.remapped = true;
        // The remapped root passes through it to its images.
        std::fs::set_permissions(docker.dir.path(), std::fs::Permissions::from_mode(0o711))
            .expect("its mode can be set");
        std::fs::write(docker.path("ranges"), format!("daemon:{REMAP_BASE}:65536\n")).expect("a file of ranges");
        docker.resume().await;
        docker
    }

    fn prepare(extra: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("abd").tempdir_in("/tmp").expect("a directory under /tmp");
        Self { dir, child: None, extra: extra.iter().map(|&word| word.to_owned()).collect(), remapped: false }
    }

    fn program(&self) -> Command {
        if !self.remapped {
            return Command::new("dockerd");
        }
        let mut command = Command::new("unshare");
        let inside = r#"mount --bind "$0" /etc/subuid && mount --bind "$0" /etc/subgid && exec dockerd "$@""#;
        command.args(["--mount", "sh", "-c", inside]).arg(self.path("ranges"));
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path("docker.sock")
    }

    /// A looker at it.
    #[must_use]
    pub fn engine(&self) -> Engine {
        Engine::at(&self.socket())
    }

    /// Starts it (again) on the same data.
    ///
    /// # Panics
    /// When it does not come up; what it wrote is in the message.
    pub async fn resume(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log")).expect("a log file");
        // Where a containerd of the machine runs, dockerd uses that one: names of its own keep the two engines apart.
        let namespace = self.dir.path().file_name().and_then(|name| name.to_str()).expect("a plain name").to_owned();
        let child = self
            .program()
            .arg("--data-root")
            .arg(self.path("data"))
            .arg("--exec-root")
            .arg(self.path("exec"))
            .arg("--pidfile")
            .arg(self.path("pid"))
            .arg("--host")
            .arg(format!("unix://{}", self.socket().display()))
            .args(["--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"])
            .arg(format!("--containerd-namespace={namespace}"))
            .arg(format!("--containerd-plugins-namespace={namespace}-plugins"))
            .args(&self.extra)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log)
            .kill_on_drop(false)
            .spawn()
            .expect("dockerd can be started; it comes with the package docker.io");
        self.child = Some(child);
        let engine = self.engine();
        eventually("the private engine", START, async || {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = ended {
                let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
                panic!("dockerd ended with {status}:\n{log}");
            }
            if engine.answers().await { Ok(()) } else { Err("no answer".to_owned()) }
        })
        .await;
    }

    /// Stops it as an administrator would: its containers end with it, unless it lives without them.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn stop(&mut self) {
        self.end(Signal::SIGTERM).await;
    }

    /// Kills it. Its containers go on.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn kill9(&mut self) {
        self.end(Signal::SIGKILL).await;
        // Its containerd dies with it. Where nobody reaps that process its pid stays taken, and the next dockerd would
        // believe the pid file and wait for it.
        match std::fs::remove_file(self.path("exec/containerd/containerd.pid")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("containerd.pid: {error}"),
            _ => {}
        }
    }

    async fn end(&mut self, signal: Signal) {
        let Some(mut child) = self.child.take() else { return };
        if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
        tokio::time::timeout(STOP, child.wait()).await.expect("dockerd ends").expect("dockerd is waited for");
    }
}

impl Drop for PrivateDocker {
    fn drop(&mut self) {
        let dir = self.dir.path().to_owned();
        let socket = self.socket();
        let child = self.child.take().and_then(|child| child.id());
        // Dropping cannot wait for futures, and this thread may be driving some: another one does it.
        let ended = std::thread::scope(|scope| scope.spawn(|| take_down(&dir, &socket, child)).join());
        if ended.is_err() {
            eprintln!("the private engine in {} was not taken down", dir.display());
        }
    }
}

fn take_down(dir: &Path, socket: &Path, child: Option<u32>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let engine = Engine::at(socket);
        if let Some(pid) = child.and_then(|pid| i32::try_from(pid).ok()) {
            if engine.answers().await {
                let all = engine.try_call("GET", "/containers/json?all=true", None).await;
                for container in
                    all.map(|reply| reply.value()).ok().as_ref().and_then(|all| all.as_array()).into_iter().flatten()
                {
                    let id = container["Id"].as_str().unwrap_or_default();
                    let _ = engine.try_call("DELETE", &format!("/containers/{id}?force=true&v=true"), None).await;
                }
            }
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let own = dir.to_owned();
        let gone = tokio::time::timeout(STOP, async {
            // The engine, its containerd and its shims all name the directory on their command lines.
            let mut patience = 0;
            while !processes_naming(&own).is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
                patience += 1;
                if patience == 300 {
                    for (pid, _) in processes_naming(&own) {
                        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                    }
                }
            }
        })
        .await;
        if gone.is_err() {
            eprintln!("processes of the private engine are left: {:?}", processes_naming(&own));
        }
        for point in mounts_below(&own) {
            let _ = umount2(Path::new(&point), MntFlags::MNT_DETACH);
        }
    });
}
