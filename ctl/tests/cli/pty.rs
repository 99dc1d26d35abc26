//! The program on a terminal of its own.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a test waits for what must appear.
const PATIENCE: Duration = Duration::from_secs(10);

/// A program that runs on a terminal, and all that it wrote there.
pub struct Pty {
    child: Child,
    keys: std::fs::File,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Pty {
    /// Runs the program with these words and variables on a terminal of 80 columns.
    pub fn run(socket: &Path, state: &Path, words: &[&str], variables: &[(&str, &str)]) -> Self {
        let size = nix::pty::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = nix::pty::openpty(Some(&size), None).unwrap();
        let end = |fd: &OwnedFd| Stdio::from(fd.as_fd().try_clone_to_owned().unwrap());
        // Ctrl-C reaches who has the terminal: `setsid` gives it a session with this one, and becomes the program.
        let mut command = std::process::Command::new("setsid");
        command.args(["--ctty", env!("CARGO_BIN_EXE_agentbotctl")]).args(words).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("AGENTBOT_SOCKET", socket);
        command.env("TERM", "xterm-256color").env("XDG_STATE_HOME", state).envs(variables.iter().copied());
        command.stdin(end(&pty.slave)).stdout(end(&pty.slave)).stderr(end(&pty.slave));
        let child = command.spawn().unwrap();
        drop(command);
        drop(pty.slave);
        let keys = std::fs::File::from(pty.master);
        let mut screen = keys.try_clone().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&seen);
        // It ends with the terminal.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                all.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { child, keys, seen }
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// All that was written, controls included.
    pub fn raw(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// All that was written, without controls.
    pub fn text(&self) -> String {
        anstream::adapter::strip_str(&self.raw()).to_string().replace('\r', "")
    }

    /// Waits until a text has appeared so often.
    #[track_caller]
    pub fn sees(&self, text: &str, times: usize) {
        let began = Instant::now();
        while self.text().matches(text).count() < times {
            assert!(began.elapsed() < PATIENCE, "{text:?} does not appear {times} times:\n{}", self.text());
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Waits for the end and gives the exit code.
    #[track_caller]
    pub fn ends(&mut self) -> Option<i32> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(began.elapsed() < PATIENCE, "it does not end:\n{}", self.text());
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
