//! Who asks: proof of identity becomes an actor before any handler runs.

use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::agentbot::envelope::Refusal;
use super::request_id::RequestId;
use crate::error::Error;
use crate::identity::Actor;

/// The actor behind a connection of the admin socket, proved by its peer credentials when it was accepted.
#[derive(Clone, Debug)]
pub struct AdminPeer(pub Actor);

/// What a route asks of the actor. A route without one cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Operators alone.
    Operator,
}

impl Policy {
    fn allows(self, actor: &Actor) -> bool {
        match self {
            Self::Operator => matches!(actor, Actor::Operator { .. }),
        }
    }
}

/// Lets a request pass if its actor may use the route.
pub async fn enforce(policy: Policy, request: Request, next: Next) -> Response {
    let id = request.extensions().get::<RequestId>().cloned();
    match request.extensions().get::<AdminPeer>() {
        Some(AdminPeer(actor)) if policy.allows(actor) => next.run(request).await,
        Some(_) => {
            let error = Error::new(agentbot_wire::Code::Forbidden, "this is for operators")
                .hint("root and members of the admin group are operators");
            Refusal::new(error, id).into_response()
        }
        None => {
            let error = Error::new(agentbot_wire::Code::Unauthenticated, "nobody is known behind this connection");
            Refusal::new(error, id).into_response()
        }
    }
}

/// The actor of a request, as a handler's argument.
pub struct Caller(pub Actor);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        let id = parts.extensions.get::<RequestId>().cloned();
        parts.extensions.get::<AdminPeer>().map(|peer| Self(peer.0.clone())).ok_or_else(|| {
            Refusal::new(Error::new(agentbot_wire::Code::Unauthenticated, "nobody is known behind this connection"), id)
        })
    }
}
