//! Paths that become sockets: the kernel takes at most 107 bytes of them.

use std::path::{Path, PathBuf};

use super::Engine;
use super::mistake::{Mistake, Mistakes};

/// The longest path of a Unix socket, in bytes.
pub const SOCKET_PATH_MAX: usize = 107;

/// Where the engine listens when nothing else is said.
const ENGINE_SOCKET: &str = "/var/run/docker.sock";

/// What the longest path of an agent's socket adds to the state directory: the slot, its socket directory, and the name
/// under which a socket is bound before it is renamed.
const UNDER_STATE: &str = "/slots/slt_00000000000000000000000000/run/agentbot.sock";
/// The same for the runtime directory.
const UNDER_RUNTIME: &str = "/agentbot.sock";

/// Checks the state and the runtime directory: absolute, and short enough for the sockets inside.
///
/// # Errors
/// What is wrong with either.
pub fn check_paths(state: &Path, runtime: &Path) -> Result<(), Mistakes> {
    let state = problem(state, UNDER_STATE).map(|problem| mistake("--state-dir", problem));
    let runtime = problem(runtime, UNDER_RUNTIME).map(|problem| mistake("--runtime-dir", problem));
    Mistakes::check(state.into_iter().chain(runtime).collect())
}

fn problem(directory: &Path, under: &str) -> Option<String> {
    let shown = directory.display();
    if !directory.is_absolute() {
        return Some(format!("{shown} is not an absolute path"));
    }
    let (length, most) = (directory.as_os_str().len(), SOCKET_PATH_MAX - under.len());
    (length > most).then(|| {
        format!(
            "{shown} has {length} bytes, and at most {most} are allowed: the path of a socket inside would be too long"
        )
    })
}

fn mistake(option: &str, problem: String) -> Mistake {
    Mistake { file: PathBuf::from(option), line: None, key: String::new(), problem }
}

/// The engine's socket: `[engine] socket`, else `DOCKER_HOST`, else the usual place.
///
/// # Errors
/// `DOCKER_HOST` is not a Unix socket, or the path is not absolute or over 107 bytes.
pub fn engine_socket(engine: &Engine, docker_host: Option<&str>) -> Result<PathBuf, Mistakes> {
    let wrong = |from: &str, problem: String| Err(Mistakes::of_file(from, problem));
    let (from, path) = match (&engine.socket, docker_host.filter(|host| !host.is_empty())) {
        (Some(path), _) => ("[engine] socket", path.clone()),
        (None, Some(host)) => match host.strip_prefix("unix://") {
            Some(path) => ("DOCKER_HOST", PathBuf::from(path)),
            None => {
                let problem = format!("{host} is not a Unix socket (unix:///…); set [engine] socket, or unset it");
                return wrong("DOCKER_HOST", problem);
            }
        },
        (None, None) => ("default", PathBuf::from(ENGINE_SOCKET)),
    };
    if !path.is_absolute() {
        return wrong(from, format!("{} is not an absolute path", path.display()));
    }
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_MAX {
        return wrong(from, format!("the path has {length} bytes, and a socket's at most {SOCKET_PATH_MAX}"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absolute(length: usize) -> PathBuf {
        PathBuf::from(format!("/{}", "x".repeat(length - 1)))
    }

    #[test]
    fn directories_are_short_enough_for_their_sockets() {
        let (state, runtime) = (SOCKET_PATH_MAX - UNDER_STATE.len(), SOCKET_PATH_MAX - UNDER_RUNTIME.len());
        assert_eq!(check_paths(&absolute(state), &absolute(runtime)), Ok(()));
        assert!(check_paths(&absolute(state + 1), &absolute(runtime)).unwrap_err().to_string().contains("--state-dir"));
        assert!(
            check_paths(&absolute(state), &absolute(runtime + 1)).unwrap_err().to_string().contains("--runtime-dir")
        );
    }

    #[test]
    fn both_directories_are_named_at_once() {
        let mistakes = check_paths(Path::new("state"), Path::new("")).unwrap_err();
        assert_eq!(mistakes.iter().count(), 2);
    }

    #[test]
    fn the_engine_is_found_where_the_most_particular_word_says() {
        let own = Engine { socket: Some("/own.sock".into()), ..Engine::default() };
        let none = Engine::default();
        let found = |engine, host| engine_socket(engine, host).map(|path| path.display().to_string());
        assert_eq!(found(&own, Some("unix:///other.sock")).as_deref(), Ok("/own.sock"));
        assert_eq!(found(&none, Some("unix:///other.sock")).as_deref(), Ok("/other.sock"));
        assert_eq!(found(&none, Some("")).as_deref(), Ok(ENGINE_SOCKET));
        assert_eq!(found(&none, None).as_deref(), Ok(ENGINE_SOCKET));
        for bad in ["tcp://10.0.0.1:2375", "ssh://host", "/run/docker.sock", "unix://relative"] {
            assert!(found(&none, Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_engine_socket_has_at_most_107_bytes() {
        let engine = |length| Engine { socket: Some(absolute(length)), ..Engine::default() };
        assert!(engine_socket(&engine(SOCKET_PATH_MAX), None).is_ok());
        assert!(engine_socket(&engine(SOCKET_PATH_MAX + 1), None).is_err());
    }
}
