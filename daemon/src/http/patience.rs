//! How long a connection is waited for. The HTTP library has one timer for the wait for a request and for its head; here
//! a connection may lie idle for long, and once a head has begun it has to come soon. Nor is it waited for without end
//! that somebody reads what was written.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Set when bytes come in, cleared when the wait for a head begins.
type Begun = Arc<AtomicBool>;

/// A stream and the timer that goes with it: what the timer waits for ends `head` after the first byte, if that is
/// before its own deadline, and at once when `stop` is cancelled: a request without a head is nobody's yet. The stream
/// fails when bytes wait to be written and none is taken for `unread`.
pub fn of<S>(stream: S, head: Duration, unread: Duration, stop: CancellationToken) -> (Watched<S>, HeadTimer) {
    let begun = Begun::default();
    (Watched { stream, begun: Arc::clone(&begun), unread, stuck: None }, HeadTimer { begun, head, stop })
}

/// A stream that notes when bytes come in, and for how long none go out.
pub struct Watched<S> {
    stream: S,
    begun: Begun,
    unread: Duration,
    /// Since bytes wait to be written.
    stuck: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl<S> Watched<S> {
    /// The outcome of a write, which fails if none has got on for too long.
    fn judge(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        let unread = self.unread;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(tokio::time::sleep(unread)));
        ready!(stuck.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, format!("nothing was read for {unread:?}"))))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buf))?;
        if buf.filled().len() > before {
            self.begun.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.judge(context, written)
    }
}

/// The timer of one connection.
pub struct HeadTimer {
    begun: Begun,
    head: Duration,
    stop: CancellationToken,
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.begun.store(false, Ordering::Relaxed);
        let sleep = Box::pin(tokio::time::sleep_until(deadline.into()));
        let stop = Box::pin(self.stop.clone().cancelled_owned());
        Box::pin(HeadSleep { sleep, stop, begun: Arc::clone(&self.begun), head: self.head, hurried: false })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

struct HeadSleep {
    sleep: Pin<Box<tokio::time::Sleep>>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    begun: Begun,
    head: Duration,
    hurried: bool,
}

impl Sleep for HeadSleep {}

impl Future for HeadSleep {
    type Output = ();

    // The connection polls this after each look for bytes, so the first byte is noticed when it comes.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if !self.hurried && self.begun.load(Ordering::Relaxed) {
            self.hurried = true;
            let deadline = self.sleep.deadline().min(tokio::time::Instant::now() + self.head);
            self.sleep.as_mut().reset(deadline);
        }
        if self.stop.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        self.sleep.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::get;
    use hyper::Request;
    use hyper::body::Incoming;
    use hyper_util::rt::TokioIo;
    use hyper_util::service::TowerToHyperService;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tower::ServiceExt;

    const HEAD: Duration = Duration::from_secs(2);
    const IDLE: Duration = Duration::from_secs(20);
    const UNREAD: Duration = Duration::from_secs(60);
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    fn server() -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(1024);
        let (stream, timer) = of(theirs, HEAD, UNREAD, CancellationToken::new());
        let router: Router = Router::new().route("/", get(async || "hello"));
        let router = router.map_request(|request: Request<Incoming>| request.map(axum::body::Body::new));
        let served = hyper::server::conn::http1::Builder::new()
            .timer(timer)
            .header_read_timeout(IDLE)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
        tokio_util::task::TaskTracker::new().spawn(served);
        ours
    }

    async fn answered(client: &mut DuplexStream) {
        client.write_all(REQUEST).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello") {
            assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0, "{}", String::from_utf8_lossy(&answer));
        }
    }

    /// Time until the server hangs up.
    async fn patience(client: &mut DuplexStream) -> Duration {
        let begun = tokio::time::Instant::now();
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest).await;
        begun.elapsed()
    }

    /// Timers have a tick of a millisecond.
    fn is(waited: Duration, wanted: Duration) -> bool {
        (wanted..wanted + Duration::from_millis(10)).contains(&waited)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_may_lie_idle_for_long_before_and_between_requests() {
        let mut client = server();
        for _ in 0..3 {
            tokio::time::sleep(IDLE - Duration::from_millis(100)).await;
            answered(&mut client).await;
        }
        let waited = patience(&mut client).await;
        assert!(is(waited, IDLE), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_has_begun_comes_soon_or_not_at_all() {
        for asked_before in [false, true] {
            let mut client = server();
            if asked_before {
                answered(&mut client).await;
            }
            tokio::time::sleep(IDLE / 2).await;
            client.write_all(&REQUEST[..5]).await.unwrap();
            let waited = patience(&mut client).await;
            assert!(is(waited, HEAD), "asked before: {asked_before}, {waited:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_comes_byte_by_byte_gets_no_more_time() {
        let mut client = server();
        let begun = tokio::time::Instant::now();
        for byte in REQUEST {
            if client.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(client.write_all(b"x").await.is_err(), "the server has hung up");
        assert!(begun.elapsed() >= HEAD);
    }
}
