//! The whole daemon: build, bind, spawn, drain.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentbot_wire::Code;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::chat::{self, Chat};
use crate::config::{self, Config, Live, Loaded};
use crate::engine::docker::{Docker, Timeouts};
use crate::engine::presence::Presence;
use crate::error::{Error, Result};
use crate::events::Events;
use crate::gateway::Gateway;
use crate::http;
use crate::identity::{Admission, DaemonKey, DaemonLock, Leases};
use crate::instance::{self, AgentImage, Audit, Context, Housekeeping, Instances, Pulse, SlotDirs};
use crate::link::{Doors, Links};
use crate::memory::Memory;
use crate::stats::{HostSampler, Sampling};
use crate::store::{Store, StoreOptions, dirs, instances, slots};
use crate::task::{Activator, Driver, Marks};

mod systemd;

/// Time that steps under way get at the end; the rest resumes at the next start.
const DRAIN: Duration = Duration::from_secs(10);
/// Connections of agents that wait to be served.
const ACCEPT_QUEUE: usize = 64;
/// How often the event log is read when nothing says that it has grown.
const PHASES: Duration = Duration::from_secs(5);
/// How often the host is sampled.
const SAMPLING: Duration = Duration::from_secs(5);
/// How often what goes by itself is looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(3600);

/// Where the daemon's things are.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The configuration file, where one was named.
    pub config: Option<PathBuf>,
    /// State.
    pub state: PathBuf,
    /// Sockets of this run.
    pub runtime: PathBuf,
    /// The agent binary, where one was named.
    pub agent_binary: Option<PathBuf>,
    /// `DOCKER_HOST`.
    pub docker_host: Option<String>,
}

/// A daemon that is bound and ready to serve.
pub struct App {
    context: Arc<Context>,
    chat: Chat,
    audit: Audit,
    pulse: Pulse,
    state: http::State,
    admission: Arc<Admission>,
    admin: http::AdminListener,
    tcp: Option<http::TcpDoor>,
    accepted: mpsc::Receiver<crate::link::Accepted>,
    driver: Driver,
    tasks: TaskTracker,
    stop: CancellationToken,
    watch: config::Watch,
    store: Store,
    _lock: DaemonLock,
}

