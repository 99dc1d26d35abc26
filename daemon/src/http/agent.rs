//! The agents' door: agent verbs only, on each slot's own socket.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agentbot_wire::{AGENT_PROTOCOL, MAX_FRAME, SlotId};
use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, State};
use axum::response::Response;
use axum::routing::get;
use futures_util::{Sink, Stream, StreamExt, future, sink::SinkExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::serve::connection;
use crate::instance::Context;
use crate::link::{self, Accepted, Inbound, Outbound};

/// Read buffer of an agent's connection.
const READ_BUFFER: usize = 4 * 1024;
/// Bytes written that may wait for a slow agent.
const WRITE_LIMIT: usize = 2 * MAX_FRAME;

#[derive(Clone)]
struct AgentState {
    context: Arc<Context>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Serves connections of agents as their doors hand them over, at most `each` at once of one slot.
pub async fn serve_agents(
    context: Arc<Context>,
    mut accepted: mpsc::Receiver<Accepted>,
    each: usize,
    header_timeout: Duration,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let state = AgentState { context, tasks: tasks.clone(), stop: stop.clone() };
    let router = Router::new()
        .route("/agent/ws", get(upgrade))
        .fallback(super::agentbot::not_found)
        .method_not_allowed_fallback(super::agentbot::method_not_allowed)
        .with_state(state);
    let counts: Arc<Mutex<HashMap<SlotId, usize>>> = Arc::default();
    loop {
        let next = tokio::select! {
            () = stop.cancelled() => return,
            next = accepted.recv() => next,
        };
        let Some(Accepted { slot, stream }) = next else { return };
        if !enter(&counts, &slot, each) {
            tracing::warn!(slot.id = %slot, "too many connections of one agent; this one is closed");
            continue;
        }
        let (router, counts, stop) = (router.clone().layer(Extension(slot.clone())), Arc::clone(&counts), stop.clone());
        tasks.spawn(async move {
            connection(stream, router, header_timeout, stop).await;
            leave(&counts, &slot);
        });
    }
}

fn enter(counts: &Mutex<HashMap<SlotId, usize>>, slot: &SlotId, each: usize) -> bool {
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    let count = counts.entry(slot.clone()).or_default();
    let room = *count < each;
    *count += usize::from(room);
    room
}

fn leave(counts: &Mutex<HashMap<SlotId, usize>>, slot: &SlotId) {
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(count) = counts.get_mut(slot) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(slot);
        }
    }
}

async fn upgrade(
    State(state): State<AgentState>,
    Extension(slot): Extension<SlotId>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let AgentState { context, tasks, stop } = state;
    upgrade
        .protocols([AGENT_PROTOCOL])
        .max_frame_size(MAX_FRAME)
        .max_message_size(MAX_FRAME)
        .read_buffer_size(READ_BUFFER)
        .max_write_buffer_size(WRITE_LIMIT)
        .on_upgrade(move |socket| async move {
            let session = tasks.track_future(talk(context, slot, socket));
            tokio::select! {
                () = session => {}
                () = stop.cancelled() => {}
            }
        })
}

async fn talk(context: Arc<Context>, slot: SlotId, socket: WebSocket) {
    let (nonce, introduction) = context.introduction(&slot).await;
    link::run(&context.links, &slot, &nonce, &introduction, frames(socket)).await;
}

/// The socket in the link's words.
fn frames(socket: WebSocket) -> impl Stream<Item = Inbound> + Sink<Outbound, Error = axum::Error> + Unpin + Send {
    socket
        .take_while(|message| future::ready(!matches!(message, Ok(Message::Close(_)))))
        .map(|message| match message {
            Ok(Message::Text(text)) => Inbound::Text(text.as_str().to_owned()),
            Ok(Message::Ping(_) | Message::Pong(_)) => Inbound::Pong,
            Ok(_) => Inbound::Unfit("text frames only"),
            Err(_) => Inbound::Unfit("broken or oversized frame"),
        })
        .with(|outbound| {
            future::ready(Ok(match outbound {
                Outbound::Text(text) => Message::Text(text.into()),
                Outbound::Ping => Message::Ping(axum::body::Bytes::new()),
                Outbound::Close(code, reason) => Message::Close(Some(CloseFrame { code, reason: reason.into() })),
            }))
        })
}
