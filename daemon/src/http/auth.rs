//! Who asks: proof of identity becomes an actor before any handler runs.

use agentbot_wire::Code;
use axum::Router;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::MethodRouter;

use super::agentbot::envelope::Refusal;
use super::request_id::RequestId;
use super::shape::Called;
use super::tcp::Holders;
use crate::error::Error;
use crate::identity::{Actor, Lease};

/// The actor behind a connection of the admin socket, proved by its peer credentials when it was accepted.
#[derive(Clone, Debug)]
pub struct AdminPeer(pub Actor);

/// What a route asks of the actor. A route without one cannot be added.
#[derive(Clone)]
pub enum Policy {
    /// Operators alone, as the admin socket knows them.
    Operator,
    /// Whoever holds an agent's gateway token, as the TCP door asks for it.
    Holder(Holders),
}

/// A route: path, methods, and who may use it.
pub type Route<S> = (&'static str, MethodRouter<S>, Policy);

/// Adds routes, each behind its policy.
pub fn guarded<S: Clone + Send + Sync + 'static>(routes: impl IntoIterator<Item = Route<S>>) -> Router<S> {
    routes.into_iter().fold(Router::new(), |router, (path, methods, policy)| {
        let guard = move |request: Request, next: Next| enforce(policy.clone(), request, next);
        router.route(path, methods.layer(from_fn(guard)))
    })
}

/// Lets a request pass if its actor may use the route.
async fn enforce(policy: Policy, request: Request, next: Next) -> Response {
    let called = Called::of(&request);
    let (mut parts, body) = request.into_parts();
    let caller = match policy {
        Policy::Operator => operator(&parts).map(|actor| (actor, None)).map_err(|error| called.refuse(error)),
        Policy::Holder(holders) => {
            let held = holders.admit(&parts).await.map_err(|refused| refused.answer(called));
            held.map(|holder| (holder.actor, Some(holder.lease)))
        }
    };
    match caller {
        Ok((actor, lease)) => {
            parts.extensions.insert(Caller(actor));
            parts.extensions.insert(Held(lease));
            next.run(Request::from_parts(parts, body)).await
        }
        Err(refusal) => refusal,
    }
}

fn operator(parts: &Parts) -> Result<Actor, Error> {
    match parts.extensions.get::<AdminPeer>() {
        Some(AdminPeer(actor @ Actor::Operator { .. })) => Ok(actor.clone()),
        Some(_) => Err(Error::new(Code::Forbidden, "this is for operators")
            .hint("root and members of the admin group are operators")),
        None => Err(nobody()),
    }
}

fn nobody() -> Error {
    Error::new(Code::Unauthenticated, "nobody is known behind this connection")
}

/// The actor of a request, as a handler's argument.
#[derive(Clone, Debug)]
pub struct Caller(pub Actor);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        let id = parts.extensions.get::<RequestId>().cloned();
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Refusal::new(nobody(), id))
    }
}

/// What ends with the credential of a request, as a handler's argument; an operator's does not end.
#[derive(Clone, Debug)]
pub struct Held(pub Option<Lease>);

impl Held {
    /// Returns once the credential is no longer valid.
    pub async fn revoked(&self) {
        match &self.0 {
            Some(lease) => lease.revoked().await,
            None => std::future::pending().await,
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Held {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or(Self(None)))
    }
}
