//! Where a request may carry its credential. Pure: one verdict, whichever way it comes.

use agentbot_wire::Code;
use axum::http::{HeaderMap, header};

use crate::error::Error;
use crate::http::bearer;
use crate::secret::Secret;

/// Length of a gateway token.
const TOKEN: usize = 64;
/// What a subprotocol begins with that carries a token.
const SUBPROTOCOL: &str = "token.";
/// Parameters of a URL by which credentials are known to be sent, in lower case and without `-` and `_`. URLs end up in
/// logs and histories: a credential that stood in one is spent.
const IN_URLS: &[&str] = &[
    "token",
    "accesstoken",
    "authtoken",
    "gatewaytoken",
    "bearer",
    "bearertoken",
    "authorization",
    "auth",
    "apikey",
    "key",
    "secret",
    "password",
];

/// The gateway token of a request.
///
/// # Errors
/// `unauthenticated` when there is none, when it has not the form of one, when it comes by another scheme, or when the
/// URL carries something like it; `invalid` when there are two that differ.
pub fn of(headers: &HeaderMap, query: Option<&str>) -> Result<Secret<String>, Error> {
    if let Some(name) = query.and_then(in_url) {
        return Err(Error::new(Code::Unauthenticated, format!("`{name}` in a URL is no place for a credential"))
            .hint("send it as `Authorization: Bearer <token>`; and rotate it, since URLs are written to logs"));
    }
    let mut found: Vec<&str> = Vec::new();
    for shown in bearer::all(headers) {
        found.push(shown.ok_or_else(scheme)?);
    }
    let offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    found
        .extend(offers.flat_map(|offers| offers.split(',')).filter_map(|offer| offer.trim().strip_prefix(SUBPROTOCOL)));
    let Some(first) = found.first() else { return Err(missing()) };
    if found.iter().any(|other| other != first) {
        return Err(Error::new(Code::Invalid, "the request carries two credentials that differ").hint("send one"));
    }
    let is_token = first.len() == TOKEN && first.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_token { Ok(Secret::new((*first).to_owned())) } else { Err(unknown()) }
}

/// The refusal of a credential that is nobody's: it says no more than that.
pub fn unknown() -> Error {
    Error::new(Code::Unauthenticated, "this credential is not valid")
        .hint("`agentbotctl token NAME` shows an agent's token")
}

fn missing() -> Error {
    Error::new(Code::Unauthenticated, "the request carries no credential")
        .hint("send an agent's gateway token as `Authorization: Bearer <token>`; `agentbotctl token NAME` shows it")
}

fn scheme() -> Error {
    Error::new(Code::Unauthenticated, "the header `Authorization` is not of the form `Bearer <token>`")
        .hint("`agentbotctl token NAME` shows an agent's token")
}

/// The name of the first parameter that looks like a credential.
fn in_url(query: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        let plain: String = unescaped(name).chars().filter(|c| !matches!(c, '-' | '_')).collect();
        let plain = plain.to_ascii_lowercase();
        IN_URLS.iter().find(|known| **known == plain).map(|known| (*known).to_owned())
    })
}

/// A name with its `%xx` read; what is not of that form stays.
fn unescaped(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| after.get(..2)).flatten();
        match escaped.and_then(|digits| hex::decode(digits).ok()) {
            Some(byte) => {
                bytes.extend(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn carried(headers: &[(&'static str, String)], query: Option<&str>) -> Result<String, Code> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        of(&map, query).map(|token| token.expose().clone()).map_err(|error| error.code())
    }

    fn token(digit: char) -> String {
        digit.to_string().repeat(TOKEN)
    }

    const AUTHORIZATION: &str = "authorization";
    const PROTOCOL: &str = "sec-websocket-protocol";

    #[test]
    fn a_token_comes_by_header_or_by_subprotocol() {
        let good = Ok(token('a'));
        for value in ["Bearer", "bearer", "BEARER"] {
            assert_eq!(carried(&[(AUTHORIZATION, format!("{value} {}", token('a')))], None), good);
        }
        assert_eq!(carried(&[(PROTOCOL, format!("agentbot.chat.v1, token.{}", token('a')))], None), good);
        assert_eq!(carried(&[(PROTOCOL, format!("token.{},agentbot.chat.v1", token('a')))], None), good);
        let both = [(AUTHORIZATION, format!("Bearer {}", token('a'))), (PROTOCOL, format!("token.{}", token('a')))];
        assert_eq!(carried(&both, Some("agent=x&limit=3")), good);
    }

    #[test]
    fn what_is_no_token_is_no_credential() {
        let long = format!("Bearer {}0", token('a'));
        for value in ["Bearer ", "Bearer", "", "Basic dXNlcjpwYXNz", "Bearer a", "Token x", &token('a'), &long] {
            assert_eq!(carried(&[(AUTHORIZATION, value.to_owned())], None), Err(Code::Unauthenticated), "{value}");
        }
        let capital = format!("Bearer {}", token('A'));
        assert_eq!(carried(&[(AUTHORIZATION, capital)], None), Err(Code::Unauthenticated));
        assert_eq!(carried(&[], None), Err(Code::Unauthenticated));
        assert_eq!(carried(&[(PROTOCOL, "agentbot.chat.v1".to_owned())], None), Err(Code::Unauthenticated));
        assert_eq!(carried(&[(PROTOCOL, "token.".to_owned())], None), Err(Code::Unauthenticated));
    }

    #[test]
    fn two_that_differ_are_refused_whether_one_is_right_or_not() {
        let header = |digit| (AUTHORIZATION, format!("Bearer {}", token(digit)));
        let offer = |digit| (PROTOCOL, format!("token.{}", token(digit)));
        assert_eq!(carried(&[header('a'), header('b')], None), Err(Code::Invalid));
        assert_eq!(carried(&[header('a'), offer('b')], None), Err(Code::Invalid));
        assert_eq!(carried(&[offer('a'), offer('b')], None), Err(Code::Invalid));
        assert_eq!(carried(&[header('a'), (PROTOCOL, "token.bogus".to_owned())], None), Err(Code::Invalid));
    }

    #[test]
    fn a_credential_in_the_url_is_refused_even_beside_a_right_one() {
        let right = [(AUTHORIZATION, format!("Bearer {}", token('a')))];
        for query in [
            "token=x",
            "a=b&access_token=x",
            "ACCESS-TOKEN=x",
            "api_key=",
            "apiKey",
            "key=1",
            "t%6Fken=x",
            "%74oken=x",
            "gatewayToken=x",
            "authorization=Bearer",
        ] {
            assert_eq!(carried(&right, Some(query)), Err(Code::Unauthenticated), "{query}");
            assert_eq!(carried(&[], Some(query)), Err(Code::Unauthenticated), "{query}");
        }
        for query in ["", "agent=token", "gatewayUrl=ws://evil.example", "tokens=3", "%", "%6", "topic=key"] {
            assert_eq!(carried(&right, Some(query)), Ok(token('a')), "{query}");
        }
    }

    #[test]
    fn no_refusal_says_a_credential_back() {
        let mut map = HeaderMap::new();
        map.append(AUTHORIZATION, HeaderValue::from_static("Bearer canary"));
        let said = |query: Option<&str>| format!("{:?}", of(&map, query).unwrap_err().to_api());
        assert!(!said(None).contains("canary"));
        assert!(!said(Some("token=canary")).contains("canary"));
    }
}
