//! The token of a request, wherever it is. Never to be shown: who has it may bring rows.
use std::borrow::Cow;
use std::fmt;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

use super::keyring::Denied;

/// Of one token. One with a long RSA signature and a hundred schemas has half of it.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Each byte of a token may be escaped in a query.
const ESCAPED: usize = 3;

const SCHEME: &str = "Bearer";
const PARAMETER: &[u8] = b"access_token";

/// A token that nobody has checked. Printing it shows three stars.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token<'a>(Cow<'a, [u8]>);

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'a> Token<'a> {
    /// The token of a request: in the header `Authorization`, or in the query as `access_token`. Two are
    /// none, whatever they are: one of them may have been put there for somebody else to look at.
    pub(super) fn find(headers: &'a HeaderMap, query: Option<&'a str>) -> Result<Self, Denied> {
        let mut found = None;
        let in_headers = headers.get_all(AUTHORIZATION).iter();
        let in_headers = in_headers.filter_map(|value| bearer(value.as_bytes())).map(Cow::Borrowed);
        for token in in_headers.chain(in_query(query)) {
            if TOKEN_BYTES_MAX < token.len() {
                return Err(Denied::Long);
            }
            if found.replace(token).is_some() {
                return Err(Denied::Several);
            }
        }
        found.filter(|token| !token.is_empty()).map(Self).ok_or(Denied::Missing)
    }

    /// The token itself, to check it.
    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// What follows the scheme, whose case does not matter (RFC 9110, section 11.1). Other schemes are for
/// others, such as a proxy.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    let fits = scheme.eq_ignore_ascii_case(SCHEME.as_bytes()) && rest.starts_with(b" ");
    fits.then(|| rest.trim_ascii())
}

/// Every `access_token` of a query, decoded. One that is too long is not, but counted.
fn in_query(query: Option<&str>) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let pairs = query.unwrap_or_default().split('&');
    pairs.filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let named = name.len() <= ESCAPED * PARAMETER.len() && *unescape(name) == *PARAMETER;
        named.then(|| match value.len() <= ESCAPED * TOKEN_BYTES_MAX {
            true => unescape(value),
            false => Cow::Borrowed(value.as_bytes()),
        })
    })
}

/// Decodes once. A broken escape stays as it is, and is part of no token.
fn unescape(text: &str) -> Cow<'_, [u8]> {
    let mut rest = text.as_bytes();
    if !rest.contains(&b'%') {
        return Cow::Borrowed(rest);
    }
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let digits = after.split_first_chunk::<2>().filter(|_| *byte == b'%');
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
        match digits.map(|([high, low], after)| (digit(*high), digit(*low), after)) {
            Some((Some(high), Some(low), after)) => {
                bytes.push(high << 4 | low);
                rest = after;
            }
            Some(_) | None => bytes.push(*byte),
        }
    }
    Cow::Owned(bytes)
}

#[cfg(test)]
mod tests {
    use axum::http::header::AUTHORIZATION;
    use axum::http::{HeaderMap, HeaderValue};

    use super::{Denied, TOKEN_BYTES_MAX, Token};

    fn find(headers: &[&str], query: Option<&str>) -> Result<String, Denied> {
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        let token = Token::find(&map, query)?;
        assert_eq!(format!("{token:?}"), "***");
        Ok(String::from_utf8(token.expose().to_vec()).unwrap())
    }

    #[test]
    fn a_token_is_in_the_header_or_in_the_query() {
        for (headers, query, token) in [
            (&["Bearer a.b.c"][..], None, "a.b.c"),
            (&["bEARER   a.b.c "], Some("insecure_tls_skip_verify=true"), "a.b.c"),
            (&[], Some("access_token=a.b.c"), "a.b.c"),
            (&[], Some("x=1&access_token=a%2Eb%2ec&y"), "a.b.c"),
            (&[], Some("access%5Ftoken=a.b.c"), "a.b.c"),
            (&["Basic eDp5"], Some("access_token=a.b.c"), "a.b.c"),
            // Escapes are decoded once, and broken ones are no escapes.
            (&[], Some("access_token=a%252Eb%2"), "a%2Eb%2"),
        ] {
            assert_eq!(find(headers, query).as_deref(), Ok(token), "{headers:?} {query:?}");
        }
    }

    #[test]
    fn two_tokens_are_none() {
        for (headers, query) in [
            (&["Bearer a", "Bearer a"][..], None),
            (&["Bearer a"], Some("access_token=a")),
            (&["Bearer a"], Some("access_token=")),
            (&[], Some("access_token=a&access_token=b")),
            (&[], Some("access_token=a&access%5ftoken=b")),
        ] {
            assert_eq!(find(headers, query), Err(Denied::Several), "{headers:?} {query:?}");
        }
    }

    #[test]
    fn what_is_no_token_is_missing() {
        for (headers, query) in [
            (&[][..], None),
            (&["Bearer"], None),
            (&["Bearer "], Some("")),
            (&["Bearera.b.c"], None),
            (&["Basic a.b.c"], Some("access_tokens=a.b.c&Access_Token=a.b.c")),
            (&[""], Some("access_token")),
        ] {
            assert_eq!(find(headers, query), Err(Denied::Missing), "{headers:?} {query:?}");
        }
    }

    #[test]
    fn a_token_has_a_limit() {
        let longest = "x".repeat(TOKEN_BYTES_MAX);
        assert_eq!(find(&[&format!("Bearer {longest}")], None), Ok(longest.clone()));
        let escaped = "%78".repeat(TOKEN_BYTES_MAX);
        assert_eq!(find(&[], Some(&format!("access_token={escaped}"))), Ok(longest.clone()));
        for longer in [format!("{longest}x"), escaped + "%78", longest.repeat(4)] {
            assert_eq!(find(&[&format!("Bearer {longer}")], None), Err(Denied::Long));
            let query = format!("access_token={longer}");
            assert_eq!(find(&[], Some(&query)), Err(Denied::Long));
        }
    }
}
