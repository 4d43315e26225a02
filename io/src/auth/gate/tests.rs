//! Who is let in and who is not, with real signatures.
use std::collections::BTreeSet;
use std::sync::Arc;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use replicator_core::model::ident::SchemaName;
use replicator_core::model::time::WallTime;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::super::fixtures;
use super::super::{Claims, Keyring, Material, PublicKeyText, SigningKey};
use super::{Admission, Gate, JwtGate};

const CLAIM: &str = "https://github.com/cockroachdb/replicator";

/// Seconds since 1970.
const NOW: i64 = 1_700_000_000;

fn now() -> WallTime {
    WallTime { micros: NOW * 1_000_000 }
}

fn schema(database: &str, schema: &str) -> SchemaName {
    SchemaName { database: Some(database.to_owned()), schema: schema.to_owned() }
}

/// A gate with these public keys, which knows that token "void" is revoked.
fn gate(keys: &[&str]) -> JwtGate {
    let text = |text: &&str| PublicKeyText { place: "here".to_owned(), text: (*text).into() };
    let material = Material {
        keys: keys.iter().map(text).collect(),
        revoked: BTreeSet::from(["void".to_owned()]),
        complaints: Vec::new(),
    };
    let (ring, _) = Keyring::new(material, now());
    let (_, read) = watch::channel(Arc::new(ring));
    JwtGate::new(read, now)
}

/// A gate that knows a key of each kind.
fn wide() -> JwtGate {
    gate(&[fixtures::RSA_PUBLIC, fixtures::P384_PUBLIC, fixtures::P256_PUBLIC])
}

fn admits(gate: &JwtGate, token: &str) -> bool {
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    headers.insert(AUTHORIZATION, value);
    let admitted = gate.admits(&headers, None, &schema("app", "public"));
    let query = format!("x=y&access_token={token}");
    let by_query = gate.admits(&HeaderMap::new(), Some(&query), &schema("app", "public"));
    assert_eq!(admitted, by_query, "it does not matter where a token is");
    assert!(!gate.admits(&headers, None, &schema("app", "other")));
    admitted
}

fn claims() -> Value {
    json!({ "jti": "a", CLAIM: { "schemas": [["other", "x"], ["app", "public"]] } })
}

fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[name] = value.into();
    claims
}

/// A token with these claims by the key of P-256.
fn token(claims: &Value) -> String {
    let pair = aws_lc_rs::signature::EcdsaKeyPair::from_private_key_der(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        &der(fixtures::P256_SEC1),
    );
    let pkcs8 = pair.unwrap().to_pkcs8v1().unwrap();
    let key = EncodingKey::from_ec_der(pkcs8.as_ref());
    encode(&Header::new(Algorithm::ES256), claims, &key).unwrap()
}

/// The private key of a text in PEM.
fn der(text: &str) -> Vec<u8> {
    use rustls_pki_types::PrivateKeyDer;
    use rustls_pki_types::pem::PemObject as _;
    PrivateKeyDer::from_pem_slice(text.as_bytes()).unwrap().secret_der().to_vec()
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            let index = bits >> (18 - 6 * place) & 63;
            text.push(char::from(LETTERS[usize::try_from(index).unwrap()]));
        }
    }
    text
}

#[test]
fn a12_every_kind_of_key_admits() {
    let schemas = vec![vec!["app".to_owned(), "public".to_owned()]];
    for (private, public) in [
        (fixtures::P256_SEC1, fixtures::P256_PUBLIC),
        (fixtures::P384_PKCS8, fixtures::P384_PUBLIC),
        (fixtures::RSA_PKCS1, fixtures::RSA_PUBLIC),
    ] {
        let key = SigningKey::from_pem(private.as_bytes()).unwrap();
        let token = key.sign(&Claims::issue(schemas.clone()).unwrap()).unwrap();
        assert!(admits(&gate(&[public]), &token));
        assert!(admits(&wide(), &token));
        let others = [fixtures::P256_PUBLIC, fixtures::P384_PUBLIC, fixtures::RSA_PUBLIC];
        let others: Vec<&str> = others.into_iter().filter(|other| *other != public).collect();
        assert!(!admits(&gate(&others), &token), "a key that is not there admits nobody");
    }
}

#[test]
fn a12_every_algorithm_of_rsa_admits() {
    let rsa = EncodingKey::from_rsa_der(&der(fixtures::RSA_PKCS1));
    for algorithm in [
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
    ] {
        let token = encode(&Header::new(algorithm), &claims(), &rsa).unwrap();
        assert!(admits(&wide(), &token), "{algorithm:?}");
    }
}

