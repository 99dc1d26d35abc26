//! What an agent asks of models, on its own socket: `/v1/chat/completions` and `/v1/models`.

use agentbot_wire::{Code, SlotId};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::StreamExt;
use serde_json::json;
use std::sync::Arc;
use subtle::ConstantTimeEq;

use super::envelope::{self, OpenAiError};
use crate::error::Error;
use crate::gateway::{Answer, Asker, Gateway, Pieces};
use crate::http::{bearer, body, shape, status};
use crate::identity::Actor;
use crate::instance::Context;

/// What the routes work with.
#[derive(Clone)]
pub struct Models {
    /// Knows slots.
    pub context: Arc<Context>,
    /// Knows models.
    pub gateway: Gateway,
    /// Limits of bodies.
    pub bounds: body::Bounds,
}

/// An agent that showed its nonce.
#[derive(Clone)]
struct Admitted {
    slot: SlotId,
    actor: Actor,
    who: String,
    model: String,
}

/// The routes, below `/v1`.
pub fn router(models: Models) -> Router {
    Router::new()
        .route("/chat/completions", post(complete))
        .route("/models", get(list))
        .fallback(shape::not_found)
        .method_not_allowed_fallback(shape::method_not_allowed)
        .layer(from_fn_with_state(models.clone(), admit))
        .with_state(models)
}

/// Listener and uid are proved before; the nonce is the third proof.
async fn admit(
    State(models): State<Models>,
    Extension(slot): Extension<SlotId>,
    mut request: Request,
    next: Next,
) -> Result<Response, OpenAiError> {
    let (nonce, introduction) = models.context.introduction(&slot).await?;
    let shown = bearer::only(request.headers()).unwrap_or_default();
    if !bool::from(shown.as_bytes().ct_eq(nonce.expose().as_bytes())) {
        return Err(Error::new(Code::Unauthenticated, "this is not the nonce of this agent")
            .hint("send `Authorization: Bearer` with what the file `nonce` beside the socket holds")
            .into());
    }
    let Some(instance) = introduction.instance else {
        return Err(Error::conflict("no agent is at home here yet").hint("ask again after agent.hello").into());
    };
    let who = instance.to_string();
    let model = introduction.model.unwrap_or_default();
    request.extensions_mut().insert(Admitted {
        slot: slot.clone(),
        actor: Actor::Agent { slot, instance },
        who,
        model,
    });
    Ok(next.run(request).await)
}

/// `POST /v1/chat/completions`.
async fn complete(
    State(models): State<Models>,
    Extension(Admitted { slot, actor, who, model }): Extension<Admitted>,
    body: Body,
) -> Result<Response, OpenAiError> {
    let asker = Asker { tenant: actor.tenant(), who, model };
    let answer = async { models.gateway.complete(asker, &body::read(body, &models.bounds).await?).await }.await;
    let answer = answer.map_err(|error| {
        if status::of(error.code()).is_server_error() {
            tell(&models, &slot, &error, "failed");
        }
        OpenAiError::told(error)
    })?;
    Ok(match answer {
        Answer::Json(json) => {
            ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], json).into_response()
        }
        Answer::Events(pieces) => events(pieces, move |error| tell(&models, &slot, error, "broke off")),
    })
}

/// Tells the log of a call that went wrong. An agent can have as many of them as it likes.
fn tell(models: &Models, slot: &SlotId, error: &Error, how: &'static str) {
    if let Some(left_out) = models.context.links.may_log(slot, how) {
        tracing::warn!(slot.id = %slot, %error, left_out, "a call of a model {how}");
    }
}

/// Events as they come. What fails after the first of them is the last.
fn events(pieces: Pieces, broke: impl Fn(&Error) + Send + 'static) -> Response {
    let events = pieces.map(move |piece| {
        Ok::<_, std::convert::Infallible>(piece.unwrap_or_else(|error| {
            broke(&error);
            // An empty line first: it ends the event that broke off.
            Bytes::from(format!("\ndata: {}\n\n", envelope::body(&error.to_api())))
        }))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, Body::from_stream(events)).into_response()
}

/// `GET /v1/models`.
async fn list(
    State(models): State<Models>,
    Extension(Admitted { who, .. }): Extension<Admitted>,
) -> Result<Response, OpenAiError> {
    let list = models.gateway.list_for(&who).await?;
    let now = jiff::Timestamp::now().as_second();
    let entry = |id: &str, owner: &str| json!({"id": id, "object": "model", "created": now, "owned_by": owner});
    let aliases = list.aliases.keys().map(|alias| entry(alias, "alias"));
    let data: Vec<_> = list.models.iter().map(|model| entry(&model.id, &model.provider)).chain(aliases).collect();
    Ok(axum::Json(json!({"object": "list", "data": data})).into_response())
}
