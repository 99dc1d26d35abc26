use agentbot_wire::TenantId;

use super::*;
use crate::gateway::call::{Asker, Desk};
use crate::gateway::router::Target;
use crate::store::{Store, StoreOptions};

const FIRST: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n";
const LAST: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";
const SECOND: Duration = Duration::from_secs(1);

fn a_store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("agentbot.db"), StoreOptions::default()).unwrap().store;
    (dir, store)
}

fn a_call(store: &Store) -> Call {
    let asker = Asker { tenant: TenantId::local(), who: "ins_x".to_owned(), model: String::new() };
    let target = Target { provider: "p".to_owned(), model: "m".to_owned(), server: None };
    Desk::new(store.clone()).begin(asker, &target, 1).unwrap()
}

fn bounds() -> Bounds {
    let now = Instant::now();
    Bounds { first: now + 5 * SECOND, idle: 2 * SECOND, end: now + 60 * SECOND, bytes: 1_000 }
}

/// Pieces that come so long after one another; after them the server hangs up, or says nothing for ever.
fn sent(
    pieces: &[&str],
    apart: Duration,
    hangs_up: bool,
) -> impl Stream<Item = std::result::Result<Bytes, Cut>> + use<> {
    let pieces: Vec<Bytes> = pieces.iter().map(|piece| Bytes::copy_from_slice(piece.as_bytes())).collect();
    stream::unfold(pieces.into_iter(), move |mut left| async move {
        tokio::time::sleep(apart).await;
        match left.next() {
            Some(piece) => Some((Ok(piece), left)),
            None if hangs_up => None,
            None => std::future::pending().await,
        }
    })
}

/// What comes out, and the error it ends with.
async fn relayed(
    source: impl Stream<Item = std::result::Result<Bytes, Cut>> + Send + 'static,
    key: Option<&str>,
) -> (String, Option<Error>) {
    let (_dir, store) = a_store();
    relayed_in(&store, source, key).await
}

/// The same with a store that is there already.
async fn relayed_in(
    store: &Store,
    source: impl Stream<Item = std::result::Result<Bytes, Cut>> + Send + 'static,
    key: Option<&str>,
) -> (String, Option<Error>) {
    let key = key.map(|key| Secret::new(key.to_owned()));
    let mut pieces = relay(Source::new("p", bounds(), source), key, a_call(store), &TaskTracker::new());
    let (mut out, mut end) = (Vec::new(), None);
    while let Some(piece) = pieces.next().await {
        assert!(end.is_none(), "nothing comes after an error");
        match piece {
            Ok(piece) => out.extend_from_slice(&piece),
            Err(error) => end = Some(error),
        }
    }
    (String::from_utf8(out).unwrap(), end)
}

#[tokio::test(start_paused = true)]
async fn a_stream_passes_and_ends_with_done_though_the_server_goes_on() {
    let (out, error) = relayed(sent(&[FIRST, LAST, DONE], Duration::ZERO, true), None).await;
    assert_eq!((out, error.is_none()), ([FIRST, LAST, DONE].concat(), true));
    let begun = Instant::now();
    let (out, error) = relayed(sent(&[FIRST, DONE], Duration::ZERO, false), None).await;
    assert_eq!((out, error.is_none()), ([FIRST, DONE].concat(), true));
    assert!(begun.elapsed() < SECOND, "its end is not waited for");
}

