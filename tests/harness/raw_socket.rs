//! A WebSocket by the byte: frames that no library would send, and what comes back.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(10);
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const LONGEST_HEAD: usize = 16 * 1024;

/// What a frame is.
pub mod opcode {
    /// Goes on with a message.
    pub const CONTINUATION: u8 = 0x0;
    /// Text.
    pub const TEXT: u8 = 0x1;
    /// Bytes.
    pub const BINARY: u8 = 0x2;
    /// The end.
    pub const CLOSE: u8 = 0x8;
    /// Are you there?
    pub const PING: u8 = 0x9;
    /// I am.
    pub const PONG: u8 = 0xa;
}

/// One frame to send, right in every way that is not changed.
#[derive(Clone, Debug)]
pub struct RawFrame {
    fin: bool,
    reserved: u8,
    opcode: u8,
    masked: bool,
    claims: Option<u64>,
    payload: Vec<u8>,
}

impl RawFrame {
    /// A whole frame.
    #[must_use]
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self { fin: true, reserved: 0, opcode, masked: true, claims: None, payload: payload.into() }
    }

    /// A text frame.
    #[must_use]
    pub fn text(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(opcode::TEXT, payload)
    }

    /// A close with this code and reason.
    #[must_use]
    pub fn close(code: u16, reason: impl AsRef<[u8]>) -> Self {
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(reason.as_ref());
        Self::new(opcode::CLOSE, payload)
    }

    /// More frames of the same message follow.
    #[must_use]
    pub fn not_last(mut self) -> Self {
        self.fin = false;
        self
    }

    /// With these of the three reserved bits: 4, 2, 1.
    #[must_use]
    pub fn reserved(mut self, bits: u8) -> Self {
        self.reserved = bits;
        self
    }

    /// Without a mask, which a client owes.
    #[must_use]
    pub fn unmasked(mut self) -> Self {
        self.masked = false;
        self
    }

    /// Says that it has this many bytes, whatever it has.
    #[must_use]
    pub fn claiming(mut self, bytes: u64) -> Self {
        self.claims = Some(bytes);
        self
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mask_bit = u8::from(self.masked) << 7;
        let mut bytes = vec![u8::from(self.fin) << 7 | self.reserved << 4 | self.opcode];
        let length = self.claims.unwrap_or(self.payload.len() as u64);
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ 0..=125), _) => bytes.push(mask_bit | short),
            (_, Ok(medium)) => {
                bytes.push(mask_bit | 126);
                bytes.extend_from_slice(&medium.to_be_bytes());
            }
            _ => {
                bytes.push(mask_bit | 127);
                bytes.extend_from_slice(&length.to_be_bytes());
            }
        }
        if self.masked {
            bytes.extend_from_slice(&MASK);
            bytes.extend(self.payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        } else {
            bytes.extend_from_slice(&self.payload);
        }
        bytes
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    /// A text message.
    Text(String),
    /// The answer to a ping.
    Pong(Vec<u8>),
    /// A ping.
    Ping(Vec<u8>),
    /// A close with its code, `None` when it has none.
    Close(Option<u16>),
    /// The end of the stream without a close.
    Cut,
    /// Nothing in time.
    Nothing,
}

/// An upgraded connection.
pub struct RawSocket<S> {
    stream: S,
    read: Vec<u8>,
    /// What the upgrade was answered with.
    pub head: String,
}

impl RawSocket<UnixStream> {
    /// An upgraded connection on a Unix socket.
    ///
    /// # Errors
    /// The status instead of an upgrade, or why there is none.
    pub async fn unix(socket: &Path, path: &str, protocol: &str) -> Result<Self, String> {
        let stream = UnixStream::connect(socket).await.map_err(|error| error.to_string())?;
        Self::upgrade(stream, path, &[("sec-websocket-protocol", protocol)]).await
    }
}