impl App {
    /// Takes the state directory, opens the database, and binds the admin socket. Nothing is served yet.
    ///
    /// # Errors
    /// Whatever keeps the daemon from starting, each with a hint.
    pub async fn build(paths: &Paths, loaded: Loaded) -> Result<Self> {
        let (state_dir, socket) = (paths.state.clone(), admin_socket(paths));
        let engine_socket = config::engine_socket(&loaded.config.engine, paths.docker_host.as_deref())
            .map_err(|mistakes| Error::new(Code::Invalid, mistakes.to_string()))?;
        let config = Arc::new(loaded.config.clone());
        let live = Live::new(loaded);
        let admission = Arc::new(Admission::new(config.admin.group.clone()));
        let opened = {
            let (config, state_dir) = (Arc::clone(&config), state_dir.clone());
            tokio::task::spawn_blocking(move || open_state(&state_dir, &config)).await.map_err(Error::internal)??
        };
        let StateDir { lock, store, daemon_id } = opened;
        // A key that is missing though agents exist was lost: a new one would disown their containers.
        let may_create = store.read(|conn| slots::count(conn).map(|slots| slots == 0)).await?;
        store.write(|conn| instances::unsee(conn, crate::store::now())).await?;
        let key_file = state_dir.join("key");
        let key = tokio::task::spawn_blocking(move || DaemonKey::load_or_create(&key_file, may_create))
            .await
            .map_err(Error::internal)??;
        instance::hash_tokens(&store, &key).await?;
        let mut warnings: Vec<String> = admission.warning().await?.into_iter().collect();
        let gid = admission.group_id().await?;
        prepare_runtime(&paths.runtime, gid)?;
        let admin = http::bind_admin(&socket, gid)?;
        let tcp = http::bind_tcp(&config.http).await?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (door, accepted) = mpsc::channel(ACCEPT_QUEUE);
        let wakes = Marks::new();
        let agent_binary = agent_binary(paths.agent_binary.as_deref());
        if !agent_binary.is_file() {
            warnings.push(format!("there is no agent binary at {}; no agent can be made", agent_binary.display()));
        }
        let context = Arc::new(Context {
            store: store.clone(),
            events: Events::default(),
            presence: Presence::new(Arc::new(docker(&engine_socket, &config))),
            links: Links::new(wakes.clone()),
            doors: Doors::new(door, tasks.clone(), stop.clone()),
            key,
            leases: Leases::default(),
            daemon_id,
            config: live.clone(),
            dirs: SlotDirs::new(&state_dir),
            wakes,
            asks: Marks::new(),
            image: AgentImage::new(agent_binary, env!("CARGO_PKG_VERSION")),
        });
        let memory = Memory::new(store.clone());
        let chat = Chat::new(chat::Parts {
            store: store.clone(),
            memory: memory.clone(),
            links: context.links.clone(),
            config: live.clone(),
            tasks: tasks.clone(),
            runtime: tokio::runtime::Handle::current(),
            stop: stop.clone(),
        });
        let driver = Driver::new(tasks.clone(), stop.clone());
        let watch = config::follow(&driver, paths.config.as_deref(), &live);
        let audit = Audit::default();
        let daemon = http::DaemonView {
            context: Arc::clone(&context),
            audit: audit.clone(),
            driver: driver.clone(),
            host: HostSampler::new()?,
            started_at: jiff::Timestamp::now(),
            state_dir: state_dir.display().to_string(),
            warnings,
        };
        let state = http::State {
            instances: Instances::new(Arc::clone(&context), stop.clone()),
            memory,
            gateway: Gateway::new(store.clone(), live.clone(), tasks.clone()),
            daemon: Arc::new(daemon),
            chat: chat.clone(),
            config: live,
            tasks: tasks.clone(),
            clients: Arc::default(),
        };
        Ok(Self {
            context,
            chat,
            audit,
            pulse: Pulse::default(),
            state,
            admission,
            admin,
            tcp,
            accepted,
            driver,
            tasks,
            stop,
            watch,
            store,
            _lock: lock,
        })
    }

