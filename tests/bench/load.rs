//! Row 9: reads and durable writes over the Unix socket at 32 connections.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use agentbot_tests::http::Connection;
use agentbot_tests::{Call, Daemon, Home, eventually};
use tokio::task::JoinSet;

use crate::figures::{PAIRS, Pairs, Table, Target};

/// The argument that makes this program the yardstick.
pub const HELLO: &str = "hello";

const CONNECTIONS: usize = 32;
const SPAN: Duration = Duration::from_secs(1);

/// A bare axum handler at this socket, with as many workers as the daemon has.
pub fn serve_hello(socket: &Path) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::bind(socket).expect("a socket to serve at");
        let app = axum::Router::new().route("/", axum::routing::get(async || "hello"));
        axum::serve(listener, app).await.expect("it serves until it is killed");
    });
}

/// The yardstick as a process, ended with this value.
struct Hello {
    child: Child,
    socket: PathBuf,
}

impl Hello {
    async fn start(home: &Home) -> Self {
        let socket = home.path().join("hello.sock");
        let program = std::env::current_exe().expect("this program has a path");
        let child = Command::new(program).arg(HELLO).arg(&socket).spawn().expect("the yardstick can be started");
        let hello = Self { child, socket };
        eventually("the yardstick", Duration::from_secs(10), async || Connection::open(&hello.socket).await.map(drop))
            .await;
        hello
    }
}

impl Drop for Hello {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Requests per second over a span, on kept connections, each answered below 300.
async fn rate(socket: &Path, call: Call) -> f64 {
    let end = Instant::now() + SPAN;
    let mut workers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (socket, call) = (socket.to_owned(), call.clone());
        workers.spawn(async move {
            let mut connection = Connection::open(&socket).await.expect("a connection");
            let mut done = 0_u32;
            while Instant::now() < end {
                let reply = connection.send(call.clone()).await.expect("an answer");
                assert!(reply.status < 300, "{reply}");
                done += 1;
            }
            done
        });
    }
    let done: u32 = workers.join_all().await.into_iter().sum();
    f64::from(done) / SPAN.as_secs_f64()
}

/// Commits per second of one row each, `synchronous=FULL`, one connection.
fn own_commits(path: &Path) -> f64 {
    let db = rusqlite::Connection::open(path).expect("a database");
    let begin = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
                 CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, text TEXT NOT NULL);";
    db.execute_batch(begin).expect("a table");
    let end = Instant::now() + SPAN;
    let mut done = 0_u32;
    while Instant::now() < end {
        db.execute("INSERT INTO t (text) VALUES ('one durable row')", []).expect("room for a row");
        done += 1;
    }
    f64::from(done) / SPAN.as_secs_f64()
}

pub async fn reads_and_writes(daemon: &Daemon, table: &mut Table) {
    let home = Home::new();
    let hello = Hello::start(&home).await;
    let socket = daemon.home().socket();
    daemon.running("target").await;
    let read = Call::get("/api/instance/target");
    // Already so: nothing but the operation's row is written.
    let write = Call::post("/api/instance/target/start");
    let (mut reads, mut writes, mut commits) = (Pairs::default(), Pairs::default(), Pairs::default());
    for _ in 0..PAIRS {
        let bare = rate(&hello.socket, Call::get("/")).await;
        reads.add(rate(&socket, read.clone()).await, bare);
        let written = rate(&socket, write.clone()).await;
        writes.add(written, bare);
        let path = home.path().join("yardstick.db");
        let own = tokio::task::spawn_blocking(move || own_commits(&path)).await.expect("the yardstick ran");
        commits.add(written, own);
    }
    daemon.purge("target").await;
    table.ratio(9, "read of one agent, 32 connections", "/s", reads, "bare axum hello", Target::AtLeast(0.35));
    table.ratio(9, "durable write, 32 connections", "/s", commits, "own FULL commits", Target::AtLeast(3.0));
    table.ratio(9, "durable write, 32 connections", "/s", writes, "bare axum hello", None);
}
