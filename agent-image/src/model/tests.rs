use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::time::sleep;

use super::*;

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
const PIECE: &str = "data: {\"choices\":[]}\n\n";

/// Asks a server that says this, each part after a pause, and then nothing more; how the answer failed, and when.
async fn asked(parts: Vec<(Duration, String)>) -> (Fault, Duration) {
    let directory: TempDir = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let begun = Instant::now();
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
        for (pause, part) in parts {
            sleep(pause).await;
            // Nobody may listen any more.
            let _ = stream.write_all(part.as_bytes()).await;
        }
        std::future::pending::<()>().await;
    };
    let answer = async {
        let mut answer = ask(&socket, "nonce", b"{}".to_vec()).await?;
        while answer.next().await?.is_some() {}
        Ok(())
    };
    let fault = tokio::select! {
        () = server => panic!("the server ends"),
        fault = answer => fault.expect_err("an answer"),
    };
    (fault, begun.elapsed())
}

fn after(seconds: u64, text: &str) -> (Duration, String) {
    (Duration::from_secs(seconds), text.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_model_that_never_begins_is_given_up() {
    let (fault, waited) = asked(vec![]).await;
    assert_eq!((fault.to_string().as_str(), waited.as_secs()), ("nothing came for 170 s", 170));
}

#[tokio::test(start_paused = true)]
async fn head_and_first_piece_share_one_limit() {
    let (_, waited) = asked(vec![after(100, HEAD), after(60, ": still there\n\n")]).await;
    assert_eq!(waited.as_secs(), 170);
}

#[tokio::test(start_paused = true)]
async fn each_piece_is_waited_for_anew() {
    let (_, waited) = asked(vec![after(160, HEAD), after(9, PIECE), after(169, PIECE), after(171, PIECE)]).await;
    assert_eq!(waited.as_secs(), 160 + 9 + 169 + 170);
}

#[tokio::test]
async fn the_longest_reason_is_told_and_one_byte_more_is_not() {
    let refusal = |length: usize| {
        let reason = "{\"error\":{\"message\":\"overloaded\"}}";
        let body = format!("{reason}{}", " ".repeat(length - reason.len()));
        after(0, &format!("HTTP/1.1 503 Busy\r\ncontent-length: {length}\r\n\r\n{body}"))
    };
    assert_eq!(asked(vec![refusal(MAX_BODY)]).await.0.to_string(), "overloaded (HTTP 503)");
    assert_eq!(asked(vec![refusal(MAX_BODY + 1)]).await.0.to_string(), "no reason given (HTTP 503)");
}
