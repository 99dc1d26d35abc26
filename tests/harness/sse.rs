//! Streams of server-sent events.

use serde_json::Value;

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Its id, where it has one.
    pub id: Option<String>,
    /// Its kind.
    pub event: String,
    /// Its data.
    pub data: Value,
}

/// The events of a whole stream. Comments are passed over.
///
/// # Panics
/// When a line is none of the format's, or data is not JSON.
#[must_use]
pub fn told(body: &[u8]) -> Vec<Told> {
    let text = std::str::from_utf8(body).expect("a stream of events is UTF-8");
    let mut all = Vec::new();
    for block in text.split("\n\n") {
        let (mut id, mut event, mut data) = (None, String::new(), String::new());
        for line in block.lines().filter(|line| !line.is_empty() && !line.starts_with(':')) {
            let (field, value) = line.split_once(':').unwrap_or_else(|| panic!("no field in {line:?}"));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => id = Some(value.to_owned()),
                "event" => value.clone_into(&mut event),
                "data" => data.push_str(value),
                "retry" => {}
                other => panic!("no such field: {other}"),
            }
        }
        if !data.is_empty() {
            let data = serde_json::from_str(&data).unwrap_or_else(|error| panic!("{error} in {data:?}"));
            all.push(Told { id, event, data });
        }
    }
    all
}
