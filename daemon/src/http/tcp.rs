//! The TCP door: chat for whoever holds an agent's gateway token. Nothing is trusted for being local, and what a proxy
//! says of whom it speaks for grants nothing.

mod credential;
mod gate;
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
use super::limit::{Window, principal, too_often};
use super::serve::{Accept, Bounds, Place, accept_all, connection};
use super::shape::Called;
use crate::config::Http;
use crate::error::{Error, Result};
use crate::identity::{Actor, CredentialHash};
use crate::instance::{Holder, Instances};

/// Wrong credentials that one principal may show in a minute before they are not looked at any more.
const FAILURES: usize = 10;
/// Messages that one credential may send by `POST /api/chat` in a minute, as dialect B has it.
const MESSAGES: usize = 60;
const MINUTE: Duration = Duration::from_secs(60);

/// The door, bound.
pub struct TcpDoor {
    listener: TcpListener,
    address: SocketAddr,
    gate: Gate,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
struct Peer(IpAddr);

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
pub async fn serve_tcp(door: TcpDoor, router: Router, bounds: Bounds, tasks: TaskTracker, stop: CancellationToken) {
    let TcpDoor { listener, address, gate } = door;
    tracing::info!(http.listen = %address, "the TCP door is open");
    let router = pages::behind(router, Arc::new(gate));
    let serve = |(stream, peer), place: Place| {
        let router = router.clone().layer(Extension(place)).layer(Extension(Peer(peer)));
        connection(stream, router, bounds, stop.clone())
    };
    accept_all("TCP door", &listener, bounds.connections, serve, &tasks, &stop).await;
}

/// Knows holders of gateway tokens, and those who try.
#[derive(Clone)]
pub struct Holders(Arc<Known>);

struct Known {
    instances: Instances,
    failures: Window<IpAddr>,
    messages: Window<CredentialHash>,
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
    pub fn new(instances: Instances) -> Self {
        Self(Arc::new(Known {
            instances,
            failures: Window::new(FAILURES, MINUTE),
            messages: Window::new(MESSAGES, MINUTE),
        }))
    }

    /// The holder of the token that a request carries.
    pub async fn admit(&self, request: &Parts) -> Result<Holder, NotAdmitted> {
        let known = &self.0;
        let holder = match credential::of(&request.headers, request.uri.query()) {
            Ok(token) => {
                let found = known.instances.token_holder(token.expose()).await.map_err(NotAdmitted::Refused)?;
                found.ok_or_else(credential::unknown)
            }
            Err(error) => Err(error),
        };
        let holder = holder.map_err(|error| self.failed(request, error))?;
        if let Actor::Gateway { token, .. } = &holder.actor
            && request.method == Method::POST
            && request.uri.path() == "/api/chat"
            && let Err(wait) = known.messages.pass(*token)
        {
            let what = format!("{MESSAGES} messages a minute are the limit of `POST /api/chat`");
            return Err(NotAdmitted::TooOften(too_often(&what, wait)));
        }
        Ok(holder)
    }

    /// Whoever shows the right credential is let in however many wrong ones came before: a stranger must not be able to
    /// lock a holder out, and 256 bits are not found by trying.
    fn failed(&self, request: &Parts, error: Error) -> NotAdmitted {
        let Some(Peer(address)) = request.extensions.get::<Peer>() else { return NotAdmitted::Refused(error) };
        match self.0.failures.pass(principal(*address)) {
            Ok(()) => NotAdmitted::Refused(error),
            Err(wait) => NotAdmitted::TooOften(too_often("too many wrong credentials came from this address", wait)),
        }
    }
}