#[test]
fn no_key_no_entry() {
    let token = token(&claims());
    assert!(!admits(&gate(&[]), &token));
    let empty = HeaderMap::new();
    let public = schema("app", "public");
    assert!(!wide().admits(&empty, None, &public));
    assert!(!wide().admits(&empty, Some("access_token="), &public));
    assert!(Admission::Everybody.admits(&empty, None, &public));
    assert!(!Admission::ByToken(wide()).admits(&empty, None, &public));
}

#[test]
fn a12_a_shared_secret_opens_nothing_whatever_the_header_says() {
    // The public key as the secret: the oldest trick there is.
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        for public in [fixtures::P256_PUBLIC, fixtures::RSA_PUBLIC] {
            let secret = EncodingKey::from_secret(public.as_bytes());
            let token = encode(&Header::new(algorithm), &claims(), &secret).unwrap();
            assert!(!admits(&wide(), &token), "{algorithm:?}");
        }
    }
    let payload = base64(claims().to_string().as_bytes());
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None","typ":"JWT"}"#,
        r#"{"alg":"NONE"}"#,
        r#"{"alg":""}"#,
        r#"{"alg":null}"#,
        r#"{"typ":"JWT"}"#,
        r#"{"alg":"ES256"}"#,
        r#"{"alg":"ES256","alg":"none"}"#,
        "[]",
        "",
    ] {
        let head = base64(header.as_bytes());
        for token in [format!("{head}.{payload}."), format!("{head}.{payload}.AAAA")] {
            assert!(!admits(&wide(), &token), "{header}");
        }
        assert!(!admits(&wide(), &format!("{head}.{payload}")), "{header}");
    }
}

#[test]
fn a_token_that_was_changed_is_refused() {
    let good = token(&claims());
    assert!(admits(&wide(), &good));
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (head, payload) = message.split_once('.').unwrap();
    let other = base64(with("jti", "b").to_string().as_bytes());
    for bad in [
        format!("{head}.{other}.{signature}"),
        format!("{head}.{payload}."),
        format!("{head}.{payload}.{signature}A"),
        format!("{head}.{payload}.{}", &signature[1..]),
        format!("{head}.{payload}.{signature}="),
        format!("{head}.{payload}.{signature}."),
        format!(".{good}"),
        format!("{head}..{signature}"),
        ".".repeat(3_000),
        "a".repeat(16_000),
    ] {
        assert!(!admits(&wide(), &bad), "{bad}");
    }
    // Signed by the right curve, but said to be by another.
    let head = base64(br#"{"alg":"ES384"}"#);
    assert!(!admits(&wide(), &format!("{head}.{payload}.{signature}")));
}

#[test]
fn a_header_that_asks_for_more_is_refused() {
    let pkcs8 = der(fixtures::P256_PKCS8);
    let key = EncodingKey::from_ec_der(&pkcs8);
    let mut header = Header::new(Algorithm::ES256);
    // Keys and names of keys in a header are those of whoever sent it.
    header.kid = Some("../../etc/passwd".to_owned());
    header.jku = Some("somewhere".to_owned());
    assert!(admits(&wide(), &encode(&header, &claims(), &key).unwrap()));
    header.crit = Some(vec!["b64".to_owned()]);
    assert!(!admits(&wide(), &encode(&header, &claims(), &key).unwrap()));
}

#[test]
fn claims_decide() {
    assert!(admits(&wide(), &token(&with("iss", json!({ "any": ["thing"] })))));
    assert!(admits(&wide(), &token(&with("aud", "somebody else"))));
    assert!(admits(&wide(), &token(&with("exp", NOW + 1))));
    assert!(admits(&wide(), &token(&with("nbf", NOW))));
    for bad in [
        with("jti", "void"),
        with("jti", ""),
        with("jti", Value::Null),
        with("exp", NOW - 61),
        with("exp", "never"),
        with("nbf", NOW + 61),
        with(CLAIM, json!({ "schemas": [["APP", "public"]] })),
        with(CLAIM, json!({ "schemas": [["app", "\"public\""]] })),
        with(CLAIM, json!({ "schemas": [["app"], ["public"], ["*"], []] })),
        with(CLAIM, json!({ "schemas": [["app", "public", "t"]] })),
        with(CLAIM, json!({ "schemas": "*" })),
        with(CLAIM, json!({ "schemas": [] })),
        with(CLAIM, json!({})),
        with(CLAIM, Value::Null),
        json!({ CLAIM: { "schemas": [["app", "public"]] } }),
        json!("claims"),
    ] {
        assert!(!admits(&wide(), &token(&bad)), "{bad}");
    }
}

#[test]
fn nothing_shows_the_token() {
    let shown = format!("{:?}", wide());
    assert!(!shown.contains("BEGIN"), "{shown}");
    assert!(shown.contains("void"), "ids are no secrets: {shown}");
}
