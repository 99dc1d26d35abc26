//! Keys of providers: read when they are needed, kept out of everything that is written or sent elsewhere.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use agentbot_wire::Code;
use nix::libc::O_NONBLOCK;
use zeroize::Zeroize;

use crate::config::ApiKey;
use crate::error::{Error, Result};
use crate::secret::Secret;

/// The longest key in bytes.
const MAX_KEY: u64 = 4 * 1024;
/// Beginning and end of a key that some servers show in their errors.
const PART: usize = 8;

/// The key of a provider, or nothing where it wants none.
///
/// # Errors
/// `model_failed` when it is not where the configuration says, or is no key.
pub(super) async fn read(provider: &str, from: &ApiKey) -> Result<Option<Secret<String>>> {
    let found = match from {
        ApiKey::Env(name) => std::env::var(name).map(Secret::new).map_err(|_| {
            failed(provider, &format!("the daemon's environment has no {name}"))
                .hint(format!("set {name} for the daemon and restart it, or name a file with api_key_file"))
        })?,
        ApiKey::None => return Ok(None),
        ApiKey::File(path) => {
            let (path, provider) = (path.clone(), provider.to_owned());
            tokio::task::spawn_blocking(move || of_file(&provider, &path)).await.map_err(Error::internal)??
        }
    };
    let key = Secret::new(found.expose().trim().to_owned());
    if key.expose().is_empty() || !key.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(failed(provider, "its key is empty or has characters that no key has").hint(
            "the key stands alone, on one line; a server that wants none has neither api_key_file nor api_key_env",
        ));
    }
    Ok(Some(key))
}

fn of_file(provider: &str, path: &Path) -> Result<Secret<String>> {
    let shown = path.display();
    let refuse = |why: String| {
        failed(provider, &format!("its key file {shown} {why}"))
            .hint("write the key there, alone, owned by root with mode 0600")
    };
    // Not to wait for whoever would write into a pipe.
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path)
        .map_err(|error| refuse(format!("cannot be read: {error}")))?;
    let found = file.metadata().map_err(|error| refuse(format!("cannot be looked at: {error}")))?;
    if !found.is_file() || found.len() > MAX_KEY {
        return Err(refuse(format!("is not a file of at most {MAX_KEY} bytes")));
    }
    let mut text = String::new();
    if let Err(error) = file.take(MAX_KEY).read_to_string(&mut text) {
        text.zeroize();
        return Err(refuse(format!("cannot be read: {error}")));
    }
    Ok(Secret::new(text))
}

fn failed(provider: &str, why: &str) -> Error {
    Error::new(Code::ModelFailed, format!("provider `{provider}` cannot be asked: {why}"))
}

/// A text of a server without the key that was sent to it, nor the parts of it by which it could be known.
pub(super) fn redact(text: &str, key: Option<&Secret<String>>) -> String {
    let Some(key) = key.map(|key| key.expose().as_str()) else { return text.to_owned() };
    let long = key.len() >= 2 * PART;
    // A key is ASCII.
    let parts = [key, if long { &key[..PART] } else { key }, if long { &key[key.len() - PART..] } else { key }];
    let in_word = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '`' | ',' | ';' | '(' | ')' | '<' | '>');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(in_word) {
        let (before, from) = rest.split_at(start);
        let (word, after) = from.split_at(from.find(|c| !in_word(c)).unwrap_or(from.len()));
        out.push_str(before);
        out.push_str(if parts.iter().any(|part| word.contains(part)) { "[redacted]" } else { word });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Overwrites a key in an answer with as many asterisks; says whether there was one.
pub(super) fn blot(bytes: &mut [u8], key: &Secret<String>) -> bool {
    let key = key.expose().as_bytes();
    let mut found = false;
    let mut from = 0;
    while let Some(at) = find(&bytes[from..], key) {
        let start = from + at;
        bytes[start..start + key.len()].fill(b'*');
        from = start + key.len();
        found = true;
    }
    found
}

/// Whether an answer has the key in it.
pub(super) fn shows(bytes: &[u8], key: &Secret<String>) -> bool {
    find(bytes, key.expose().as_bytes()).is_some()
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    let first = *part.first()?;
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == first) {
        if bytes[from + at..].starts_with(part) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const KEY: &str = "sk-canary-0123456789abcdef";

    fn secret() -> Secret<String> {
        Secret::new(KEY.to_owned())
    }

    async fn file(text: &[u8]) -> Result<Option<String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, text).unwrap();
        read("p", &ApiKey::File(path)).await.map(|key| key.map(|key| key.expose().clone()))
    }

    #[tokio::test]
    async fn a_key_stands_alone_in_its_file() {
        assert_eq!(file(format!(" {KEY}\n").as_bytes()).await.unwrap().as_deref(), Some(KEY));
        for bad in [b"".as_slice(), b"\n", b"two words", b"\xff", b"k\0k", &[b'k'; 4097]] {
            let error = file(bad).await.unwrap_err();
            assert_eq!(error.code(), Code::ModelFailed);
            assert!(error.to_api().hint.is_some());
        }
        assert!(file(&[b'k'; 4096]).await.is_ok());
    }

    #[tokio::test]
    async fn a_key_that_is_not_there_is_an_error_with_its_place() {
        let error = read("p", &ApiKey::Env("AGENTBOT_NO_SUCH_KEY".to_owned())).await.unwrap_err();
        assert!(error.message().contains("AGENTBOT_NO_SUCH_KEY"), "{error}");
        for path in ["/nonexistent/key", "/dev/zero", "/"] {
            let error = read("p", &ApiKey::File(PathBuf::from(path))).await.unwrap_err();
            assert!(error.message().contains(path), "{error}");
        }
        assert!(read("p", &ApiKey::None).await.unwrap().is_none());
    }

    #[test]
    fn a_key_that_comes_back_is_not_passed_on_whole_or_in_part() {
        for said in [
            format!("Incorrect API key provided: {KEY}."),
            format!("Bearer {KEY}"),
            "key sk-canar*****cdef".to_owned(),
            "key \"sk-canary-01\" is unknown".to_owned(),
            "a key that ends in 89abcdef".to_owned(),
        ] {
            let told = redact(&said, Some(&secret()));
            assert!(told.contains("[redacted]"), "{told}");
            assert!(!told.contains("sk-canar") && !told.contains("89abcdef"), "{told}");
        }
        assert_eq!(redact("é: no model `x`, sorry", Some(&secret())), "é: no model `x`, sorry");
        assert_eq!(redact(KEY, None), KEY);
    }

    #[test]
    fn a_key_in_an_answer_is_blotted_out() {
        let mut bytes = format!("a{KEY}{KEY}b sk-canary").into_bytes();
        assert!(shows(&bytes, &secret()) && blot(&mut bytes, &secret()));
        assert_eq!(bytes, format!("a{}b sk-canary", "*".repeat(2 * KEY.len())).into_bytes());
        assert!(!shows(&bytes, &secret()) && !blot(&mut bytes, &secret()));
    }
}
