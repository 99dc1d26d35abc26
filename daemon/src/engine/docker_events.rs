//! The engine's event stream, opened again after every break.
//!
//! The engine says that a stream is open only with the first event on it. So the time before it is opened is asked for
//! as well: what happens between "connected" and the engine's listening comes all the same, some of it perhaps twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error as Bollard;
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use tokio::time::Instant;

use super::docker::{Docker, Session};
use super::docker_map::event;
use super::{EngineEvent, label};

const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A stream this old was a good one: the next pause is short again.
const PROVEN: Duration = Duration::from_secs(5);
/// After this long without an event the engine is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(30);

type Messages = BoxStream<'static, Result<EventMessage, Bollard>>;

struct Watch {
    docker: Arc<Docker>,
    daemon: String,
    open: Option<Open>,
    /// Where to go on, in nanoseconds since 1970.
    since: i128,
    pause: Duration,
    tried: bool,
}

struct Open {
    messages: Messages,
    session: Arc<Session>,
    at: Instant,
}

/// The filter for what carries the daemon label with this value.
pub(super) fn labelled(daemon: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{}={daemon}", label::DAEMON)])])
}

pub(super) fn events(docker: Arc<Docker>, daemon: String) -> impl Stream<Item = EngineEvent> + Send + 'static {
    let since = Timestamp::now().as_nanosecond();
    let watch = Watch { docker, daemon, open: None, since, pause: SHORTEST_PAUSE, tried: false };
    stream::unfold(watch, |mut watch| async move { Some((watch.next().await, watch)) })
}

impl Watch {
    async fn next(&mut self) -> EngineEvent {
        loop {
            let Some(open) = &mut self.open else {
                if self.connect().await {
                    return EngineEvent::Connected;
                }
                continue;
            };
            match tokio::time::timeout(SILENCE, open.messages.next()).await {
                Ok(Some(Ok(message))) => {
                    self.since = message.time_nano.map_or(self.since, |at| self.since.max(i128::from(at) + 1));
                    if let Some(event) = event(message) {
                        return event;
                    }
                }
                Err(_) if self.docker.answers(&open.session).await => {}
                Ok(Some(Err(_)) | None) | Err(_) => {
                    if open.at.elapsed() >= PROVEN {
                        self.pause = SHORTEST_PAUSE;
                    }
                    self.open = None;
                    return EngineEvent::Lost;
                }
            }
        }
    }

    async fn connect(&mut self) -> bool {
        if self.tried {
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        self.tried = true;
        let Ok(session) = self.docker.session().await else { return false };
        if !self.docker.answers(&session).await {
            return false;
        }
        let mut filters = labelled(&self.daemon);
        filters.insert("type".to_owned(), vec!["container".to_owned()]);
        let since = format!("{}.{:09}", self.since / 1_000_000_000, self.since % 1_000_000_000);
        let options = EventsOptionsBuilder::new().since(&since).filters(&filters).build();
        let messages = session.client.events(Some(options)).boxed();
        self.open = Some(Open { messages, session, at: Instant::now() });
        true
    }
}

impl Docker {
    async fn answers(&self, session: &Session) -> bool {
        self.within("ping", self.timeouts.quick, session.client.ping()).await.is_ok()
    }
}