#[tokio::test(start_paused = true)]
async fn an_event_cut_anywhere_is_never_passed_on_in_half() {
    let (_dir, store) = a_store();
    let all = [FIRST, LAST].concat();
    for at in 0..all.len() {
        let (out, error) = relayed_in(&store, sent(&[&all[..at]], Duration::ZERO, true), None).await;
        let finished = at >= all.len() - 2;
        assert_eq!(error.is_none(), finished, "{at}");
        assert!(out.is_empty() || out.ends_with('\n'), "{at}: {out}");
        for line in out.lines().filter_map(|line| line.strip_prefix("data: ")) {
            assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{at}: {line}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_leaves_out_the_last_words_is_understood() {
    for end in [LAST, LAST.trim_end(), &format!("{LAST}data: [DONE]"), &format!("{LAST}data: [DONE]\n")] {
        let (out, error) = relayed(sent(&[FIRST, end], Duration::ZERO, true), None).await;
        assert!(error.is_none() && out.ends_with("\n\n"), "{out:?} {error:?}");
        assert!(out.contains("\"stop\""), "{out}");
    }
}

#[tokio::test(start_paused = true)]
async fn silence_has_its_limits_before_and_within_an_answer() {
    let begun = Instant::now();
    let (out, error) = relayed(sent(&[], Duration::ZERO, false), None).await;
    assert_eq!((out.as_str(), error.unwrap().code()), ("", Code::TimedOut));
    assert!(begun.elapsed() >= 5 * SECOND && begun.elapsed() < 6 * SECOND);

    let begun = Instant::now();
    let (out, error) = relayed(sent(&[FIRST], Duration::ZERO, false), None).await;
    let error = error.unwrap();
    assert_eq!((out.as_str(), error.code()), (FIRST, Code::TimedOut));
    assert!(error.to_api().hint.unwrap().contains("models.idle_timeout"));
    assert!(begun.elapsed() >= 2 * SECOND && begun.elapsed() < 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_end_is_cut_by_time_and_by_length() {
    let slow = stream::unfold((), |()| async {
        tokio::time::sleep(SECOND).await;
        Some((Ok(Bytes::from_static(b":\n")), ()))
    });
    let begun = Instant::now();
    let (_, error) = relayed(slow, None).await;
    let error = error.unwrap();
    assert_eq!(error.code(), Code::TimedOut);
    assert!(error.to_api().hint.unwrap().contains("models.max_duration"));
    assert!(begun.elapsed() >= 60 * SECOND && begun.elapsed() < 61 * SECOND);

    for (length, kept) in [(1_000, true), (1_001, false)] {
        let text = format!("{}{LAST}", ":".repeat(length - LAST.len() - 1) + "\n");
        let (_, error) = relayed(sent(&[&text], Duration::ZERO, true), None).await;
        assert_eq!(error.is_none(), kept, "{length}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_is_an_error_after_what_came() {
    let broken = stream::iter([Ok(Bytes::from(FIRST)), Err(Cut::from("reset, and a secret cause"))]);
    let (out, error) = relayed(broken, None).await;
    let error = error.unwrap();
    assert_eq!((out.as_str(), error.code()), (FIRST, Code::ModelFailed));
    assert!(!error.message().contains("secret"));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_comes_back_in_pieces_is_blotted_out() {
    let line = "data: {\"choices\":[{\"delta\":{\"content\":\"sk-secret-key\"}}]}\n\n";
    let (_dir, store) = a_store();
    for at in 0..line.len() {
        let (out, error) =
            relayed_in(&store, sent(&[&line[..at], &line[at..], DONE], Duration::ZERO, true), Some("sk-secret-key"))
                .await;
        assert!(error.is_none() && !out.contains("secret"), "{out}");
        assert_eq!(out.len(), line.len() + DONE.len());
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_in_a_stream_shows_no_part_of_a_key_and_stays_json() {
    let key = "sk-secret-key-0123456789";
    let line = "data: {\"error\":{\"message\":\"Bad key:\\nsk-secret-key-01** (…23456789)\",\"code\":null}}\n\n";
    let (out, error) = relayed(sent(&[FIRST, line], Duration::ZERO, true), Some(key)).await;
    assert!(error.is_none() && !out.contains("sk-secre") && !out.contains("23456789"), "{out}");
    let last: serde_json::Value = serde_json::from_str(out.trim_end().rsplit_once("data: ").unwrap().1).unwrap();
    assert!(last["error"]["message"].as_str().unwrap().starts_with("Bad "), "{last}");
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_text_pass_as_they_are() {
    let (_dir, store) = a_store();
    let pieces = stream::iter([Ok(Bytes::from_static(b"data: \xff\xfe\n\n")), Ok(Bytes::from(DONE))]);
    let out: Vec<_> = relay(Source::new("p", bounds(), pieces), None, a_call(&store), &TaskTracker::new())
        .map(|piece| piece.unwrap())
        .collect()
        .await;
    assert_eq!(out.concat(), [b"data: \xff\xfe\n\n".as_slice(), DONE.as_bytes()].concat());
}

/// A source that notes when it is dropped.
fn watched(
    source: impl Stream<Item = std::result::Result<Bytes, Cut>> + Send + 'static,
) -> (impl Stream<Item = std::result::Result<Bytes, Cut>> + Send + 'static, std::sync::Weak<()>) {
    let guard = std::sync::Arc::new(());
    let dropped = std::sync::Arc::downgrade(&guard);
    let source = source.map(move |piece| {
        let _ = &guard;
        piece
    });
    (source, dropped)
}

fn endless(apart: Duration) -> impl Stream<Item = std::result::Result<Bytes, Cut>> + Send + 'static {
    stream::unfold((), move |()| async move {
        tokio::time::sleep(apart).await;
        Some((Ok(Bytes::from_static(b":\n")), ()))
    })
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_is_given_up_with_its_connection() {
    let (_dir, store) = a_store();
    let (source, open) = watched(endless(SECOND / 10));
    let mut pieces = relay(Source::new("p", bounds(), source), None, a_call(&store), &TaskTracker::new());
    tokio::time::sleep(2 * SECOND).await;
    assert!(open.upgrade().is_some(), "it is kept for a while");
    tokio::time::sleep(SECOND).await;
    assert!(open.upgrade().is_none());
    assert!(pieces.next().await.unwrap().is_ok(), "what was read before is there");
    let error = pieces.next().await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::TimedOut);
    assert!(error.to_api().hint.is_some());
    assert!(pieces.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_read_slowly_has_an_end_too() {
    let (_dir, store) = a_store();
    let (source, open) = watched(endless(SECOND / 10));
    let mut limits = bounds();
    limits.bytes = usize::MAX;
    let begun = Instant::now();
    let mut pieces = relay(Source::new("p", limits, source), None, a_call(&store), &TaskTracker::new());
    while open.upgrade().is_some() {
        assert!(pieces.next().await.unwrap().is_ok());
        tokio::time::sleep(3 * SECOND / 2).await;
    }
    assert!(begun.elapsed() >= 60 * SECOND && begun.elapsed() < 62 * SECOND, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_given_up_at_once_when_whoever_asked_has_gone() {
    let (_dir, store) = a_store();
    let (source, open) = watched(sent(&[FIRST], Duration::ZERO, false));
    let mut pieces = relay(Source::new("p", bounds(), source), None, a_call(&store), &TaskTracker::new());
    assert!(pieces.next().await.unwrap().is_ok());
    drop(pieces);
    tokio::task::yield_now().await;
    assert!(open.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_last_words_are_not_held_back_until_the_server_hangs_up() {
    let (_dir, store) = a_store();
    let (source, open) = watched(sent(&[&[FIRST, LAST, DONE].concat()], Duration::ZERO, false));
    let begun = Instant::now();
    let mut pieces = relay(Source::new("p", bounds(), source), None, a_call(&store), &TaskTracker::new());
    let all = pieces.next().await.unwrap().unwrap();
    assert_eq!(all, [FIRST, LAST, DONE].concat());
    assert!(pieces.next().await.is_none());
    assert!(begun.elapsed() < GOODBYE, "{:?}", begun.elapsed());
    assert!(open.upgrade().is_some(), "the server may still end in order");
    tokio::time::sleep(2 * GOODBYE).await;
    assert!(open.upgrade().is_none());
}
