//! The connection to the daemon: made, kept, and made again for as long as the agent lives.

mod protocol;
mod session;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agentbot_wire::{AGENT_PROTOCOL, MAX_FRAME};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::Error as WsError;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::backoff::{self, Backoff};
use crate::log::Log;
use crate::turn::Desk;

/// The daemon has this long to accept the connection and to answer the upgrade.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// A link that lived this long was good: the next pause starts small again. A shorter one counts as a failed attempt,
/// so a daemon that drops every link at once is not hammered.
const GOOD_AFTER: Duration = Duration::from_secs(2);

/// The socket's read buffer in bytes. Frames may be longer; nearly all are shorter.
const READ_BUFFER: usize = 4 * 1024;

/// Bytes collected before they are written without a flush.
const WRITE_BUFFER: usize = 4 * 1024;

/// Longest content of the file `nonce` in bytes.
const MAX_NONCE: usize = 1024;

/// What a link is made from.
#[derive(Debug)]
pub struct LinkConfig {
    /// The daemon's socket; the file `nonce` lies beside it.
    pub socket: PathBuf,
    /// When this agent started.
    pub started: Instant,
    /// Another word for each start of this process.
    pub boot: String,
}

/// Why there is no link, or no longer one.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// The agent was told to stop.
    Stopped,
    /// The daemon is away, or said something that ends the link.
    Lost(String),
    /// The daemon answered and does not want this agent.
    Refused(String),
}

/// Keeps a link to the daemon until `stopped` turns true.
pub async fn run(config: &LinkConfig, desk: &Desk, mut stopped: watch::Receiver<bool>, log: &Log) {
    let mut backoff = Backoff::new();
    let mut said = None;
    loop {
        let begun = Instant::now();
        let mut greeted = false;
        let connected = tokio::select! {
            connected = connect(&config.socket) => connected,
            () = told(&mut stopped) => Err(Ended::Stopped),
        };
        let ended = match connected {
            Ok((stream, nonce)) => {
                let ended = session::run(stream, nonce, config, desk, &mut stopped, log, &mut greeted).await;
                desk.left();
                ended
            }
            Err(ended) => ended,
        };
        if greeted {
            said = None;
            if begun.elapsed() >= GOOD_AFTER {
                backoff.reset();
            }
        }
        let (why, pause) = match ended {
            Ended::Stopped => return,
            Ended::Lost(why) => (why, backoff.pause(backoff::chance())),
            Ended::Refused(why) => (format!("the daemon refused this agent: {why}"), backoff::LONGEST),
        };
        // The same reason again and again is one line, not one every two seconds.
        if said.as_ref() != Some(&why) {
            log.warn(&format!("{why}; trying again"));
            said = Some(why);
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = told(&mut stopped) => return,
        }
    }
}

/// Returns when the agent is told to stop.
async fn told(stopped: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it the agent.
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// Connects and upgrades; returns the link and the nonce that it was opened with.
async fn connect(socket: &Path) -> Result<(WebSocketStream<UnixStream>, String), Ended> {
    let nonce = read_nonce(&socket.with_file_name("nonce"))?;
    let request = upgrade_request(&nonce)?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(MAX_FRAME + WRITE_BUFFER)
        .max_message_size(Some(MAX_FRAME))
        .max_frame_size(Some(MAX_FRAME));
    let upgraded = timeout(CONNECT_LIMIT, async {
        let stream = UnixStream::connect(socket)
            .await
            .map_err(|error| Ended::Lost(format!("cannot connect to {}: {error}", socket.display())))?;
        client_async_with_config(request, stream, Some(config)).await.map_err(refusal)
    })
    .await;
    match upgraded {
        Ok(done) => done.map(|(stream, _)| (stream, nonce)),
        Err(_) => Err(Ended::Lost(format!("no answer to the upgrade within {} s", CONNECT_LIMIT.as_secs()))),
    }
}

/// Reads the slot's nonce: a short file in a local directory, so it is read in place.
///
/// # Errors
/// When it is not there, empty, or longer than any nonce.
pub fn read_nonce(path: &Path) -> Result<String, Ended> {
    let lost = |why: &dyn std::fmt::Display| Ended::Lost(format!("cannot use the nonce {}: {why}", path.display()));
    let read = || -> io::Result<String> {
        use io::Read as _;
        let mut text = String::new();
        let limit = u64::try_from(MAX_NONCE).unwrap_or(u64::MAX).saturating_add(1);
        std::fs::File::open(path)?.take(limit).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|error| lost(&error))?;
    if text.len() > MAX_NONCE {
        return Err(lost(&format!("longer than {MAX_NONCE} bytes")));
    }
    match text.trim() {
        "" => Err(lost(&"the file is empty")),
        nonce => Ok(nonce.to_owned()),
    }
}

fn upgrade_request(nonce: &str) -> Result<Request, Ended> {
    let mut request = "ws://agentbot/agent/ws".into_client_request().map_err(|error| Ended::Lost(error.to_string()))?;
    let mut bearer = HeaderValue::from_str(&format!("Bearer {nonce}"))
        .map_err(|_| Ended::Lost("the nonce has characters that no header carries".to_owned()))?;
    bearer.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, bearer);
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(AGENT_PROTOCOL));
    Ok(request)
}

/// A 4xx to the upgrade is the daemon's considered answer; anything else may pass.
fn refusal(error: WsError) -> Ended {
    match error {
        WsError::Http(response) if response.status().is_client_error() => {
            Ended::Refused(format!("HTTP {}", response.status()))
        }
        error => Ended::Lost(format!("the upgrade failed: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_read_without_its_newline() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nonce");
        std::fs::write(&path, "abc123\n").unwrap();
        assert_eq!(read_nonce(&path), Ok("abc123".to_owned()));
    }

    #[test]
    fn a_nonce_at_the_limit_passes_and_one_byte_more_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nonce");
        std::fs::write(&path, "n".repeat(MAX_NONCE)).unwrap();
        assert!(read_nonce(&path).is_ok());
        std::fs::write(&path, "n".repeat(MAX_NONCE + 1)).unwrap();
        assert!(read_nonce(&path).is_err());
    }

    #[test]
    fn an_absent_or_empty_nonce_is_a_reason_to_try_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nonce");
        assert!(matches!(read_nonce(&path), Err(Ended::Lost(why)) if why.contains("No such file")));
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(read_nonce(&path), Err(Ended::Lost(why)) if why.contains("empty")));
    }

    #[test]
    fn the_upgrade_carries_nonce_and_subprotocol() {
        let request = upgrade_request("abc").unwrap();
        assert_eq!(request.uri().path(), "/agent/ws");
        assert_eq!(request.headers()[AUTHORIZATION], "Bearer abc");
        assert_eq!(request.headers()[SEC_WEBSOCKET_PROTOCOL], AGENT_PROTOCOL);
    }

    #[test]
    fn a_nonce_never_splits_the_header() {
        assert!(upgrade_request("abc\r\nHost: evil").is_err());
    }
}
