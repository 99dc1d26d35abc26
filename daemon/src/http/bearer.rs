//! `Authorization: Bearer <credential>`, read in one place.

use axum::http::{HeaderMap, header};

/// What each header carries; `None` for one that is not of this form.
pub fn all(headers: &HeaderMap) -> impl Iterator<Item = Option<&str>> {
    headers.get_all(header::AUTHORIZATION).iter().map(|value| {
        let (scheme, credential) = value.to_str().ok()?.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| credential.trim())
    })
}

/// What the one header carries, where there is one and no other.
pub fn only(headers: &HeaderMap) -> Option<&str> {
    let mut all = all(headers);
    let first = all.next()??;
    all.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_credential_is_carried_by_one_header_alone() {
        let shown = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
            }
            only(&headers).map(str::to_owned)
        };
        assert_eq!(shown(&["Bearer x"]).as_deref(), Some("x"));
        assert_eq!(shown(&["bearer  x "]).as_deref(), Some("x"));
        for bad in [&[][..], &["x"], &["Basic x"], &["Bearer"], &["Bearer x", "Bearer x"], &["Bearer x", "x"]] {
            assert_eq!(shown(bad), None, "{bad:?}");
        }
    }
}
