//! The TCP door, at a port of its own.

use std::net::{SocketAddr, TcpListener};

use super::daemon::Daemon;
use super::setup::Setup;

/// A free port of loopback. Somebody else may take it before it is used; on a machine that runs tests nobody does.
fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
}

impl Setup {
    /// With a TCP door on loopback; gives its address too.
    #[must_use]
    pub fn tcp(self) -> (Self, SocketAddr) {
        let door = free_port();
        (self.set("http.listen", &format!("{:?}", door.to_string())), door)
    }
}

impl Daemon {
    /// The gateway token of an agent.
    ///
    /// # Panics
    /// When it is not shown.
    pub async fn token(&self, name: &str) -> String {
        let shown = self.get(&format!("/api/instance/{name}/token")).await.expect(200).value();
        shown["token"].as_str().expect("a token").to_owned()
    }
}
