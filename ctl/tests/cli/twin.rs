//! A daemon without an engine: agents and operations in memory, operations that take time, and faults on demand.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use agentbot_wire::OperationId;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::chat::Job;
pub use crate::core::error;
use crate::core::{Seen, State};
pub use crate::things::agent;

/// The running twin; it ends when dropped.
pub struct Twin {
    directory: tempfile::TempDir,
    state: Arc<Mutex<State>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Twin {
    /// A twin with agents of these names, all running.
    pub fn with(names: &[&str]) -> Self {
        let state = State::with(names);
        let directory = tempfile::tempdir().unwrap();
        let mut twin = Self { directory, state: Arc::new(Mutex::new(state)), stop: None, thread: None };
        twin.serve();
        twin
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("agentbot.sock")
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Requests that change something, in order.
    pub fn changes(&self) -> Vec<Seen> {
        self.state().seen.iter().filter(|seen| seen.method != "GET").cloned().collect()
    }

    /// Listens; after [`Self::away`] with the same state.
    pub fn serve(&mut self) {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (socket, state) = (self.socket(), Arc::clone(&self.state));
        self.stop = Some(stop);
        self.thread = Some(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = UnixListener::bind(&socket).unwrap();
                let (jobs, todo) = mpsc::channel(64);
                state.lock().unwrap().serve(&state, jobs);
                ready.send(()).unwrap();
                tokio::select! {
                    () = accept(listener, state, todo) => {}
                    _ = stopped => {}
                }
            });
        }));
        is_ready.recv().unwrap();
    }

    /// Ends the listener, as a daemon that was stopped.
    pub fn away(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        let _ = std::fs::remove_file(self.socket());
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        self.away();
    }
}

async fn accept(listener: UnixListener, state: Arc<Mutex<State>>, mut todo: mpsc::Receiver<Job>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted.unwrap(),
            Some(job) = todo.recv() => {
                connections.spawn(job);
                continue;
            }
        };
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(|request| answer(Arc::clone(&state), request));
            // A connection that a test broke off is what the test wanted.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
        });
    }
}

#[derive(Debug)]
struct Dropped;
impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("dropped on purpose")
    }
}
impl std::error::Error for Dropped {}
impl From<Infallible> for Dropped {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Answers an upgrade, and serves the socket once it stands.
fn upgrade(state: &Arc<Mutex<State>>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let header = |name: &str| request.headers().get(name).unwrap().clone();
    assert_eq!(header("sec-websocket-protocol"), agentbot_wire::CHAT_PROTOCOL);
    let accept = derive_accept_key(header("sec-websocket-key").as_bytes());
    let of = Arc::clone(state);
    let jobs = state.lock().unwrap().chats.jobs.clone().unwrap();
    let job: Job = Box::pin(async move {
        let stream = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
        crate::chat_socket::serve(of, WebSocketStream::from_raw_socket(stream, Role::Server, None).await).await;
    });
    jobs.try_send(job).unwrap_or_else(|_| panic!("too many sockets at once"));
    let builder = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "websocket");
    let builder = builder.header("sec-websocket-accept", accept);
    builder.header("sec-websocket-protocol", agentbot_wire::CHAT_PROTOCOL).body(Full::default()).unwrap()
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Dropped> {
    if request.uri().path() == "/api/chat/ws" {
        return Ok(upgrade(&state, request));
    }
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let mut seen = Seen {
        method: request.method().to_string(),
        path: request.uri().to_string(),
        key: header("idempotency-key"),
        prefer: header("prefer"),
        body: String::new(),
    };
    seen.body = String::from_utf8(request.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    // A wait is answered when the operation has ended, or after its time.
    if let Some((id, seconds)) = wait_of(&seen.path) {
        let until = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < until && !state.lock().unwrap().operation(&id).is_some_and(|it| it.status.is_ended()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let (status, body) = {
        let mut state = state.lock().unwrap();
        state.seen.push(seen.clone());
        let reply = match &state.refusal {
            Some(refusal) => refusal.clone(),
            None => state.handle(&seen).unwrap_or_else(|error| error),
        };
        if seen.method != "GET" && state.lose_answers > 0 {
            state.lose_answers -= 1;
            return Err(Dropped);
        }
        reply
    };
    Ok(Response::builder().status(status).body(Full::new(Bytes::from(body.to_string()))).unwrap())
}

fn wait_of(path: &str) -> Option<(OperationId, u64)> {
    let (id, seconds) = path.strip_prefix("/api/operations/")?.split_once("/wait?timeout=")?;
    Some((id.parse().ok()?, seconds.parse().ok()?))
}

/// A listener that reads a request and sends these bytes, then closes; without bytes it never answers.
pub struct Raw {
    directory: tempfile::TempDir,
}

impl Raw {
    pub fn answering(bytes: Option<Vec<u8>>) -> Self {
        use std::io::{Read as _, Write as _};
        let directory = tempfile::tempdir().unwrap();
        let listener = std::os::unix::net::UnixListener::bind(directory.path().join("agentbot.sock")).unwrap();
        // It ends with the test's process: nobody waits for it.
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                match &bytes {
                    None => open.push(stream),
                    Some(bytes) => {
                        let _ = stream.read(&mut [0; 4096]);
                        let _ = stream.write_all(bytes);
                    }
                }
            }
        });
        Self { directory }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("agentbot.sock")
    }
}

/// A socket's path where nothing is.
pub fn nowhere(directory: &Path) -> PathBuf {
    directory.join("none.sock")
}
