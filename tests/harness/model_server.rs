//! A server of models on the loopback that behaves as the name of the model says, well or badly, and remembers what it was
//! sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const EVENTS: &str = "content-type: text/event-stream; charset=utf-8\r\n";
const JSON: &str = "content-type: application/json\r\n";
/// What every answer carries beside its body, and nobody behind the daemon should see.
const HEADERS: &str = "set-cookie: session=upstream\r\nx-upstream: secret-of-upstream\r\nconnection: close\r\n";

/// One request that came.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Method and path.
    pub line: String,
    /// Headers, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Heard {
    /// One header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// The server; it ends when this is dropped.
#[derive(Debug)]
pub struct ModelServer {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    _running: JoinSet<()>,
}

impl ModelServer {
    /// Starts one. A request for the model `redirect` is sent on to `elsewhere`.
    ///
    /// # Panics
    /// When there is no port for it.
    pub async fn start(elsewhere: Option<&Self>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port on the loopback");
        let address = listener.local_addr().expect("a bound listener");
        let heard = Arc::<Mutex<Vec<Heard>>>::default();
        let elsewhere = elsewhere.map(Self::base_url).unwrap_or_default();
        let mut running = JoinSet::new();
        let memory = Arc::clone(&heard);
        running.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(serve(stream, Arc::clone(&memory), elsewhere.clone()));
                while open.try_join_next().is_some() {}
            }
        });
        Self { address, heard, _running: running }
    }

    /// Its address, as a provider's `base_url`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// What it was sent, oldest first.
    #[must_use]
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(mut stream: TcpStream, memory: Arc<Mutex<Vec<Heard>>>, elsewhere: String) {
    let Some(heard) = hear(&mut stream).await else { return };
    memory.lock().unwrap_or_else(PoisonError::into_inner).push(heard.clone());
    // Whoever hangs up first is meant to.
    let _ = answer(&mut stream, &heard, &elsewhere).await;
}

async fn hear(stream: &mut TcpStream) -> Option<Heard> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let mut lines = text.lines();
    let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0_usize);
    let mut body = bytes.split_off(head + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Heard { line, headers, body })
}

fn delta(text: &str) -> String {
    let choice = json!({"index": 0, "delta": {"content": text}, "finish_reason": null});
    format!("data: {}\n\n", json!({"object": "chat.completion.chunk", "choices": [choice], "x_new": 1}))
}

/// The end of a stream as it should be.
fn last() -> String {
    let choice = json!({"index": 0, "delta": {}, "finish_reason": "stop"});
    let usage = json!({"prompt_tokens": 11, "completion_tokens": 22, "total_tokens": 33});
    let (stop, usage) = (json!({"choices": [choice]}), json!({"choices": [], "usage": usage}));
    format!("data: {stop}\n\ndata: {usage}\n\ndata: [DONE]\n\n")
}

async fn head(stream: &mut TcpStream, status: &str, more: &str) -> std::io::Result<()> {
    stream.write_all(format!("HTTP/1.1 {status}\r\n{HEADERS}{more}\r\n").as_bytes()).await
}

async fn whole(stream: &mut TcpStream, status: &str, kind: &str, body: &str) -> std::io::Result<()> {
    head(stream, status, &format!("{kind}content-length: {}\r\n", body.len())).await?;
    stream.write_all(body.as_bytes()).await
}

