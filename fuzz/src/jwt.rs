//! The check of tokens, where requests have them: in a header and in the query.
//!
//! The first byte says where the rest is.
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue};
use replicator_core::model::ident::SchemaName;
use replicator_core::model::time::WallTime;
use replicator_io::auth::{Claims, JwtGate, Keyring, Material, PublicKeyText, SigningKey};
use replicator_io::source::changefeed::webhook::Gate as _;
use tokio::sync::watch;

/// Of RSA, because its signatures are always the same.
const PRIVATE: &str = include_str!("../../io/src/auth/fixtures/rsa.pkcs1.pem");
const PUBLIC: [&str; 3] = [
    include_str!("../../io/src/auth/fixtures/rsa.pub.pem"),
    include_str!("../../io/src/auth/fixtures/p256.pub.pem"),
    include_str!("../../io/src/auth/fixtures/p384.pub.pem"),
];

/// The rest is the value of a header, a token behind its scheme, a query, or a token in one.
const PLACES: u8 = 4;

/// Asks to be let in; returns 1 if that is so.
///
/// # Panics
///
/// Somebody is let in whose token nobody has signed, for another schema, or with two tokens.
pub(crate) fn jwt(input: &[u8]) -> usize {
    let Some((first, rest)) = input.split_first() else { return 0 };
    let place = first % PLACES;
    let (header, query) = match place {
        0 => (Some(rest.to_vec()), None),
        1 => (Some([b"Bearer ", rest].concat()), None),
        2 => (None, Some(rest.to_vec())),
        _ => (None, Some([b"access_token=", rest].concat())),
    };
    let mut headers = HeaderMap::new();
    if let Some(value) = header {
        // What cannot be in a header never comes here.
        let Ok(value) = HeaderValue::from_bytes(&value) else { return 0 };
        headers.insert(AUTHORIZATION, value);
    }
    let query = query.map(String::from_utf8);
    let Ok(query) = query.transpose() else { return 0 };
    let admitted = GATE.admits(&headers, query.as_deref(), &schema("public"));
    let other = GATE.admits(&headers, query.as_deref(), &schema("other"));
    assert!(!other, "let in for a schema that no token is for");
    if admitted {
        check_token(place, rest);
        let twice = format!("access_token={}", *GOOD);
        if query.is_none() {
            let both = GATE.admits(&headers, Some(&twice), &schema("public"));
            assert!(!both, "let in with two tokens");
        }
    }
    usize::from(admitted)
}

/// Only what was signed opens anything; a signature may be written in several ways.
fn check_token(place: u8, rest: &[u8]) {
    let signed = |token: &str| token.rsplit_once('.').map(|(message, _)| message.to_owned());
    let good = signed(&GOOD).expect("a token has dots");
    let text = String::from_utf8_lossy(rest);
    // An escape in a query stands for another letter.
    if place < 2 || !text.contains('%') {
        assert!(text.contains(&good), "let in without what was signed: {text}");
    }
    if place == 1 {
        assert_eq!(signed(text.trim()), Some(good), "let in with another token: {text}");
    }
}

fn schema(schema: &str) -> SchemaName {
    SchemaName { database: Some("app".to_owned()), schema: schema.to_owned() }
}

fn token(id: &str, schema: &str) -> String {
    let claims = Claims::new(id.to_owned(), vec![vec!["app".to_owned(), schema.to_owned()]]);
    let key = SigningKey::from_pem(PRIVATE.as_bytes()).expect("a private key");
    key.sign(&claims).expect("it can be signed")
}

/// For schema `public`.
static GOOD: LazyLock<String> = LazyLock::new(|| token("good", "public"));

/// Knows a key of each kind, and that token "revoked" is.
static GATE: LazyLock<JwtGate> = LazyLock::new(|| {
    let text = |text: &str| PublicKeyText { place: "here".to_owned(), text: text.into() };
    let keys = PUBLIC.map(text).to_vec();
    let revoked = BTreeSet::from(["revoked".to_owned()]);
    let now = || WallTime { micros: 1_700_000_000_000_000 };
    let (ring, complaints) = Keyring::new(Material { keys, revoked, complaints: vec![] }, now());
    assert!(complaints.is_empty(), "{complaints:?}");
    JwtGate::new(watch::channel(Arc::new(ring)).1, now)
});

/// Hand-made tokens.
pub(crate) fn jwt_corpus() -> Vec<(&'static str, Vec<u8>)> {
    let first = |first: u8, text: &str| [&[first], text.as_bytes()].concat();
    let good = GOOD.as_str();
    let (message, signature) = good.rsplit_once('.').expect("a token has dots");
    let (_, claims) = message.split_once('.').expect("a token has dots");
    // {"alg":"none"}, {"alg":"HS256"} and {"alg":"RS256","crit":["b64"]}
    let none = format!("eyJhbGciOiJub25lIn0.{claims}.");
    let shared = format!("eyJhbGciOiJIUzI1NiJ9.{claims}.{signature}");
    let critical = format!("eyJhbGciOiJSUzI1NiIsImNyaXQiOlsiYjY0Il19.{claims}.{signature}");
    let escaped = format!("x=y&access%5Ftoken={}", good.replace('.', "%2E"));
    vec![
        ("empty", Vec::new()),
        ("cut-short", first(1, &good[..good.len() / 2])),
        ("largest", first(1, &format!("{good}{}", "A".repeat(16 << 10)))),
        ("header", first(0, &format!("bEARER  {good} "))),
        ("token", first(1, good)),
        ("query", first(2, &escaped)),
        ("token-in-a-query", first(3, good)),
        ("refused-revoked", first(1, &token("revoked", "public"))),
        ("refused-schema", first(1, &token("good", "private"))),
        ("refused-none", first(1, &none)),
        ("refused-shared-secret", first(1, &shared)),
        ("refused-critical", first(1, &critical)),
        ("refused-twice", first(3, &format!("{good}&access_token={good}"))),
        ("refused-changed", first(1, &format!("{message}.A{}", &signature[1..]))),
        ("refused-scheme", first(0, &format!("Basic {good}"))),
    ]
}
