//! Bodies have a limit. One over it is answered 413 and read to its end, up to a second limit, so that the caller gets
//! to see the answer instead of a broken pipe. One that does not go on is not waited for, nor one that comes in drops.

use std::time::Duration;

use agentbot_wire::Code;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::shape::Called;
use crate::config::Limits;
use crate::error::Error;

/// So many times the longest pause a whole body may take.
const PAUSES: u32 = 10;

/// Limits of a body, in bytes and time.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// The longest body.
    pub limit: usize,
    /// The most that is read of one that is too long.
    pub drain: usize,
    /// The longest time without a byte of it.
    pub pause: Duration,
    /// The daemon ends: what has not come by then is not waited for.
    pub stop: CancellationToken,
}

impl Bounds {
    /// Those of a configuration.
    pub fn of(limits: &Limits, stop: CancellationToken) -> Self {
        Self {
            limit: usize::try_from(limits.body.as_u64()).unwrap_or(usize::MAX),
            drain: usize::try_from(limits.drain.as_u64()).unwrap_or(usize::MAX),
            pause: limits.idle_timeout,
            stop,
        }
    }
}

/// Reads the body up to the limit and hands it on whole.
pub async fn bound(State(bounds): State<Bounds>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let called = Called::of(&request);
    let (parts, body) = request.into_parts();
    match read(body, &bounds).await {
        Ok(bytes) => {
            let mut request = Request::from_parts(parts, Body::from(bytes));
            // It has been measured: the framework's own limit would be another one.
            DefaultBodyLimit::disable().apply(&mut request);
            next.run(request).await
        }
        Err(error) => called.refuse(error),
    }
}

/// Reads a body up to the limit.
///
/// # Errors
/// `too_large`; `invalid` for one that broke off, stopped, or took too long; `shutting_down`.
pub async fn read(mut body: Body, bounds: &Bounds) -> Result<Bytes, Error> {
    let mut kept = Vec::new();
    let mut length = 0_usize;
    let (limit, whole) = (bounds.pause * PAUSES, Instant::now() + bounds.pause * PAUSES);
    loop {
        let pause = Instant::now() + bounds.pause;
        let frame = tokio::select! {
            biased;
            frame = timeout_at(pause.min(whole), body.frame()) => frame.map_err(|_| {
                if pause <= whole { stalled(length, bounds.pause) } else { slow(length, limit) }
            })?,
            () = bounds.stop.cancelled() => return Err(ending()),
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| {
            Error::new(Code::Invalid, "the body broke off before its end").hint("send it again").caused_by(error)
        })?;
        let Ok(data) = frame.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length <= bounds.limit {
            kept.extend_from_slice(&data);
        } else {
            kept = Vec::new();
            if length > bounds.drain {
                break;
            }
        }
    }
    if length > bounds.limit {
        return Err(Error::new(Code::TooLarge, format!("the body is over the limit of {} bytes", bounds.limit))
            .hint("`limits.body` in the configuration sets it"));
    }
    Ok(kept.into())
}

fn stalled(length: usize, pause: Duration) -> Error {
    Error::new(Code::Invalid, format!("the body stopped after {length} bytes, and nothing came for {pause:?}"))
        .hint("send it again and whole; `limits.idle_timeout` in the configuration sets the time")
}

fn slow(length: usize, limit: Duration) -> Error {
    Error::new(Code::Invalid, format!("the body has not come whole in {limit:?}, only {length} bytes of it"))
        .hint("send it again and faster; it may take 10 times `limits.idle_timeout` of the configuration")
}

fn ending() -> Error {
    Error::new(Code::ShuttingDown, "the daemon ends, and the body has not come yet; nothing was changed")
        .hint("send it again when the daemon is back")
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};
    use tower::ServiceExt;

    use super::*;

    fn bounds() -> Bounds {
        Bounds { limit: 4, drain: 8, pause: Duration::from_secs(5), stop: CancellationToken::new() }
    }

    /// A body whose pieces come so long apart, and that then goes on without an end.
    fn stalling(pieces: &'static [&'static str], apart: Duration) -> Body {
        let pieces = futures_util::stream::unfold(pieces.iter(), move |mut left| async move {
            tokio::time::sleep(apart).await;
            match left.next() {
                Some(piece) => Some((Ok::<_, std::io::Error>(Bytes::from_static(piece.as_bytes())), left)),
                None => std::future::pending().await,
            }
        });
        Body::from_stream(pieces)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_is_waited_for_so_long_and_no_longer() {
        let begun = tokio::time::Instant::now();
        let error = read(stalling(&["a", "b"], Duration::from_secs(4)), &bounds()).await.unwrap_err();
        assert_eq!(error.code(), Code::Invalid);
        assert!(error.message().contains("after 2 bytes"), "{error}");
        assert_eq!(begun.elapsed(), Duration::from_secs(4 + 4 + 5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_comes_in_drops_is_waited_for_so_long_and_no_longer() {
        let drops = |count: usize, apart: u64| {
            let drops = futures_util::stream::iter(0..count).then(move |_| {
                let sleep = tokio::time::sleep(Duration::from_secs(apart));
                sleep.map(|()| Ok::<_, std::io::Error>(Bytes::new()))
            });
            Body::from_stream(drops)
        };
        let begun = Instant::now();
        read(drops(12, 4), &bounds()).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::from_secs(48));
        let begun = Instant::now();
        let error = read(drops(13, 4), &bounds()).await.unwrap_err();
        assert_eq!((error.code(), begun.elapsed()), (Code::Invalid, Duration::from_secs(50)));
        assert!(error.message().contains("50s"), "{error}");
    }

    #[tokio::test]
    async fn the_limit_is_the_configured_one_and_not_the_frameworks() {
        const FRAMEWORK: usize = 2 << 20;
        let limit = FRAMEWORK + 1_000;
        let bounds = Bounds { limit, drain: 2 * limit, ..bounds() };
        let router = axum::Router::new()
            .route("/", axum::routing::post(async |body: Bytes| body.len().to_string()))
            .layer(axum::middleware::from_fn_with_state(bounds, bound));
        for (length, status) in [(FRAMEWORK, 200), (FRAMEWORK + 1, 200), (limit, 200), (limit + 1, 413)] {
            let request = Request::post("/").body(Body::from(vec![b'x'; length])).unwrap();
            assert_eq!(router.clone().oneshot(request).await.unwrap().status(), status, "{length}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_over_its_limit_that_stops_is_waited_for_no_longer_either() {
        let begun = tokio::time::Instant::now();
        let error = read(stalling(&["aaaaa"], Duration::ZERO), &bounds()).await.unwrap_err();
        assert_eq!(error.code(), Code::Invalid);
        assert!(begun.elapsed() <= Duration::from_secs(6), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_has_not_come_is_not_waited_for_when_the_daemon_ends() {
        let bounds = bounds();
        bounds.stop.cancel();
        let begun = tokio::time::Instant::now();
        assert_eq!(read(Body::from("aaaa"), &bounds).await.unwrap().len(), 4, "one that is there is taken");
        let error = read(stalling(&["a"], Duration::from_secs(1)), &bounds).await.unwrap_err();
        assert_eq!((error.code(), begun.elapsed()), (Code::ShuttingDown, Duration::ZERO));
    }

    #[tokio::test]
    async fn a_body_has_its_limits() {
        assert_eq!(read(Body::from("aaaa"), &bounds()).await.unwrap(), Bytes::from_static(b"aaaa"));
        assert_eq!(read(Body::from("aaaaa"), &bounds()).await.unwrap_err().code(), Code::TooLarge);
    }
}