    /// Serves until `shutdown`, then drains: no new connections, running requests and steps get their time, the rest
    /// resumes at the next start. Containers keep running.
    ///
    /// # Errors
    /// When the database cannot be closed in order.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<()> {
        let Self {
            context,
            chat,
            audit,
            pulse,
            state,
            admission,
            admin,
            tcp,
            accepted,
            driver,
            tasks,
            stop,
            watch,
            store,
            _lock,
        } = self;
        let config = context.config.load();
        let bounds = http::Bounds {
            connections: config.limits.connections,
            header_timeout: config.limits.header_timeout,
            idle_timeout: config.limits.idle_timeout,
            unread_timeout: config.limits.idle_timeout,
        };
        let host = state.daemon.host.clone();
        let left_open = chat.resume().await?;
        tracing::info!(turns = left_open, "open turns taken up");
        if let Some(door) = tcp {
            // Anybody may hold a connection open before it is known who it is: there it may not lie idle for long.
            let idle_timeout = config.limits.header_timeout;
            let bounds = http::Bounds { connections: config.http.connections, idle_timeout, ..bounds };
            let (router, counts) = (http::tcp_router(state.clone()), Arc::clone(&state.clients));
            tasks.spawn(http::serve_tcp(door, router, bounds, counts, tasks.clone(), stop.clone()));
        }
        let gateway = state.gateway.clone();
        let router = http::admin_router(state);
        tasks.spawn(http::serve_admin(admin, router, admission, bounds, tasks.clone(), stop.clone()));
        tasks.spawn(http::serve_agents(
            Arc::clone(&context),
            Arc::new(chat.clone()),
            gateway,
            accepted,
            http::Bounds { connections: config.limits.agent_connections, ..bounds },
            tasks.clone(),
            stop.clone(),
        ));
        chat::Clock::start(&driver, &chat);
        let follow = Activator::new();
        driver.wake_on_change(context.events.subscribe(), follow.clone());
        driver.spawn(chat::Phases::from_now(chat).await?, || PHASES, follow);
        driver.spawn(Sampling(host), || SAMPLING, Activator::new());
        driver.spawn(Housekeeping(Arc::clone(&context)), || HOUSEKEEPING, Activator::new());
        systemd::ready();
        systemd::keep_alive(&tasks, pulse.clone(), stop.clone());
        let reconciler = tasks.spawn(instance::run(Arc::clone(&context), audit, pulse, stop.clone(), DRAIN));
        tracing::info!("serving");
        shutdown.await;
        tracing::info!("draining");
        systemd::stopping();
        stop.cancel();
        drop(watch);
        tasks.close();
        // The reconciler has the drain time to itself; connections end with the request they are at.
        let drained = async {
            let _ = reconciler.await;
            tasks.wait().await;
        };
        if tokio::time::timeout(DRAIN + Duration::from_secs(1), drained).await.is_err() {
            tracing::warn!("not everything ended in time; it resumes at the next start");
        }
        store.close().await
    }
}

struct StateDir {
    lock: DaemonLock,
    store: Store,
    daemon_id: String,
}

fn open_state(state: &Path, config: &Config) -> Result<StateDir> {
    dirs::prepare(state, false)?;
    let lock = DaemonLock::acquire(&state.join("lock"))?;
    let options = StoreOptions {
        queue: config.store.queue,
        batch: config.store.batch,
        readers: config.store.readers,
        ..StoreOptions::default()
    };
    let opened = Store::open(&state.join("agentbot.db"), options)?;
    if let Some(migrated) = &opened.migrated {
        tracing::info!(?migrated, "the database was migrated");
    }
    Ok(StateDir { lock, store: opened.store, daemon_id: opened.daemon_id })
}

fn docker(socket: &Path, config: &Config) -> Docker {
    let engine = &config.engine;
    let timeouts = Timeouts {
        quick: engine.call_timeout,
        create: engine.create_timeout,
        start: engine.start_timeout,
        load: engine.load_timeout,
    };
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let parallel = engine.parallel.and_then(|parallel| usize::try_from(parallel).ok()).unwrap_or(2 * cores);
    Docker::connect(socket, timeouts, parallel)
}

fn admin_socket(paths: &Paths) -> PathBuf {
    paths.runtime.join("agentbot.sock")
}

/// The directory of the admin socket: root and the group may enter.
fn prepare_runtime(dir: &Path, gid: Option<u32>) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let prepare = || -> std::io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        nix::unistd::chown(dir, Some(nix::unistd::Uid::from_raw(0)), gid.map(nix::unistd::Gid::from_raw))?;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o750))
    };
    prepare().map_err(|error| {
        Error::new(Code::Internal, format!("the runtime directory {} cannot be used: {error}", dir.display()))
            .hint("name another one with --runtime-dir")
    })
}

/// The agent binary: the one that was named, else beside the daemon, else in `<prefix>/lib/agentbot`.
fn agent_binary(named: Option<&Path>) -> PathBuf {
    const NAME: &str = "agentbot-agent";
    if let Some(named) = named {
        return named.to_owned();
    }
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned())).unwrap_or_default();
    let installed = beside.parent().map(|prefix| prefix.join("lib/agentbot").join(NAME));
    let beside = beside.join(NAME);
    installed.filter(|installed| installed.is_file() && !beside.is_file()).unwrap_or(beside)
}
