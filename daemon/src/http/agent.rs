//! The agents' door: agent verbs only, on each slot's own socket.

use std::sync::Arc;

use agentbot_wire::{AGENT_PROTOCOL, SlotId};
use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, State};
use axum::response::Response;
use axum::routing::get;
use futures_util::{Sink, Stream, StreamExt, future, sink::SinkExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::serve::{Bounds, connection};
use super::socket::{self, Read};
use super::{body, openai};
use crate::gateway::Gateway;
use crate::instance::Context;
use crate::link::{self, Accepted, Ears, Inbound, Outbound};
use crate::ration::{Seat, Seats};

#[derive(Clone)]
struct AgentState {
    context: Arc<Context>,
    ears: Arc<dyn Ears>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Serves connections of agents as their doors hand them over. What they say goes to `ears`, what they ask of models to
/// `gateway`; `bounds` are those of one slot.
pub async fn serve_agents(
    context: Arc<Context>,
    ears: Arc<dyn Ears>,
    gateway: Gateway,
    mut accepted: mpsc::Receiver<Accepted>,
    bounds: Bounds,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let links = context.links.clone();
    let body = body::Bounds::of(&context.config.load().limits, stop.clone());
    let models = openai::gateway::Models { context: Arc::clone(&context), gateway, bounds: body };
    let state = AgentState { context, ears, tasks: tasks.clone(), stop: stop.clone() };
    let router = Router::new()
        .route("/agent/ws", get(upgrade))
        .fallback(super::shape::not_found)
        .method_not_allowed_fallback(super::shape::method_not_allowed)
        .with_state(state)
        .nest("/v1", openai::gateway::router(models));
    // A connection that becomes a WebSocket keeps its seat.
    let seats = Seats::default();
    loop {
        let next = tokio::select! {
            () = stop.cancelled() => return,
            next = accepted.recv() => next,
        };
        let Some(Accepted { slot, stream }) = next else { return };
        let Some(seat) = seats.take(&slot, bounds.connections) else {
            if let Some(left_out) = links.may_log(&slot, "too many") {
                tracing::warn!(slot.id = %slot, left_out, "too many connections of one agent; this one is closed");
            }
            continue;
        };
        let (router, stop) = (router.clone().layer(Extension(slot)).layer(Extension(seat)), stop.clone());
        tasks.spawn(connection(stream, router, bounds, stop));
    }
}

async fn upgrade(
    State(state): State<AgentState>,
    Extension(slot): Extension<SlotId>,
    Extension(seat): Extension<Seat<SlotId>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let AgentState { context, ears, tasks, stop } = state;
    socket::bounded(upgrade).protocols([AGENT_PROTOCOL]).on_upgrade(move |socket| async move {
        let session = tasks.track_future(talk(context, ears, slot, socket));
        tokio::select! {
            () = session => {}
            () = stop.cancelled() => {}
        }
        drop(seat);
    })
}

async fn talk(context: Arc<Context>, ears: Arc<dyn Ears>, slot: SlotId, socket: WebSocket) {
    // An agent that cannot be known now comes back: its connection ends without a word.
    let Ok((nonce, introduction)) = context.introduction(&slot).await else { return };
    link::run(&context.links, &*ears, &slot, &nonce, &introduction, frames(socket)).await;
}

/// The socket in the link's words.
fn frames(socket: WebSocket) -> impl Stream<Item = Inbound> + Sink<Outbound, Error = axum::Error> + Unpin + Send {
    socket
        .map(socket::read)
        .take_while(|read| future::ready(!matches!(read, Read::End)))
        .map(|read| match read {
            Read::Text(text) => Inbound::Text(text.as_str().to_owned()),
            Read::Life | Read::End => Inbound::Pong,
            Read::Unfit(code, why) => Inbound::Unfit(code, why),
        })
        .with(|outbound| {
            future::ready(Ok(match outbound {
                Outbound::Text(text) => Message::Text(text.into()),
                Outbound::Ping => Message::Ping(axum::body::Bytes::new()),
                Outbound::Close(code, reason) => Message::Close(Some(CloseFrame { code, reason: reason.into() })),
            }))
        })
}
