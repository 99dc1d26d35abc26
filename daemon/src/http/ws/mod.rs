//! `GET /api/chat/ws`: the chat socket of people and programs, at both doors.

mod core;
mod counts;
mod end;
mod pen;
mod queue;
mod request;
mod session;
mod terms;
mod wire;

use std::sync::Arc;

use agentbot_wire::{CHAT_PROTOCOL, Code};
use axum::extract::rejection::QueryRejection;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, Query, State as From};
use axum::response::Response;
use futures_util::{Sink, Stream, StreamExt, future, sink::SinkExt};
use serde::Deserialize;

use self::core::Asker;
pub use self::counts::Counts;
use self::terms::Terms;
use self::wire::{Inbound, Outbound};
use super::State;
use super::agentbot::envelope::Refusal;
use super::agentbot::request::Tag;
use super::auth::{Caller, Held};
use super::quota::Quota;
use super::serve::Place;
use super::socket::{self, Read};
use super::tcp::Guest;
use crate::error::Error;

/// The agent that is meant where a request names none.
#[derive(Deserialize)]
pub struct Meant {
    agent: Option<String>,
}

/// `GET /api/chat/ws`.
pub async fn upgrade(
    From(state): From<State>,
    (Caller(actor), held, quota): (Caller, Held, Quota),
    places: (Option<Extension<Place>>, Option<Extension<Guest>>),
    Tag(tag): Tag,
    meant: Result<Query<Meant>, QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let upgrade = upgrade.map_err(|why| {
        let error = Error::new(Code::Invalid, format!("this is no upgrade to a WebSocket: {}", why.body_text()));
        Refusal::new(error.hint("docs/API.md describes the chat socket"), tag.clone())
    })?;
    let Query(Meant { agent }) = meant.map_err(|why| {
        Refusal::new(Error::invalid("query", why.body_text()).hint("?agent=<id or name> is all it takes"), tag)
    })?;
    let asker = Asker { chat: state.chat.clone(), actor: actor.clone() };
    let terms = Terms {
        actor,
        held,
        quota,
        agent,
        ping: state.config.load().chat.ping,
        stop: state.instances.stopping().clone(),
        counts: Arc::clone(&state.clients),
    };
    let tasks = state.tasks.clone();
    Ok(socket::bounded(upgrade).protocols([CHAT_PROTOCOL]).on_upgrade(move |socket| async move {
        tasks.track_future(session::run(&asker, &terms, frames(socket))).await;
        drop(places);
    }))
}

/// The socket in the session's words.
fn frames(socket: WebSocket) -> impl Stream<Item = Inbound> + Sink<Outbound, Error = axum::Error> + Unpin + Send {
    socket
        .map(socket::read)
        .take_while(|read| future::ready(!matches!(read, Read::End)))
        .map(|read| match read {
            Read::Text(text) => Inbound::Text(text),
            Read::Life | Read::End => Inbound::Life,
            Read::Unfit(code, why) => Inbound::Unfit(code, why),
        })
        .with(|outbound| {
            future::ready(Ok(match outbound {
                Outbound::Text(text) => Message::Text(text),
                Outbound::Ping => Message::Ping(axum::body::Bytes::new()),
                Outbound::Close(code, reason) => Message::Close(Some(CloseFrame { code, reason: reason.into() })),
            }))
        })
}
