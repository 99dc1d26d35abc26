//! The header `Idempotency-Key`, and what makes two requests the same.

use agentbot_wire::Code;
use axum::http::HeaderMap;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::instance::Idempotency;

/// The longest key.
const MAX_KEY: usize = 255;
const HEADER: &str = "idempotency-key";

/// The key of a request, if it has one.
///
/// # Errors
/// `invalid` for an empty, too long, unprintable or repeated key.
pub fn key(headers: &HeaderMap, method: &str, path: &str, body: &[u8]) -> Result<Option<Idempotency>> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let rule = || {
        Error::new(Code::Invalid, format!("Idempotency-Key: 1 to {MAX_KEY} visible ASCII characters, given once"))
            .hint("a random UUID is a good key")
    };
    if values.next().is_some() {
        return Err(rule());
    }
    let key = value.to_str().map_err(|_| rule())?;
    if key.is_empty() || key.len() > MAX_KEY || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(rule());
    }
    let mut hash = Sha256::new();
    for part in [method.as_bytes(), path.as_bytes(), body] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    Ok(Some(Idempotency { key: key.to_owned(), request: hash.finalize().into() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Result<Option<Idempotency>> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, value.parse().unwrap());
        key(&headers, "POST", "/x", b"{}")
    }

    #[test]
    fn keys_on_both_sides_of_each_border() {
        assert!(key(&HeaderMap::new(), "POST", "/x", b"").unwrap().is_none());
        assert!(of("a").is_ok());
        assert!(of(&"k".repeat(MAX_KEY)).is_ok());
        assert!(of(&"k".repeat(MAX_KEY + 1)).is_err());
        assert!(of("").is_err());
        assert!(of("a b").is_err());
    }

    #[test]
    fn method_path_and_body_make_the_request() {
        let hash = |method: &str, path: &str, body: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, "k".parse().unwrap());
            key(&headers, method, path, body).unwrap().unwrap().request
        };
        let one = hash("POST", "/a", b"b");
        assert_eq!(one, hash("POST", "/a", b"b"));
        assert_ne!(one, hash("POST", "/ab", b""));
        assert_ne!(one, hash("DELETE", "/a", b"b"));
    }
}
