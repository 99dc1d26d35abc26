//! A socket between the daemon and its engine that breaks what passes through it, call by call.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

type Failure = std::io::Error;
type Body = BoxBody<Bytes, Failure>;

/// What happens to a call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The engine acts, its answer is lost with the connection.
    DropReply,
    /// The call reaches the engine this much later.
    Delay(Duration),
    /// The call reaches the engine only after [`Rule::release`].
    HangBefore,
    /// The engine acts at once, its answer comes only after [`Rule::release`].
    HangAfter,
    /// The engine never hears of it; the answer is this status with an engine's error body.
    Status(u16),
    /// The engine acts, its answer breaks off in the middle.
    Truncate,
    /// The engine never hears of it; the answer is 200 (201 for a create) with this body.
    Answer(String),
    /// The engine acts; one field of its answer, named by a JSON pointer, has another value.
    Rewrite(String, Value),
}

#[derive(Debug)]
struct RuleState {
    method: String,
    path: String,
    fault: Fault,
    left: Mutex<usize>,
    hits: watch::Sender<Vec<String>>,
    released: watch::Sender<bool>,
}

/// A fault in force. Dropping it leaves it in force.
#[derive(Clone, Debug)]
pub struct Rule {
    state: Arc<RuleState>,
}

impl Rule {
    /// Waits until the rule has met this many calls, and gives the last one as `METHOD /path`.
    ///
    /// # Panics
    /// When that does not happen in time.
    pub async fn met(&self, times: usize, deadline: Duration) -> String {
        let mut hits = self.state.hits.subscribe();
        let wait = async { hits.wait_for(|hits| hits.len() >= times).await.expect("the rule lives").clone() };
        let met = tokio::time::timeout(deadline, wait).await;
        let (method, path) = (&self.state.method, &self.state.path);
        met.unwrap_or_else(|_| panic!("no {times} calls of {method} {path} within {deadline:?}"))[times - 1].clone()
    }

    /// Lets hanging calls go on, and those that come later pass.
    pub fn release(&self) {
        *self.state.left.lock().expect("no panic while held") = 0;
        self.state.released.send_replace(true);
    }

    async fn wait_released(&self) {
        let mut released = self.state.released.subscribe();
        // The sender lives in the rule that we hold.
        let _ = released.wait_for(|released| *released).await;
    }
}

#[derive(Debug, Default)]
struct Shared {
    rules: Mutex<Vec<Rule>>,
    calls: Mutex<Vec<String>>,
}

impl Shared {
    fn rule_for(&self, method: &str, path: &str) -> Option<Rule> {
        let call = format!("{method} {path}");
        self.calls.lock().expect("no panic while held").push(call.clone());
        let rules = self.rules.lock().expect("no panic while held");
        let rule = rules.iter().find(|rule| {
            let matches = rule.state.method == method && path.contains(&rule.state.path);
            let mut left = rule.state.left.lock().expect("no panic while held");
            let applies = matches && *left > 0;
            if applies {
                *left -= 1;
            }
            applies
        })?;
        rule.state.hits.send_modify(|hits| hits.push(call));
        Some(rule.clone())
    }
}

/// The proxy. It ends, with every connection through it, when it is dropped.
#[derive(Debug)]
pub struct EngineProxy {
    socket: PathBuf,
    engine: PathBuf,
    shared: Arc<Shared>,
    server: Option<JoinSet<()>>,
}

impl EngineProxy {
    /// Listens at `socket` for the engine behind `engine`, and lets everything pass.
    ///
    /// # Panics
    /// When the socket cannot be bound.
    #[must_use]
    pub fn start(socket: &Path, engine: &Path) -> Self {
        let mut proxy =
            Self { socket: socket.to_owned(), engine: engine.to_owned(), shared: Arc::default(), server: None };
        proxy.up();
        proxy
    }

    /// Where the daemon finds it.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Breaks the next `times` calls of this method whose path (with query) contains this text.
    pub fn on(&self, method: &str, path: &str, times: usize, fault: Fault) -> Rule {
        let rule = Rule {
            state: Arc::new(RuleState {
                method: method.to_owned(),
                path: path.to_owned(),
                fault,
                left: Mutex::new(times),
                hits: watch::Sender::new(Vec::new()),
                released: watch::Sender::new(false),
            }),
        };
        self.shared.rules.lock().expect("no panic while held").push(rule.clone());
        rule
    }

    /// Breaks every call of this method whose path contains this text.
    pub fn always(&self, method: &str, path: &str, fault: Fault) -> Rule {
        self.on(method, path, usize::MAX, fault)
    }

