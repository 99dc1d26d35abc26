//! What a model says, in OpenAI's shape, and how the pieces of its tool calls come together.

use serde::Deserialize;
use serde_json::Value;

/// Calls of one answer.
pub const MAX_CALLS: usize = 16;
/// Arguments of all calls of one answer in bytes: what a file of the greatest size needs, escaped.
pub const MAX_ARGUMENTS: usize = 1024 * 1024;
/// The longest id and name of a call in bytes.
const MAX_NAME: usize = 64;
/// The longest reason of a failure that is passed on, in characters.
const MAX_REASON: usize = 300;

/// One event of a streamed answer, or a whole answer of a server that does not stream.
#[derive(Debug, Default, Deserialize)]
pub struct Chunk {
    /// The answers; the first one counts.
    #[serde(default)]
    pub choices: Vec<Choice>,
    /// Why there is no answer.
    #[serde(default)]
    pub error: Option<Value>,
}

/// A piece of one answer.
#[derive(Debug, Deserialize)]
pub struct Choice {
    /// The piece.
    #[serde(default, alias = "message")]
    pub delta: Option<Delta>,
    /// Why the answer ends here.
    #[serde(default)]
    pub finish_reason: Option<String>,
}

/// What is new.
#[derive(Debug, Default, Deserialize)]
pub struct Delta {
    /// Text.
    #[serde(default)]
    pub content: Option<String>,
    /// Pieces of calls of tools.
    #[serde(default)]
    pub tool_calls: Option<Vec<CallPiece>>,
}

/// A piece of a call.
#[derive(Debug, Deserialize)]
pub struct CallPiece {
    /// Which call of the answer it belongs to; without it one with an id begins a call, and one without goes on.
    #[serde(default)]
    pub index: Option<usize>,
    /// The call's id, once.
    #[serde(default)]
    pub id: Option<String>,
    /// Name and arguments.
    #[serde(default)]
    pub function: Option<FunctionPiece>,
}

/// A piece of a call's name and arguments.
#[derive(Debug, Default, Deserialize)]
pub struct FunctionPiece {
    /// The tool, once.
    #[serde(default)]
    pub name: Option<String>,
    /// JSON in pieces; some servers send the object itself.
    #[serde(default)]
    pub arguments: Option<Value>,
}

/// A call of a tool, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Its id.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Its arguments as JSON.
    pub arguments: String,
}

/// The calls of one answer, as they come together.
#[derive(Debug, Default)]
pub struct Calls {
    calls: Vec<(Option<usize>, Call)>,
    bytes: usize,
}

impl Calls {
    /// Takes a piece.
    ///
    /// # Errors
    /// When there are too many calls, or their arguments are too long.
    pub fn push(&mut self, piece: CallPiece) -> Result<(), String> {
        let known = match piece.index {
            Some(index) => self.calls.iter().position(|(known, _)| *known == Some(index)),
            None if piece.id.is_some() => None,
            None => self.calls.len().checked_sub(1),
        };
        let at = match known {
            Some(at) => at,
            None if self.calls.len() == MAX_CALLS => {
                return Err(format!("it wanted more than {MAX_CALLS} tools at once"));
            }
            None => {
                self.calls.push((piece.index, Call::default()));
                self.calls.len() - 1
            }
        };
        let Some((_, call)) = self.calls.get_mut(at) else { return Ok(()) };
        if let Some(id) = piece.id.filter(|id| !id.is_empty()) {
            call.id = cut(id);
        }
        let function = piece.function.unwrap_or_default();
        if let Some(name) = function.name.filter(|name| !name.is_empty()) {
            call.name = cut(name);
        }
        let arguments = match function.arguments {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::String(text)) => text,
            Some(object) => object.to_string(),
        };
        self.bytes += arguments.len();
        if self.bytes > MAX_ARGUMENTS {
            return Err(format!("the arguments of its tools are longer than {MAX_ARGUMENTS} bytes"));
        }
        call.arguments.push_str(&arguments);
        Ok(())
    }

    /// The calls, each with an id that no other one has.
    #[must_use]
    pub fn whole(self) -> Vec<Call> {
        let mut calls: Vec<Call> = Vec::with_capacity(self.calls.len());
        for (number, (_, mut call)) in self.calls.into_iter().enumerate() {
            if call.id.is_empty() || calls.iter().any(|other| other.id == call.id) {
                call.id = format!("call_{number}");
            }
            calls.push(call);
        }
        calls
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_NAME));
    text.retain(|c| !c.is_control());
    text
}

