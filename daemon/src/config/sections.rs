//! The plain sections: every key with its default and why it is that.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;

use super::origin::{Authority, Origin};
use super::section::sections;
use super::value::UidRange;
use super::words::{LogFormat, LogLevel};

/// The shortest time that can be written: timers are no finer.
const TICK: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// Ten years: longer is a slip of the pen.
const AGES: Duration = Duration::from_secs(3_650 * 86_400);

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

sections! {
    /// `[admin]`: who may use the admin socket besides root.
    Admin {
        /// The group whose members are operators; where there is no such group, root alone is.
        group: String = "agentbot".to_owned();
    }

    /// `[engine]`: the container engine and how long each kind of call may take.
    Engine {
        /// Its Unix socket; `None` means `DOCKER_HOST`, then `/var/run/docker.sock`.
        socket: Option<PathBuf> = None;
        /// Calls at work at the same time; `None` means twice the cores: the engine gains nothing from more.
        parallel: Option<u32> = None, in Some(1)..=Some(256);
        /// Looking at things. A healthy engine answers in milliseconds; a busy disk is given seconds.
        call_timeout: Duration = secs(10), in TICK..=HOUR;
        /// Creating a container: it writes to the engine's disk.
        create_timeout: Duration = secs(60), in TICK..=HOUR;
        /// Starting one: namespaces and cgroups are slow while many start at once.
        start_timeout: Duration = secs(60), in TICK..=HOUR;
        /// Loading the agent's image: a few MiB through the engine's unpacking.
        load_timeout: Duration = secs(120), in TICK..=HOUR;
        /// How often all containers are listed. Events are faster, the list is the truth.
        list_period: Duration = secs(5), in TICK..=HOUR;
    }

    /// `[store]`: the database.
    Store {
        /// Connections that read at the same time.
        readers: usize = 4, in 1..=64;
        /// Writes that may wait; beyond, callers are told that the daemon is busy.
        queue: usize = 1_024, in 1..=65_536;
        /// Writes that share one commit, at most.
        batch: usize = 256, in 1..=4_096;
    }

    /// `[slots]`: what agents run in.
    Slots {
        /// uids of agents, both ends included. Below 65536, so that userns-remap can map each of them.
        uid_range: UidRange = UidRange { first: 20_000, last: 59_999 };
        /// Agents that may exist, deleted ones that can still come back included.
        max: u32 = 1_000, in 1..=64_000;
        /// Memory that agents leave to the host.
        memory_reserve: ByteSize = ByteSize::mib(512), in ByteSize::b(0)..=ByteSize::tib(1);
    }

    /// `[limits]`: bounds of requests and connections.
    Limits {
        /// The largest request body; larger ones are answered 413.
        body: ByteSize = ByteSize::mib(1), in ByteSize::kib(1)..=ByteSize::mib(64);
        /// How much of a body over the limit is still read, so that the client sees the answer.
        drain: ByteSize = ByteSize::mib(8), in ByteSize::kib(1)..=ByteSize::mib(512);
        /// Connections to the admin socket at the same time.
        connections: usize = 2_048, in 1..=65_536;
        /// Connections from one agent at the same time: its link and a few requests beside it.
        agent_connections: usize = 8, in 2..=1_024;
        /// Time to send a request's head, from its first byte.
        header_timeout: Duration = secs(10), in TICK..=HOUR;
        /// Time a connection may lie idle between requests, and a body between its bytes.
        idle_timeout: Duration = secs(120), in TICK..=DAY;
        /// How long a lifecycle call waits for the outcome before it answers 202.
        operation_wait: Duration = secs(60), in TICK..=HOUR;
    }

    /// `[restart]`: what happens after an agent ended unasked.
    Restart {
        /// The first restart comes at once, the second after this, each further one after twice as long.
        base: Duration = secs(1), in TICK..=HOUR;
        /// The longest pause between restarts.
        max: Duration = secs(300), in TICK..=DAY;
        /// So many crashes within the window read as `crash_loop`.
        crash_loop_after: u32 = 5, in 2..=1_000;
        /// The window in which crashes are counted.
        crash_loop_window: Duration = secs(600), in TICK..=DAY;
        /// So long healthy, and former crashes are forgotten.
        healthy_after: Duration = secs(600), in TICK..=DAY;
        /// Between SIGTERM and SIGKILL.
        stop_grace: Duration = secs(10), in TICK..=HOUR;
    }

    /// `[beat]`: an agent's signs of life.
    Beat {
        /// How often an agent beats.
        period: Duration = secs(5), in TICK..=HOUR;
        /// So many missed in a row read as `unhealthy`.
        unhealthy_after: u32 = 3, in 1..=1_000;
        /// So many missed, and no answer to a ping, mean a restart.
        restart_after: u32 = 6, in 2..=1_000;
        /// Time from the container's start to the agent's hello.
        hello_timeout: Duration = secs(30), in TICK..=HOUR;
        /// Time to answer a ping.
        ping_timeout: Duration = secs(2), in TICK..=HOUR;
    }

    /// `[chat]`: turns and how long they may take, and clients.
    Chat {
        /// Time for an agent to say that it has a message.
        ack_timeout: Duration = secs(10), in TICK..=HOUR;
        /// Time without any sign of an answer after which it is given up: slow models think for a minute or two.
        turn_idle: Duration = secs(180), in TICK..=DAY;
        /// Time for a whole answer, tools included.
        turn_timeout: Duration = secs(1_800), in TICK..=DAY;
        /// How long `POST /api/chat` and its like wait for an answer before they say that it is still under way.
        reply_wait: Duration = secs(120), in TICK..=HOUR;
        /// How often a client's socket is pinged; three unanswered close it.
        ping: Duration = secs(30), in TICK..=HOUR;
    }

    /// `[events]`: how long things of the past are kept.
    Events {
        /// Events and ended operations.
        retention: Duration = 30 * DAY, in TICK..=AGES;
        /// Workspaces of deleted agents: the time in which a delete can be undone.
        deleted_retention: Duration = 30 * DAY, in TICK..=AGES;
        /// Idempotency keys and their answers.
        idempotency_retention: Duration = DAY, in TICK..=AGES;
    }

    /// `[log]`: what the daemon writes to stderr.
    Log {
        /// The least important kind that is written.
        level: LogLevel = LogLevel::Info;
        /// How a line looks.
        format: LogFormat = LogFormat::Auto;
    }

    /// `[http]`: the TCP door, for whoever holds an agent's gateway token.
    Http {
        /// Address and port, on loopback; `None` means the Unix socket alone.
        listen: Option<SocketAddr> = None;
        /// Names that requests may call the daemon by, besides its address, `localhost`, `127.0.0.1` and `[::1]`.
        allowed_hosts: Vec<Authority> = Vec::new();
        /// Origins of web pages that may call, besides the one that is called.
        allowed_origins: Vec<Origin> = Vec::new();
        /// Certificate and key; not in this version.
        tls: Option<Tls> = None;
        /// Connections at the same time: a socket per open page or program is the usual case.
        connections: usize = 2_048, in 1..=65_536;
        /// Connections that show the same token: more than a person's windows and a program's workers.
        token_connections: usize = 256, in 1..=65_536;
        /// Messages of one token in a minute by chat sockets; by HTTP it is 60, counted together with these.
        token_messages: usize = 300, in 1..=100_000;
    }
}

/// `[http] tls = { certificate = "…", key = "…" }`: PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}
