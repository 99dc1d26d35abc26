//! Accepts connections: bounded in number, with a deadline for their headers, and patient when descriptors run out.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentbot_wire::Code;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::auth::AdminPeer;
use super::patience;
use crate::error::{Error, Result};
use crate::identity::Admission;

/// Time that a connection gets at the end for the answer it is at.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Pause after an accept failed, mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The admin socket, bound and in place.
pub struct AdminListener {
    listener: UnixListener,
    path: PathBuf,
}

/// Bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at once.
    pub connections: usize,
    /// Time for the head of a request, from its first byte.
    pub header_timeout: Duration,
    /// Time without a byte of the next request.
    pub idle_timeout: Duration,
    /// Time without a byte taken of an answer that waits.
    pub unread_timeout: Duration,
}

/// Binds the admin socket: root and the group may connect. A socket that nobody listens on is replaced; one that is in
/// use is left alone.
///
/// # Errors
/// `conflict` when somebody listens there; whatever the file system said.
pub fn bind_admin(path: &Path, gid: Option<u32>) -> Result<AdminListener> {
    let refuse = |error: io::Error| {
        Error::new(Code::Internal, format!("the admin socket {} could not be made: {error}", path.display()))
            .hint("look at the runtime directory, or name another with --runtime-dir")
    };
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(Error::conflict(format!("somebody listens on {} already", path.display()))
            .hint("stop that process, or name another directory with --runtime-dir"));
    }
    if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
        return Err(Error::conflict(format!("{} is a directory", path.display())).hint("move it away"));
    }
    let unborn = path.with_file_name(".new");
    match std::fs::remove_file(&unborn) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refuse(error)),
        _ => {}
    }
    let bind = || -> io::Result<UnixListener> {
        let listener = std::os::unix::net::UnixListener::bind(&unborn)?;
        nix::unistd::chown(&unborn, Some(nix::unistd::Uid::from_raw(0)), gid.map(nix::unistd::Gid::from_raw))?;
        std::fs::set_permissions(&unborn, std::fs::Permissions::from_mode(0o660))?;
        std::fs::rename(&unborn, path)?;
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    };
    Ok(AdminListener { listener: bind().map_err(refuse)?, path: path.to_owned() })
}

/// What connections come from.
pub trait Accept: Send {
    /// A connection.
    type Stream: Send;

