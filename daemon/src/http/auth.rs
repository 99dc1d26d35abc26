//! Who asks: proof of identity becomes an actor before any handler runs.

use agentbot_wire::Code;
use axum::Router;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::MethodRouter;

use super::agentbot::envelope::Refusal;
use super::quota::Quota;
use super::request_id::RequestId;
use super::shape::Called;
use super::tcp::{Admitted, Holders};
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
        Policy::Operator => operator(&parts)
            .map(|actor| (actor, Held::for_good(), Quota::unbounded()))
            .map_err(|error| called.refuse(error)),
        Policy::Holder(holders) => {
            let admitted = holders.admit(&parts).await.map_err(|refused| refused.answer(called));
            admitted.map(|Admitted { actor, lease, quota }| (actor, Held::by(lease), quota))
        }
    };
    match caller {
        Ok((actor, held, quota)) => {
            parts.extensions.insert(Caller(actor));
            parts.extensions.insert(held);
            parts.extensions.insert(quota);
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

/// The refusal of a request behind which nobody is known.
pub fn nobody() -> Error {
    Error::new(Code::Unauthenticated, "nobody is known behind this connection")
        .hint("docs/API.md says how each door wants to be told who asks")
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

/// What ends with the credential of a request, as a handler's argument. Without one nothing is done: what nobody could
/// end must not begin.
#[derive(Clone, Debug)]
pub struct Held(Option<Lease>);

impl Held {
    /// An operator's, whom the kernel vouches for: it does not end.
    pub fn for_good() -> Self {
        Self(None)
    }

    /// By a credential that can be replaced.
    pub fn by(lease: Lease) -> Self {
        Self(Some(lease))
    }

    /// Returns once the credential is no longer valid.
    pub async fn revoked(&self) {
        match &self.0 {
            Some(lease) => lease.revoked().await,
            None => std::future::pending().await,
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Held {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        let id = parts.extensions.get::<RequestId>().cloned();
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Refusal::new(nobody(), id))
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_route_that_nobody_guards_begins_nothing() {
        let routes = [
            ("/caller", get(async |_: Caller| "in")),
            ("/held", get(async |_: Held| "in")),
            ("/quota", get(async |_: Quota| "in")),
        ];
        for (path, methods) in routes {
            let call = |router: Router| router.oneshot(Request::get(path).body(Body::empty()).unwrap());
            let bare = Router::new().route(path, methods.clone());
            assert_eq!(call(bare).await.unwrap().status(), 401, "{path}");
            let peer = AdminPeer(Actor::Operator { uid: 0 });
            let guarded = guarded([(path, methods, Policy::Operator)]).layer(axum::Extension(peer));
            assert_eq!(call(guarded).await.unwrap().status(), 200, "{path}");
        }
    }
}
