//! What an agent asks of a model. Only what the gateway needs is read; the rest goes on as it came, byte for byte.

use std::borrow::Cow;
use std::fmt;

use agentbot_wire::Code;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Error, Result};

/// The longest word for a model, in bytes.
const MAX_MODEL: usize = 256;
/// Fields by which some gateways let the caller choose where the key goes, or which key. In lower case, without `_`.
const FOREIGN: &[&str] = &[
    "apibase",
    "baseurl",
    "apikey",
    "apitype",
    "apiversion",
    "azureendpoint",
    "azureadtoken",
    "endpoint",
    "customllmprovider",
    "extraheaders",
    "headers",
    "organization",
    "proxy",
    "vertexproject",
    "vertexcredentials",
    "awssecretaccesskey",
    "awsaccesskeyid",
];

/// A request, as it came.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
    /// The word for the model; empty when there is none.
    pub(super) model: String,
    /// Whether the answer is wanted in pieces.
    pub(super) stream: bool,
}

/// The fields of an object in their order.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    fields.push((name, map.next_value()?));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// A name, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

fn broken(why: impl fmt::Display) -> Error {
    Error::new(Code::Invalid, format!("the body is not what is asked for: {why}")).hint("a JSON object in UTF-8")
}

impl<'a> Asked<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// `invalid` for what is no object, has a field twice that matters here, or tries to choose where it goes.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self> {
        let text = std::str::from_utf8(body).map_err(|_| broken("it is not UTF-8"))?;
        let Fields(fields) = serde_json::from_str(text).map_err(broken)?;
        for (name, _) in &fields {
            let plain: String = name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect();
            if FOREIGN.contains(&plain.as_str()) {
                return Err(Error::invalid(
                    name,
                    "an agent does not choose where its request goes, nor with which key",
                )
                .hint("leave it out; providers are set in the daemon's configuration"));
            }
        }
        let model = match only(&fields, "model")? {
            Some(raw) => read::<Option<String>>("model", raw, "a text")?.unwrap_or_default(),
            None => String::new(),
        };
        if model.len() > MAX_MODEL || model.chars().any(char::is_control) {
            return Err(Error::invalid("model", format!("at most {MAX_MODEL} bytes without control characters"))
                .hint("`<provider>/<model>` or an alias; `agentbotctl model list` shows them"));
        }
        let stream = match only(&fields, "stream")? {
            Some(raw) => read::<Option<bool>>("stream", raw, "true or false")?.unwrap_or_default(),
            None => false,
        };
        only(&fields, "stream_options")?;
        only(&fields, "messages")?;
        Ok(Self { fields, model, stream })
    }

    /// The text of a field.
    pub(super) fn field(&self, name: &str) -> Option<&'a RawValue> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, raw)| *raw)
    }

    /// The body for a provider: its own name for the model, and its count of tokens wanted at the end of a stream.
    pub(super) fn forwarded(&self, model: &str) -> Result<Vec<u8>> {
        let model = serde_json::to_string(model).map_err(Error::internal)?;
        let options = if self.stream { with_usage(self.field("stream_options"))? } else { None };
        let mut body = Vec::with_capacity(self.fields.iter().map(|(name, raw)| name.len() + raw.get().len() + 8).sum());
        let mut put = |name: &str, raw: &str| {
            body.extend_from_slice(if body.is_empty() { b"{" } else { b"," });
            body.extend_from_slice(serde_json::to_string(name).map_err(Error::internal)?.as_bytes());
            body.push(b':');
            body.extend_from_slice(raw.as_bytes());
            Ok::<_, Error>(())
        };
        put("model", &model)?;
        for (name, raw) in &self.fields {
            match name.as_ref() {
                "model" => {}
                "stream_options" if options.is_some() => {}
                _ => put(name, raw.get())?,
            }
        }
        if let Some(options) = options {
            put("stream_options", &options)?;
        }
        body.push(b'}');
        Ok(body)
    }
}

/// The options with the wish for usage added, unless they speak of it.
fn with_usage(raw: Option<&RawValue>) -> Result<Option<String>> {
    const WISH: &str = "\"include_usage\":true";
    let Some(raw) = raw else { return Ok(Some(format!("{{{WISH}}}"))) };
    let Some(Fields(fields)) = read::<Option<Fields<'_>>>("stream_options", raw, "an object")? else {
        return Ok(Some(format!("{{{WISH}}}")));
    };
    if fields.iter().any(|(name, _)| name == "include_usage") {
        return Ok(None);
    }
    let inside = raw.get().trim().trim_start_matches('{').trim_end();
    let inside = inside.strip_suffix('}').unwrap_or(inside);
    let comma = if fields.is_empty() { "" } else { "," };
    Ok(Some(format!("{{{WISH}{comma}{inside}}}")))
}