    /// The next connection.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// One of a listener's connections, given back when the last clone is dropped: a connection that becomes a WebSocket
/// takes a clone along.
#[derive(Clone, Debug)]
pub struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// Accepts connections until `stop`, so many at once, and has each served.
pub async fn accept_all<A: Accept, F: Future<Output = ()> + Send + 'static>(
    door: &'static str,
    listener: &A,
    connections: usize,
    serve: impl Fn(A::Stream, Place) -> F,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(connections));
    loop {
        let permit = tokio::select! {
            () = stop.cancelled() => return,
            permit = Arc::clone(&permits).acquire_owned() => permit,
        };
        // The semaphore is never closed.
        let Ok(permit) = permit else { return };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.next() => accepted,
        };
        match accepted {
            Ok(stream) => {
                tasks.spawn(serve(stream, Place { _permit: Arc::new(permit) }));
            }
            // Somebody who went again before it was their turn.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {
            }
            Err(error) => {
                tracing::warn!(door, %error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves the admin socket until `stop`, then takes it away. Connections end with their request under way.
pub async fn serve_admin(
    admin: AdminListener,
    router: Router,
    admission: Arc<Admission>,
    bounds: Bounds,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let AdminListener { listener, path } = admin;
    let serve = |stream, place| greet(stream, place, router.clone(), Arc::clone(&admission), bounds, stop.clone());
    accept_all("admin socket", &listener, bounds.connections, serve, &tasks, &stop).await;
    let _ = std::fs::remove_file(path);
}

async fn greet(
    stream: UnixStream,
    place: Place,
    router: Router,
    admission: Arc<Admission>,
    bounds: Bounds,
    stop: CancellationToken,
) {
    let actor = match stream.peer_cred() {
        Ok(peer) => admission.admit(peer.uid()).await,
        Err(error) => Err(Error::new(Code::Unauthenticated, "the kernel does not say who connects")
            .hint("connect again, from a process of this machine")
            .caused_by(error)),
    };
    let router = match actor {
        Ok(actor) => router.layer(axum::Extension(AdminPeer(actor))).layer(axum::Extension(place.clone())),
        Err(refusal) => {
            tracing::warn!(error = %refusal, "refused on the admin socket");
            super::agentbot::refuse_all(&refusal)
        }
    };
    connection(stream, router, bounds, stop).await;
}

/// Serves one connection until it ends by itself or `stop` asks it to.
pub async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: Router,
    bounds: Bounds,
    stop: CancellationToken,
) {
    let (stream, timer) = patience::of(stream, bounds.header_timeout, bounds.unread_timeout, stop.clone());
    let service = TowerToHyperService::new(router.map_request(|request: Request<Incoming>| request.map(Body::new)));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(timer)
        // The timer shortens it to the time for a head once the first byte is there.
        .header_read_timeout(bounds.idle_timeout)
        // A caller that has said all it will say still wants its answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        // The end is heard first: whoever waited is answered for the same reason, and no request may begin after that.
        biased;
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(LAST_WORDS, connection).await {
                Ok(ended) => ended,
                // Somebody who does not read must not hold up the end.
                Err(_) => return,
            }
        }
        ended = &mut connection => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;

    const BOUNDS: Bounds = Bounds {
        connections: 1,
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(120),
        unread_timeout: Duration::from_secs(30),
    };
    const SLOW: &[u8] = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n";

    /// What a client that wrote `bytes`, and perhaps no more after them, reads when the daemon ends while it is served.
    async fn ends(bytes: &[u8], half_closed: bool) -> String {
        let (mut client, server) = UnixStream::pair().unwrap();
        let (stop, begun) = (CancellationToken::new(), Arc::new(Notify::new()));
        let (seen, over) = (Arc::clone(&begun), stop.clone());
        let slow = async move || {
            seen.notify_one();
            over.cancelled().await;
            "as it is"
        };
        let router = Router::new().route("/slow", get(slow));
        let served = TaskTracker::new().spawn(connection(server, router, BOUNDS, stop.clone()));
        client.write_all(bytes).await.unwrap();
        if half_closed {
            client.shutdown().await.unwrap();
        }
        begun.notified().await;
        stop.cancel();
        let mut answer = String::new();
        tokio::time::timeout(Duration::from_secs(5), client.read_to_string(&mut answer)).await.unwrap().unwrap();
        tokio::time::timeout(Duration::from_secs(5), served).await.unwrap().unwrap();
        answer
    }

    #[tokio::test]
    async fn the_request_under_way_is_answered_at_the_end_and_no_other_is_begun() {
        let twice = [SLOW, SLOW].concat();
        let begun_too = [SLOW, &SLOW[..9]].concat();
        for (bytes, half_closed) in [(SLOW, false), (SLOW, true), (&twice, false), (&twice, true), (&begun_too, false)]
        {
            let answer = ends(bytes, half_closed).await;
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("as it is"), "{answer}");
            assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
        }
    }

    #[tokio::test]
    async fn a_connection_without_a_request_under_way_ends_at_once() {
        for bytes in [b"".as_slice(), &SLOW[..9]] {
            let (mut client, server) = UnixStream::pair().unwrap();
            let stop = CancellationToken::new();
            let served = TaskTracker::new().spawn(connection(server, Router::new(), BOUNDS, stop.clone()));
            client.write_all(bytes).await.unwrap();
            tokio::task::yield_now().await;
            stop.cancel();
            tokio::time::timeout(Duration::from_secs(5), served).await.unwrap().unwrap();
        }
    }

    /// A long answer, one without an end, and a short one.
    fn answers() -> Router {
        let endless = futures_util::stream::repeat_with(|| Ok::<_, std::convert::Infallible>("data: x\n\n"));
        Router::new()
            .route("/long", get(async || "x".repeat(1 << 20)))
            .route("/endless", get(async || Body::from_stream(endless)))
            .route("/short", get(async || "hello"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_never_reads_is_not_waited_for() {
        for (path, times) in [("/long", 1), ("/endless", 1), ("/short", 1_000)] {
            let (client, server) = tokio::io::duplex(1_024);
            let served = connection(server, answers(), BOUNDS, CancellationToken::new());
            let (_unread, mut ask) = tokio::io::split(client);
            let asked = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(times);
            let begun = tokio::time::Instant::now();
            let ended = async {
                tokio::select! {
                    () = served => {}
                    () = async {
                        let _ = ask.write_all(asked.as_bytes()).await;
                        std::future::pending().await
                    } => {}
                }
            };
            tokio::time::timeout(Duration::from_secs(3_600), ended).await.expect("an end");
            let waited = begun.elapsed();
            assert!((BOUNDS.unread_timeout..BOUNDS.unread_timeout * 2).contains(&waited), "{path}: {waited:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_reads_slowly_gets_all_of_it() {
        let (mut client, server) = tokio::io::duplex(64 * 1_024);
        let served = TaskTracker::new().spawn(connection(server, answers(), BOUNDS, CancellationToken::new()));
        client.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while client.read_buf(&mut answer).await.unwrap() > 0 {
            tokio::time::sleep(BOUNDS.unread_timeout - Duration::from_secs(1)).await;
        }
        assert!(answer.len() > 1 << 20, "{}", answer.len());
        served.await.unwrap();
    }
}
