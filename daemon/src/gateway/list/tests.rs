use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::config::ApiKey;

/// Servers that take their time, and count how often they are asked.
#[derive(Default)]
struct Slow {
    takes: Duration,
    asked: AtomicUsize,
}

impl Slow {
    fn new(takes: Duration) -> Self {
        Self { takes, asked: AtomicUsize::new(0) }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Asks for Slow {
    async fn ask(&self, name: &str, _: &Provider) -> Result<Vec<String>> {
        let count = self.asked.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(self.takes).await;
        Ok(vec![format!("{name}-{count}")])
    }
}

fn models(names: &[&str]) -> Models {
    let mut models = Models::default();
    for name in names {
        let base_url = "http://127.0.0.1:1/v1".to_owned();
        let provider = Provider { kind: ProviderKind::OpenAi, base_url, api_key: ApiKey::Env("KEY".to_owned()) };
        models.providers.insert((*name).to_owned(), provider);
    }
    models
}

fn ids(list: &ModelList) -> Vec<&str> {
    list.models.iter().skip(1).map(|model| model.id.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_list_is_made_once_a_minute_and_shared_meanwhile() {
    let (lists, servers, models) = (Lists::default(), Slow::new(Duration::ZERO), models(&["a", "b"]));
    let first = lists.list(&models, &servers).await;
    assert_eq!(ids(&first), ["a/a-0", "b/b-1"]);
    tokio::time::advance(FRESH - Duration::from_millis(1)).await;
    assert!(Arc::ptr_eq(&first, &lists.list(&models, &servers).await));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(ids(&*lists.list(&models, &servers).await), ["a/a-2", "b/b-3"]);
}

#[tokio::test(start_paused = true)]
async fn those_who_come_while_one_looks_get_the_list_of_before() {
    let (lists, models) = (Lists::default(), models(&["a"]));
    let first = lists.list(&models, &Slow::new(Duration::ZERO)).await;
    tokio::time::advance(FRESH).await;
    let slow = Slow::new(PATIENCE / 2);
    let begun = Instant::now();
    let (renewed, others) = tokio::join!(lists.list(&models, &slow), async {
        let mut others = Vec::new();
        for _ in 0..100 {
            others.push(lists.list(&models, &slow).await);
        }
        (others, begun.elapsed())
    });
    assert!(others.0.iter().all(|other| Arc::ptr_eq(other, &first)));
    assert_eq!((others.1, slow.asked()), (Duration::ZERO, 1), "nobody else waits, and nobody else asks");
    assert!(!Arc::ptr_eq(&renewed, &first));
}

#[tokio::test(start_paused = true)]
async fn those_who_come_before_there_is_a_list_wait_for_it_and_not_for_ever() {
    let (lists, models) = (Lists::default(), models(&["a"]));
    let slow = Slow::new(PATIENCE / 2);
    let (one, other) = tokio::join!(lists.list(&models, &slow), lists.list(&models, &slow));
    assert!(Arc::ptr_eq(&one, &other) && slow.asked() == 1);

    let lists = Lists::default();
    let held = lists.turn.acquire().await.unwrap();
    let begun = Instant::now();
    let list = lists.list(&models, &slow).await;
    assert!(begun.elapsed() >= WAIT && begun.elapsed() < 2 * WAIT);
    assert_eq!((list.count, list.providers[1].reachable), (1, Some(false)));
    drop(held);
    assert_eq!(lists.list(&models, &slow).await.count, 2, "what was not known is not remembered");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_holds_up_no_list_and_whoever_leaves_holds_up_nobody() {
    let (lists, models) = (Lists::default(), models(&["a"]));
    let hanging = Slow::new(100 * PATIENCE);
    let begun = Instant::now();
    let left = timeout(PATIENCE / 2, lists.list(&models, &hanging)).await;
    assert!(left.is_err());
    let list = lists.list(&models, &hanging).await;
    assert!(begun.elapsed() < 2 * PATIENCE, "{:?}", begun.elapsed());
    assert!(list.providers[1].error.as_ref().unwrap().contains("not said yet"));
}

#[tokio::test(start_paused = true)]
async fn a_changed_configuration_is_followed_and_what_is_known_is_not_asked_again() {
    let (lists, servers) = (Lists::default(), Slow::new(Duration::ZERO));
    lists.list(&models(&["a"]), &servers).await;
    let mut changed = models(&["a", "b"]);
    changed.aliases.insert("quick".to_owned(), "also".to_owned());
    changed.aliases.insert("also".to_owned(), "b/b-1".to_owned());
    let list = lists.list(&changed, &servers).await;
    assert_eq!((ids(&list), servers.asked()), (vec!["a/a-0", "b/b-1"], 2));
    assert_eq!(list.models[2].aliases, ["also", "quick"]);
    changed.providers.remove("a");
    assert_eq!(ids(&*lists.list(&changed, &servers).await), ["b/b-1"]);
}

#[test]
fn a_list_gives_its_plain_names() {
    let body =
        br#"{"object":"list","data":[{"id":"a:1b","owned_by":"x"},{"id":""},{"id":"b\u001b[2J"},{"id":"org/c"}]}"#;
    assert_eq!(names(body).unwrap(), ["a:1b", "org/c"]);
    assert_eq!(names(br#"{"data":[]}"#).unwrap(), [""; 0]);
    for bad in [b"".as_slice(), b"[]", b"<html>", br#"{"models":[]}"#] {
        assert_eq!(names(bad), None);
    }
    let many: Vec<_> = (0..=MAX_MODELS).map(|id| serde_json::json!({"id": id.to_string()})).collect();
    assert_eq!(names(serde_json::json!({"data": many}).to_string().as_bytes()).unwrap().len(), MAX_MODELS);
}