impl RawSocket<TcpStream> {
    /// An upgraded connection on the TCP door.
    ///
    /// # Errors
    /// The status instead of an upgrade, or why there is none.
    pub async fn tcp(door: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Self, String> {
        let stream = TcpStream::connect(door).await.map_err(|error| error.to_string())?;
        Self::upgrade(stream, path, headers).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RawSocket<S> {
    /// Upgrades a connection with these headers beside those that every upgrade has.
    ///
    /// # Errors
    /// The status instead of an upgrade, or why there is none.
    pub async fn upgrade(mut stream: S, path: &str, headers: &[(&str, &str)]) -> Result<Self, String> {
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut socket = Self { stream, read: Vec::new(), head: String::new() };
        let end = Instant::now() + PATIENCE;
        let length = loop {
            if let Some(at) = socket.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if socket.read.len() > LONGEST_HEAD || !socket.more(end).await {
                return Err(format!("no answer to the upgrade: {}", String::from_utf8_lossy(&socket.read)));
            }
        };
        let rest = socket.read.split_off(length);
        socket.head = String::from_utf8_lossy(&socket.read).into_owned();
        socket.read = rest;
        if socket.head.starts_with("HTTP/1.1 101 ") { Ok(socket) } else { Err(socket.head) }
    }

    /// Reads once; false at the end of the stream or of the time.
    async fn more(&mut self, end: Instant) -> bool {
        let mut chunk = [0; 16 * 1024];
        match tokio::time::timeout_at(end, self.stream.read(&mut chunk)).await {
            Ok(Ok(length)) if length > 0 => {
                self.read.extend_from_slice(&chunk[..length]);
                true
            }
            _ => false,
        }
    }

    /// Sends bytes; false when the other side does not take them.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> bool {
        let written = tokio::time::timeout(PATIENCE, self.stream.write_all(bytes)).await;
        written.is_ok_and(|written| written.is_ok())
    }

    /// Sends a frame; false when the other side does not take it.
    pub async fn send(&mut self, frame: &RawFrame) -> bool {
        self.send_bytes(&frame.bytes()).await
    }

    /// Sends a frame byte by byte, each in a write of its own.
    pub async fn send_slowly(&mut self, frame: &RawFrame) -> bool {
        for byte in frame.bytes() {
            if !self.send_bytes(&[byte]).await {
                return false;
            }
            tokio::task::yield_now().await;
        }
        true
    }

    /// The next frame that comes back, within this time.
    ///
    /// # Panics
    /// When it is fragmented, masked or of a kind that a server of ours never sends.
    pub async fn next(&mut self, limit: Duration) -> Got {
        let end = Instant::now() + limit;
        loop {
            if let Some((head, length)) = self.head_of_frame()
                && self.read.len() >= head + length
            {
                let (first, payload) = (self.read[0], self.read[head..head + length].to_vec());
                self.read.drain(..head + length);
                assert_eq!(first & 0xf0, 0x80, "whole frames without reserved bits");
                return match first & 0x0f {
                    opcode::TEXT => Got::Text(String::from_utf8(payload).expect("the daemon sends UTF-8")),
                    opcode::PING => Got::Ping(payload),
                    opcode::PONG => Got::Pong(payload),
                    opcode::CLOSE => Got::Close(payload.first_chunk().map(|code: &[u8; 2]| u16::from_be_bytes(*code))),
                    other => panic!("a frame of kind {other} from the daemon"),
                };
            }
            if !self.more(end).await {
                return if Instant::now() < end { Got::Cut } else { Got::Nothing };
            }
        }
    }

    /// Length of the next frame's head and payload, once the head is there.
    fn head_of_frame(&self) -> Option<(usize, usize)> {
        let second = *self.read.get(1)?;
        assert_eq!(second & 0x80, 0, "a server does not mask");
        match second & 0x7f {
            126 => self.read.get(2..4).map(|bytes| (4, usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))),
            127 => {
                self.read.get(2..10)?.first_chunk().map(|bytes: &[u8; 8]| {
                    (10, usize::try_from(u64::from_be_bytes(*bytes)).expect("a length that fits"))
                })
            }
            short => Some((2, usize::from(short))),
        }
    }

    /// The close or the cut at the end, whatever comes before it.
    pub async fn end(&mut self, limit: Duration) -> Got {
        let end = Instant::now() + limit;
        loop {
            let got = self.next(end.saturating_duration_since(Instant::now())).await;
            if matches!(got, Got::Close(_) | Got::Cut | Got::Nothing) {
                return got;
            }
        }
    }

    /// Whether the other side ends the stream after its close.
    pub async fn is_cut(&mut self, limit: Duration) -> bool {
        self.next(limit).await == Got::Cut
    }
}