/// The reason and the hint in an error of OpenAI's shape, of the daemon's, or of any other.
#[must_use]
pub fn reason(error: &Value) -> (String, Option<String>) {
    let inner = match error.get("error") {
        Some(inner @ Value::Object(_)) => inner,
        _ => error,
    };
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(clean);
    let message = text(inner, "message").or_else(|| text(inner, "error")).or_else(|| inner.as_str().map(clean));
    let message = message.filter(|message| !message.is_empty()).unwrap_or_else(|| "no reason given".to_owned());
    (message, text(inner, "hint").or_else(|| text(error, "hint")))
}

/// Whether an error says that the daemon ends: the question may be asked again when it is back.
#[must_use]
pub fn is_shutdown(error: &Value) -> bool {
    let code = |value: &Value| value.get("code").and_then(Value::as_str) == Some("shutting_down");
    code(error) || error.get("error").is_some_and(code)
}

/// One short line without control characters.
#[must_use]
pub fn clean(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn piece(value: Value) -> CallPiece {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_call_comes_together_from_its_pieces() {
        let mut calls = Calls::default();
        for value in [
            json!({"index": 0, "id": "a", "function": {"name": "files", "arguments": ""}}),
            json!({"index": 1, "id": "b", "function": {"name": "memory", "arguments": "{}"}}),
            json!({"index": 0, "function": {"arguments": "{\"action\":"}}),
            json!({"index": 0, "id": "", "function": {"name": "", "arguments": "\"list\"}"}}),
        ] {
            calls.push(piece(value)).unwrap();
        }
        let calls = calls.whole();
        assert_eq!((calls[0].id.as_str(), calls[0].name.as_str()), ("a", "files"));
        assert_eq!(calls[0].arguments, "{\"action\":\"list\"}");
        assert_eq!(calls[1].name, "memory");
    }

    #[test]
    fn calls_without_index_or_id_are_told_apart() {
        let mut calls = Calls::default();
        for value in [
            json!({"id": "x", "function": {"name": "a", "arguments": "{"}}),
            json!({"function": {"arguments": "}"}}),
            json!({"id": "x", "function": {"name": "b", "arguments": {"k": 1}}}),
        ] {
            calls.push(piece(value)).unwrap();
        }
        let calls = calls.whole();
        assert_eq!((calls[0].arguments.as_str(), calls[1].arguments.as_str()), ("{}", "{\"k\":1}"));
        assert_ne!(calls[0].id, calls[1].id);
    }

    #[test]
    fn the_most_calls_pass_and_one_more_does_not() {
        let mut calls = Calls::default();
        for index in 0..MAX_CALLS {
            calls.push(piece(json!({"index": index, "id": "i"}))).unwrap();
        }
        assert!(calls.push(piece(json!({"index": usize::MAX}))).is_err());
    }

    #[test]
    fn the_longest_arguments_pass_and_one_byte_more_does_not() {
        let push = |length: usize| {
            Calls::default().push(piece(json!({"index": 0, "function": {"arguments": "a".repeat(length)}})))
        };
        assert!(push(MAX_ARGUMENTS).is_ok());
        assert!(push(MAX_ARGUMENTS + 1).is_err());
    }

    #[test]
    fn a_reason_is_found_in_each_shape() {
        let openai = json!({"error": {"message": "no such\n model", "type": "x"}});
        assert_eq!(reason(&openai), ("no such model".to_owned(), None));
        let ours = json!({"success": false, "error": "away", "message": "away", "hint": "wait"});
        assert_eq!(reason(&ours), ("away".to_owned(), Some("wait".to_owned())));
        assert_eq!(reason(&json!("\u{1b}[31mred")).0, "[31mred");
        assert_eq!(reason(&json!({"error": {}})).0, "no reason given");
        assert_eq!(reason(&json!({"message": "a".repeat(1000)})).0.len(), MAX_REASON);
    }

    #[test]
    fn the_daemons_end_is_told_from_other_errors() {
        for error in [json!({"code": "shutting_down"}), json!({"error": {"code": "shutting_down"}})] {
            assert!(is_shutdown(&error), "{error}");
        }
        for error in [json!({"code": 503}), json!({"error": "shutting_down"}), json!(null), json!({"error": {}})] {
            assert!(!is_shutdown(&error), "{error}");
        }
    }

    #[test]
    fn an_answer_that_is_not_streamed_reads_as_one_piece() {
        let whole = r#"{"choices":[{"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}"#;
        let chunk: Chunk = serde_json::from_str(whole).unwrap();
        assert_eq!(chunk.choices[0].delta.as_ref().unwrap().content.as_deref(), Some("hi"));
    }
}
