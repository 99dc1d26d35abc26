//! A notify socket as systemd would give one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixDatagram;

/// Hears what a service tells its manager.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl NotifySocket {
    /// Listens at this path.
    ///
    /// # Panics
    /// When the path is taken.
    #[must_use]
    pub fn bind(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { socket, path: path.to_owned() }
    }

    /// Value for `NOTIFY_SOCKET`.
    #[must_use]
    pub fn address(&self) -> String {
        self.path.display().to_string()
    }

    /// Reads messages until one has this line; gives everything that was said before and with it.
    ///
    /// # Panics
    /// When it does not come in time.
    pub async fn wait_for(&self, line: &str, deadline: Duration) -> Vec<String> {
        let mut heard: Vec<String> = Vec::new();
        let listen = async {
            let mut buffer = [0; 4096];
            loop {
                let length = self.socket.recv(&mut buffer).await.expect("the notify socket can be read");
                let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let done = message.lines().any(|said| said == line);
                heard.push(message);
                if done {
                    return;
                }
            }
        };
        let in_time = tokio::time::timeout(deadline, listen).await.is_ok();
        assert!(in_time, "`{line}` was not said within {deadline:?}; heard: {heard:?}");
        heard
    }
}