/// The one field of that name: of two, each reader could take another.
fn only<'a>(fields: &[(Cow<'a, str>, &'a RawValue)], name: &str) -> Result<Option<&'a RawValue>> {
    let mut found = fields.iter().filter(|(known, _)| known == name);
    let first = found.next().map(|(_, raw)| *raw);
    if found.next().is_some() {
        return Err(Error::invalid(name, "it is there twice").hint("send it once"));
    }
    Ok(first)
}

fn read<'a, T: Deserialize<'a>>(name: &str, raw: &'a RawValue, expected: &str) -> Result<T> {
    serde_json::from_str(raw.get())
        .map_err(|_| Error::invalid(name, format!("expected {expected}")).hint("as OpenAI's API has it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn forwarded(body: &str) -> String {
        String::from_utf8(Asked::parse(body.as_bytes()).unwrap().forwarded("up/stream").unwrap()).unwrap()
    }

    #[test]
    fn everything_but_the_model_goes_on_byte_for_byte() {
        let body =
            r#"{"messages": [ {"role":"user","content":"\u00e9 1.0e5"} ],"model":"a/b", "x": 1.10, "stream":false}"#;
        assert_eq!(
            forwarded(body),
            r#"{"model":"up/stream","messages":[ {"role":"user","content":"\u00e9 1.0e5"} ],"x":1.10,"stream":false}"#
        );
    }

    #[test]
    fn a_stream_is_asked_for_its_usage_unless_it_speaks_of_it() {
        for (options, wanted) in [
            ("", json!({"include_usage": true})),
            (r#","stream_options":null"#, json!({"include_usage": true})),
            (r#","stream_options":{ }"#, json!({"include_usage": true})),
            (r#","stream_options":{"a":{"b":{}}}"#, json!({"include_usage": true, "a": {"b": {}}})),
            (r#","stream_options":{"include_usage":false}"#, json!({"include_usage": false})),
        ] {
            let body: Value = serde_json::from_str(&forwarded(&format!(r#"{{"stream":true{options}}}"#))).unwrap();
            assert_eq!(body["stream_options"], wanted, "{options}");
        }
        assert!(!forwarded(r#"{"stream":null}"#).contains("include_usage"));
    }

    #[test]
    fn nobody_chooses_where_the_key_goes() {
        for field in ["api_base", "base_url", "api_key", "API-Base", "apiBase", "baseURL", "extra_headers"] {
            let error = Asked::parse(format!(r#"{{"{field}":"http://evil"}}"#).as_bytes()).unwrap_err();
            assert_eq!(error.code(), Code::Invalid, "{field}");
            assert!(error.message().starts_with(field), "{error}");
        }
        assert!(Asked::parse(br#"{"api\u005fbase":"http://evil"}"#).is_err(), "an escape hides nothing");
        assert!(Asked::parse(br#"{"messages":[{"base_url":"only text"}]}"#).is_ok());
    }

    #[test]
    fn what_is_not_a_request_is_refused() {
        for body in [
            "",
            "[]",
            "null",
            "\"x\"",
            "{",
            "{} {}",
            r#"{"model":1}"#,
            r#"{"stream":"yes"}"#,
            r#"{"model":"a","model":"b"}"#,
            r#"{"messages":[],"messages":[]}"#,
            r#"{"model":"a\u0000b"}"#,
        ] {
            let error = Asked::parse(body.as_bytes()).unwrap_err();
            assert!(error.to_api().hint.is_some(), "{body}");
        }
        assert!(Asked::parse(b"{\"model\":\"\xff\"}").is_err());
        assert!(Asked::parse(format!(r#"{{"model":"{}"}}"#, "m".repeat(MAX_MODEL)).as_bytes()).is_ok());
        assert!(Asked::parse(format!(r#"{{"model":"{}"}}"#, "m".repeat(MAX_MODEL + 1)).as_bytes()).is_err());
    }

    #[test]
    fn depth_breaks_nothing() {
        let deep = format!(r#"{{"messages":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
        let _ = Asked::parse(deep.as_bytes());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Asked::parse(&body);
        }

        #[test]
        fn fields_survive(names in proptest::collection::btree_set("[b-z\"\\\\é]{1,6}", 0..6), stream in any::<bool>()) {
            let mut body = serde_json::Map::new();
            for name in names.iter().filter(|name| !FOREIGN.contains(&name.as_str())) {
                body.insert(name.clone(), json!({"v": name}));
            }
            body.insert("stream".to_owned(), json!(stream));
            let text = Value::Object(body.clone()).to_string();
            let sent: Value = serde_json::from_str(&forwarded(&text)).unwrap();
            for (name, value) in &body {
                prop_assert_eq!(&sent[name.as_str()], value);
            }
        }
    }
}
