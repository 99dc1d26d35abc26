//! The TCP door: chat for whoever holds an agent's gateway token. Nothing is trusted for being local, and what a proxy
//! says of whom it speaks for grants nothing.

mod credential;
mod gate;
mod guest;
mod pages;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use agentbot_wire::Code;
use axum::Router;
use axum::extract::Extension;
use axum::http::Method;
use axum::http::request::Parts;
use axum::response::Response;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::gate::Gate;
use self::guest::Crowd;
pub use self::guest::Guest;
use super::limit::{Window, too_often};
use super::quota::{POSTS, Quota, Quotas};
use super::serve::{Accept, Bounds, Place, accept_all, connection};
use super::shape::Called;
use super::ws;
use crate::config::Http;
use crate::error::{Error, Result};
use crate::identity::{Actor, Lease};
use crate::instance::{Holder, Instances};

/// Wrong credentials that one principal may show in a minute; further ones are told to come later. What has the form of
/// a credential is looked up all the same, since it may be a right one.
const FAILURES: usize = 10;
/// Where messages are sent.
const SENDING: [&str; 2] = ["/api/chat", "/v1/chat/completions"];
/// Of all connections, the part that strangers of one address may hold: one half.
const STRANGERS: usize = 2;
const MINUTE: Duration = Duration::from_secs(60);

/// The door, bound.
pub struct TcpDoor {
    listener: TcpListener,
    address: SocketAddr,
    gate: Gate,
}

impl Accept for TcpListener {
    type Stream = (TcpStream, IpAddr);

    async fn next(&self) -> io::Result<Self::Stream> {
        let (stream, peer) = self.accept().await?;
        // Frames are small and each is waited for.
        stream.set_nodelay(true)?;
        Ok((stream, peer.ip().to_canonical()))
    }
}

/// Binds the TCP door if the configuration has one.
///
/// # Errors
/// `conflict` when the address is in use; whatever else the system said.
pub async fn bind_tcp(http: &Http) -> Result<Option<TcpDoor>> {
    let Some(listen) = http.listen else { return Ok(None) };
    let bound = async { TcpListener::bind(listen).await.and_then(|listener| Ok((listener.local_addr()?, listener))) };
    let (address, listener) = bound.await.map_err(|error| {
        let code = if error.kind() == io::ErrorKind::AddrInUse { Code::Conflict } else { Code::Internal };
        Error::new(code, format!("the TCP door cannot listen on {listen}: {error}"))
            .hint("`http.listen` in the configuration sets the address; remove it to close the door")
    })?;
    let gate = Gate::new(address, &http.allowed_hosts, &http.allowed_origins);
    Ok(Some(TcpDoor { listener, address, gate }))
}

/// Serves the TCP door until `stop`. `router` holds its routes, each behind its policy.
pub async fn serve_tcp(
    door: TcpDoor,
    router: Router,
    bounds: Bounds,
    counts: Arc<ws::Counts>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let TcpDoor { listener, address, gate } = door;
    tracing::info!(http.listen = %address, "the TCP door is open");
    let router = pages::behind(router, Arc::new(gate));
    let crowd = Crowd::new(bounds.connections.div_ceil(STRANGERS));
    let serve = |(stream, peer), place: Place| {
        let guest = crowd.enter(peer);
        let router = router.clone().layer(Extension(place)).layer(Extension(guest.clone()));
        let (stop, counts) = (stop.clone(), Arc::clone(&counts));
        async move {
            tokio::select! {
                biased;
                () = guest.sent_away() => counts.crowded.add(),
                () = connection(stream, router, bounds, stop) => {}
            }
        }
    };
    accept_all("TCP door", &listener, bounds.connections, serve, &tasks, &stop).await;
}

/// Knows holders of gateway tokens, and those who try.
#[derive(Clone)]
pub struct Holders(Arc<Known>);

struct Known {
    instances: Instances,
    failures: Window<IpAddr>,
    quotas: Arc<Quotas>,
}

/// Whoever was let in.
pub struct Admitted {
    /// As the core knows them.
    pub actor: Actor,
    /// Ends with the token.
    pub lease: Lease,
    /// What they may take.
    pub quota: Quota,
}

/// Why a request is not let in.
pub enum NotAdmitted {
    /// For what it is.
    Refused(Error),
    /// For how many there were before it; the seconds after which to come back.
    TooOften((Error, u64)),
}

impl NotAdmitted {
    /// The answer to it.
    pub fn answer(self, called: Called) -> Response {
        match self {
            Self::Refused(error) => called.refuse(error),
            Self::TooOften(refusal) => called.refuse_for(refusal),
        }
    }
}

impl Holders {
    /// Nobody has tried yet.
    #[must_use]
    pub fn new(instances: Instances, http: &Http) -> Self {
        Self(Arc::new(Known { instances, failures: Window::new(MINUTE), quotas: Quotas::new(http) }))
    }

    /// The holder of the token that a request carries. What has not the form of a token is refused without a look.
    pub async fn admit(&self, request: &Parts) -> Result<Admitted, NotAdmitted> {
        let known = &self.0;
        let holder = match credential::of(&request.headers, request.uri.query()) {
            Ok(token) => {
                let found = known.instances.token_holder(token.expose()).await.map_err(NotAdmitted::Refused)?;
                found.ok_or_else(credential::unknown)
            }
            Err(error) => Err(error),
        };
        let guest = request.extensions.get::<Guest>().ok_or_else(|| {
            NotAdmitted::Refused(Error::internal("a request at the TCP door that came by no connection of it"))
        })?;
        let Holder { actor, lease } = holder.map_err(|error| self.failed(guest, error))?;
        let Actor::Gateway { token, .. } = &actor else {
            return Err(NotAdmitted::Refused(Error::internal("a gateway token that is not its holder's")));
        };
        if !guest.known(&known.quotas, *token) {
            let what = format!("{} connections show this token already", known.quotas.connections());
            return Err(NotAdmitted::TooOften(too_often(&what, Duration::ZERO)));
        }
        if request.method == Method::POST
            && SENDING.contains(&request.uri.path())
            && let Err(wait) = known.quotas.post(*token)
        {
            let what = format!("{POSTS} messages a minute are the limit of one token by HTTP");
            return Err(NotAdmitted::TooOften(too_often(&what, wait)));
        }
        let quota = Quota::of(&known.quotas, *token);
        Ok(Admitted { actor, lease, quota })
    }

    /// Whoever shows the right credential is let in however many wrong ones came before: a stranger must not be able to
    /// lock a holder out, and 256 bits are not found by trying.
    fn failed(&self, guest: &Guest, error: Error) -> NotAdmitted {
        match self.0.failures.pass(guest.address(), FAILURES) {
            Ok(()) => NotAdmitted::Refused(error),
            Err(wait) => NotAdmitted::TooOften(too_often("too many wrong credentials came from this address", wait)),
        }
    }
}
