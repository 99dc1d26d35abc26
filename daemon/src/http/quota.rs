//! What one gateway token may take of the daemon, by however many connections and doors it is shown.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agentbot_wire::Code;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::agentbot::envelope::Refusal;
use super::auth;
use super::limit::{Window, whole_seconds};
use super::pace::{Bucket, Pace};
use super::request_id::RequestId;
use crate::config::Http;
use crate::error::Error;
use crate::identity::CredentialHash;
use crate::ration::{Seat, Seats};

/// Messages that one token may send by HTTP in a minute, as dialect B has it.
pub const POSTS: usize = 60;
const MINUTE: Duration = Duration::from_secs(60);
/// Frames that all sockets of one token may send: five lively ones at once, or the pongs of all.
pub const FRAMES: Pace = Pace { burst: 1_000, each: Duration::from_millis(5) };
/// Tokens whose frames are counted at once. Beyond them a new one has to wait until others are quiet.
const REMEMBERED: usize = 4_096;

/// What each token has taken.
pub struct Quotas {
    connections: usize,
    messages: usize,
    sent: Window<CredentialHash>,
    frames: Mutex<HashMap<CredentialHash, Bucket>>,
    seats: Seats<CredentialHash>,
}

impl Quotas {
    /// Nothing yet.
    pub fn new(http: &Http) -> Arc<Self> {
        Arc::new(Self {
            connections: http.token_connections,
            messages: http.token_messages,
            sent: Window::new(MINUTE),
            frames: Mutex::default(),
            seats: Seats::default(),
        })
    }

    /// A seat for one more connection of a token.
    pub fn seat(&self, token: CredentialHash) -> Option<Seat<CredentialHash>> {
        self.seats.take(&token, self.connections)
    }

    /// Connections that a token may have.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// Counts a message that comes by HTTP.
    ///
    /// # Errors
    /// It is one too many: the time after which there is room again.
    pub fn post(&self, token: CredentialHash) -> Result<(), Duration> {
        self.sent.pass(token, POSTS.min(self.messages))
    }

    fn frame(&self, token: CredentialHash) -> bool {
        // Every statement leaves the map whole, so a panic elsewhere cannot have broken it.
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        if frames.len() >= REMEMBERED && !frames.contains_key(&token) {
            frames.retain(|_, bucket| !bucket.is_full());
            if frames.len() >= REMEMBERED {
                return false;
            }
        }
        frames.entry(token).or_insert_with(|| Bucket::new(FRAMES)).take()
    }
}

/// The share of one caller, as a handler's argument.
#[derive(Clone)]
pub struct Quota(Option<(Arc<Quotas>, CredentialHash)>);

impl Quota {
    /// An operator's: on this machine they may do everything.
    pub fn unbounded() -> Self {
        Self(None)
    }

    /// That of a token.
    pub fn of(quotas: &Arc<Quotas>, token: CredentialHash) -> Self {
        Self(Some((Arc::clone(quotas), token)))
    }

    /// Whether it has no end.
    pub fn is_unbounded(&self) -> bool {
        self.0.is_none()
    }

    /// Counts a frame of a socket; says whether it may come.
    pub fn frame(&self) -> bool {
        self.0.as_ref().is_none_or(|(quotas, token)| quotas.frame(*token))
    }

    /// Counts a message that comes by a socket.
    ///
    /// # Errors
    /// `rate_limited`: it is one too many.
    pub fn message(&self) -> Result<(), Error> {
        let Some((quotas, token)) = &self.0 else { return Ok(()) };
        quotas.sent.pass(*token, quotas.messages).map_err(|wait| {
            let what = format!("{} messages a minute are the limit of one token", quotas.messages);
            Error::new(Code::RateLimited, what).hint(format!("send it again in {} s", whole_seconds(wait)))
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Quota {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        let id = parts.extensions.get::<RequestId>().cloned();
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Refusal::new(auth::nobody(), id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: CredentialHash = [1; 32];
    const B: CredentialHash = [2; 32];

    fn quotas() -> Arc<Quotas> {
        Quotas::new(&Http { token_connections: 2, token_messages: 100, ..Http::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn messages_of_one_token_are_counted_together_whichever_way_they_come() {
        let quotas = quotas();
        let socket = Quota::of(&quotas, A);
        for _ in 0..POSTS / 2 {
            quotas.post(A).unwrap();
            socket.message().unwrap();
        }
        assert_eq!(quotas.post(A), Err(MINUTE), "60 a minute, and half of them came by a socket");
        for _ in POSTS..100 {
            socket.message().unwrap();
        }
        let error = Quota::of(&quotas, A).message().unwrap_err();
        assert_eq!(error.code(), Code::RateLimited, "another socket is no way round it");
        assert_eq!(error.to_api().hint.as_deref(), Some("send it again in 60 s"));
        assert!(Quota::of(&quotas, B).message().is_ok(), "another token has a count of its own");
        tokio::time::advance(MINUTE).await;
        assert!(quotas.post(A).is_ok() && socket.message().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn frames_of_one_token_are_counted_together() {
        let quotas = quotas();
        let sockets = [Quota::of(&quotas, A), Quota::of(&quotas, A)];
        assert!((0..FRAMES.burst).all(|number| sockets[usize::from(number % 2 == 0)].frame()));
        assert!(!sockets[0].frame() && !sockets[1].frame());
        assert!(Quota::of(&quotas, B).frame());
        tokio::time::advance(FRAMES.each).await;
        assert!(sockets[0].frame() && !sockets[1].frame());
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_without_end_cost_no_more_memory() {
        let quotas = quotas();
        let token = |number: usize| {
            let mut token = [0; 32];
            token[..8].copy_from_slice(&number.to_be_bytes());
            token
        };
        assert!((0..REMEMBERED).all(|number| quotas.frame(token(number))));
        assert!(!quotas.frame(token(REMEMBERED)));
        tokio::time::advance(FRAMES.each).await;
        assert!(quotas.frame(token(REMEMBERED)));
        assert_eq!(quotas.frames.lock().unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn operators_have_no_bounds() {
        let quota = Quota::unbounded();
        assert!((0..10 * FRAMES.burst).all(|_| quota.frame() && quota.message().is_ok()));
    }

    #[test]
    fn so_many_connections_show_one_token_at_once() {
        let quotas = quotas();
        let seats = (quotas.seat(A), quotas.seat(A));
        assert!(quotas.seat(A).is_none() && quotas.seat(B).is_some());
        drop(seats);
        assert!(quotas.seat(A).is_some());
    }
}