    /// Every call seen whose text `METHOD /path` contains this.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn calls(&self, containing: &str) -> Vec<String> {
        let calls = self.shared.calls.lock().expect("no panic while held");
        calls.iter().filter(|call| call.contains(containing)).cloned().collect()
    }

    /// The engine goes away: open connections break, new ones are refused, the socket file stays.
    pub fn down(&mut self) {
        self.server = None;
    }

    /// The engine is back.
    ///
    /// # Panics
    /// When the socket cannot be bound.
    pub fn up(&mut self) {
        match std::fs::remove_file(&self.socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{}: {error}", self.socket.display()),
            _ => {}
        }
        let listener = UnixListener::bind(&self.socket).expect("the proxy's socket can be bound");
        let mut server = JoinSet::new();
        server.spawn(serve(listener, self.engine.clone(), Arc::clone(&self.shared)));
        self.server = Some(server);
    }
}

async fn serve(listener: UnixListener, engine: PathBuf, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (engine, shared) = (engine.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let (engine, shared) = (engine.clone(), Arc::clone(&shared));
                async move { pass(request, &engine, &shared).await }
            });
            // An error here is a fault that was asked for, or a caller who left.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

fn json_answer(status: u16, body: String) -> Response<Body> {
    let mut answer = Response::new(whole(body));
    *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    answer
}

async fn forward(request: Request<Incoming>, engine: &Path) -> Result<Response<Body>, Failure> {
    let stream = UnixStream::connect(engine).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(Failure::other)?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        let _ = connection.await;
    });
    let (head, body) = sender.send_request(request).await.map_err(Failure::other)?.into_parts();
    // The stream keeps the driver, and ends it with the body.
    let frames = stream::unfold((body, driver), |(mut body, driver)| async move {
        let frame = body.frame().await?;
        Some((frame.map_err(Failure::other), (body, driver)))
    });
    Ok(Response::from_parts(head, BodyExt::boxed(StreamBody::new(sync(frames)))))
}

/// The same stream, shareable between threads as a boxed body must be.
fn sync<T: Send + 'static>(
    frames: impl futures_util::Stream<Item = T> + Send + 'static,
) -> impl futures_util::Stream<Item = T> + Send + Sync {
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    let mut pump = JoinSet::new();
    pump.spawn(async move {
        let mut frames = std::pin::pin!(frames);
        while let Some(frame) = frames.next().await {
            if sender.send(frame).await.is_err() {
                return;
            }
        }
    });
    stream::unfold((receiver, pump), |(mut receiver, pump)| async move {
        receiver.recv().await.map(|frame| (frame, (receiver, pump)))
    })
}

async fn pass(request: Request<Incoming>, engine: &Path, shared: &Shared) -> Result<Response<Body>, Failure> {
    let method = request.method().as_str().to_owned();
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let Some(rule) = shared.rule_for(&method, &path) else { return forward(request, engine).await };
    match &rule.state.fault {
        Fault::Delay(pause) => {
            tokio::time::sleep(*pause).await;
            forward(request, engine).await
        }
        Fault::HangBefore => {
            rule.wait_released().await;
            forward(request, engine).await
        }
        Fault::HangAfter => {
            let answer = forward(request, engine).await?;
            rule.wait_released().await;
            Ok(answer)
        }
        Fault::DropReply => {
            forward(request, engine).await?.into_body().collect().await?;
            Err(Failure::other("the reply is dropped on purpose"))
        }
        Fault::Status(status) => {
            let body = format!("{{\"message\":\"failure {status} on purpose\"}}\n");
            Ok(json_answer(*status, body))
        }
        Fault::Answer(body) => {
            let status = if path.contains("/create") { 201 } else { 200 };
            Ok(json_answer(status, body.clone()))
        }
        Fault::Truncate => {
            let (head, body) = forward(request, engine).await?.into_parts();
            let bytes = body.collect().await?.to_bytes();
            let half: Result<Frame<Bytes>, Failure> = Ok(Frame::data(bytes.slice(..bytes.len() / 2)));
            let broken = Err(Failure::other("the reply is cut off on purpose"));
            Ok(Response::from_parts(head, BodyExt::boxed(StreamBody::new(stream::iter([half, broken])))))
        }
        Fault::Rewrite(pointer, value) => {
            let (mut head, body) = forward(request, engine).await?.into_parts();
            let mut json: Value = serde_json::from_slice(&body.collect().await?.to_bytes())?;
            *json.pointer_mut(pointer).ok_or_else(|| Failure::other(format!("no {pointer} in the answer")))? =
                value.clone();
            head.headers.remove("content-length");
            head.headers.remove("api-version");
            Ok(Response::from_parts(head, whole(json.to_string())))
        }
    }
}