async fn answer(stream: &mut TcpStream, heard: &Heard, elsewhere: &str) -> std::io::Result<()> {
    if heard.line.starts_with("GET /v1/models") {
        let names = json!({"object": "list", "data": [{"id": "echo"}, {"id": "stream"}]});
        return whole(stream, "200 OK", JSON, &names.to_string()).await;
    }
    let request = heard.json();
    let key = heard.header("authorization").unwrap_or_default().trim_start_matches("Bearer ").to_owned();
    let complaint = |said: &str| json!({"error": {"message": said, "type": "x", "code": "y"}}).to_string();
    match request["model"].as_str().unwrap_or_default() {
        "echo" => {
            let message = json!({"role": "assistant", "content": "an answer", "x_new": {"deep": [1, 2.50]}});
            let usage = json!({"prompt_tokens": 3, "completion_tokens": 4});
            let body = json!({"choices": [{"message": message}], "usage": usage, "x_received": request});
            whole(stream, "200 OK", JSON, &body.to_string()).await
        }
        "stream" | "slow" => {
            head(stream, "200 OK", EVENTS).await?;
            let pause = if request["model"] == "slow" { 500 } else { 20 };
            for piece in ["one ", "two ", "three"] {
                stream.write_all(delta(piece).as_bytes()).await?;
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            stream.write_all(last().as_bytes()).await
        }
        "endless" => {
            head(stream, "200 OK", EVENTS).await?;
            loop {
                stream.write_all(delta("more and more ").as_bytes()).await?;
            }
        }
        "drip" => {
            head(stream, "200 OK", EVENTS).await?;
            loop {
                stream.write_all(b": still there\n\n").await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        "line" => {
            head(stream, "200 OK", EVENTS).await?;
            loop {
                stream.write_all(&[b'x'; 8192]).await?;
            }
        }
        "cut" => {
            head(stream, "200 OK", &format!("{EVENTS}transfer-encoding: chunked\r\n")).await?;
            let whole = delta("one ");
            let piece = format!("{whole}{}", &whole[..whole.len() / 2]);
            stream.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).await
        }
        "stops" => {
            head(stream, "200 OK", EVENTS).await?;
            stream.write_all(delta("one ").as_bytes()).await?;
            std::future::pending().await
        }
        "garbage" => {
            head(stream, "200 OK", EVENTS).await?;
            stream.write_all(b"data: \xff\xfe{]\n\n\x00\x01\ndata: {\"choices\":7}\n\n").await?;
            stream.write_all(last().as_bytes()).await
        }
        "complains" => {
            head(stream, "200 OK", EVENTS).await?;
            stream.write_all(delta("one ").as_bytes()).await?;
            stream.write_all(format!("data: {}\n\n", complaint(&format!("overloaded {:.12}", key))).as_bytes()).await
        }
        "leaks" => {
            head(stream, "200 OK", EVENTS).await?;
            stream.write_all(delta(&format!("your key is {key}")).as_bytes()).await?;
            stream.write_all(last().as_bytes()).await
        }
        "leaks-whole" => whole(stream, "200 OK", JSON, &json!({"choices": [], "key": key}).to_string()).await,
        "huge" => {
            head(stream, "200 OK", &format!("{JSON}content-length: {}\r\n", 1_u64 << 30)).await?;
            loop {
                stream.write_all(&[b' '; 65_536]).await?;
            }
        }
        "headers" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
            for number in 0..4_000 {
                stream.write_all(format!("x-{number}: {}\r\n", "v".repeat(1_000)).as_bytes()).await?;
            }
            stream.write_all(b"\r\n").await
        }
        "html" => whole(stream, "200 OK", "content-type: text/html\r\n", "<html>log in</html>").await,
        "broken" => whole(stream, "200 OK", JSON, "{\"choices\": [").await,
        "noise" => stream.write_all(b"\x16\x03\x01 this is not HTTP\r\n\r\n").await,
        "silent" => std::future::pending().await,
        "redirect" => {
            whole(stream, "307 Temporary Redirect", &format!("location: {elsewhere}/chat/completions\r\n"), "").await
        }
        "unauthorized" => {
            let said =
                complaint(&format!("Incorrect API key provided: {}*****. Bearer {key}", &key[..key.len().min(12)]));
            whole(stream, "401 Unauthorized", JSON, &said).await
        }
        "limited" => whole(stream, "429 Too Many Requests", JSON, &complaint("slow down")).await,
        "fails" => whole(stream, "500 Internal Server Error", JSON, &complaint(&format!("cannot use {key}"))).await,
        _ => whole(stream, "404 Not Found", JSON, &complaint("no such model")).await,
    }
}
