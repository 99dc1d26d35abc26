//! What can go wrong between the daemon and the engine, in words of ours.

use std::time::Duration;

use agentbot_wire::Code;
use bollard::errors::Error as Bollard;

use crate::error::Error;

const LONGEST: usize = 500;

/// Why a call gave nothing.
#[derive(Debug)]
pub(super) enum Refusal {
    /// No answer in time: whether the engine acted is unknown.
    Late(&'static str, Duration),
    /// The engine, or the way to it, failed.
    Engine(&'static str, Bollard),
    /// Refused before the engine was asked.
    Ours(Error),
}

impl Refusal {
    /// The status the engine answered with, if it answered at all.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Engine(_, Bollard::DockerResponseServerError { status_code, .. }) => Some(*status_code),
            _ => None,
        }
    }

    /// Whether nobody listens on the socket.
    pub(super) fn is_down(&self) -> bool {
        match self {
            Self::Engine(_, Bollard::SocketNotFoundError(_)) => true,
            Self::Engine(_, Bollard::HyperLegacyError { err }) => err.is_connect(),
            _ => false,
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let down = refusal.is_down();
        match refusal {
            Refusal::Ours(error) => error,
            Refusal::Late(call, within) => {
                Self::new(Code::EngineUnavailable, format!("the engine did not answer `{call}` within {within:?}"))
                    .hint("look at its load and its log; what it did is looked up before anything is tried again")
            }
            Refusal::Engine(call, error) if down => {
                Self::new(Code::EngineUnavailable, format!("the engine cannot be reached for `{call}`"))
                    .hint("is Docker running? `systemctl status docker` tells; `[engine] socket` says where it listens")
                    .caused_by(error)
            }
            Refusal::Engine(call, error) => explain(call, error),
        }
    }
}

fn explain(call: &str, error: Bollard) -> Error {
    match error {
        Bollard::DockerResponseServerError { status_code, message } => {
            let code = match status_code {
                404 => Code::NotFound,
                409 => Code::Conflict,
                _ => Code::EngineRefused,
            };
            Error::new(code, format!("the engine refused `{call}`: {}", printable(&message)))
                .hint("its own words say why; `journalctl -u docker` has more")
        }
        Bollard::DockerStreamError { error } => {
            Error::new(Code::EngineRefused, format!("the engine refused `{call}`: {}", printable(&error)))
                .hint("its own words say why; `journalctl -u docker` has more")
        }
        Bollard::HyperLegacyError { ref err } if !is_nonsense(err) => broke_off(call, error),
        Bollard::HyperResponseError { ref err } if !err.is_parse() => broke_off(call, error),
        Bollard::IOError { ref err } if err.kind() != std::io::ErrorKind::InvalidData => broke_off(call, error),
        Bollard::RequestTimeoutError => broke_off(call, error),
        other => Error::new(Code::EngineRefused, format!("the engine answered nonsense to `{call}`"))
            .hint("is it a Docker Engine that listens on `[engine] socket`, and is it whole?")
            .caused_by(other),
    }
}

fn is_nonsense(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn broke_off(call: &str, error: Bollard) -> Error {
    Error::new(Code::EngineUnavailable, format!("the engine broke off while answering `{call}`"))
        .hint("is Docker restarting? what it did is looked up before anything is tried again")
        .caused_by(error)
}

/// The engine's words, in one line and without control characters: they quote names and output of containers.
pub(super) fn printable(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status_code: u16) -> Error {
        let message = "no\u{1b}[31m\nway".to_owned();
        Refusal::Engine("create", Bollard::DockerResponseServerError { status_code, message }).into()
    }

    #[test]
    fn statuses_become_codes_and_the_engines_words_lose_their_control_characters() {
        assert_eq!(answered(404).code(), Code::NotFound);
        assert_eq!(answered(409).code(), Code::Conflict);
        assert_eq!(answered(500).code(), Code::EngineRefused);
        assert!(answered(400).message().ends_with("no [31m way"), "{}", answered(400).message());
    }

    #[test]
    fn every_refusal_carries_a_hint() {
        let refusals = [
            Refusal::Late("stop", Duration::from_secs(1)),
            Refusal::Engine("list", Bollard::SocketNotFoundError("/x".to_owned())),
            Refusal::Engine("list", Bollard::RequestTimeoutError),
            Refusal::Engine("list", Bollard::JsonDataError { message: "x".to_owned(), column: 1 }),
            Refusal::Engine("load", Bollard::DockerStreamError { error: "x".to_owned() }),
        ];
        for refusal in refusals {
            assert!(Error::from(refusal).to_api().hint.is_some());
        }
    }

    #[test]
    fn a_long_text_is_cut() {
        assert_eq!(printable(&"é".repeat(LONGEST + 1)).chars().count(), LONGEST);
    }
}
