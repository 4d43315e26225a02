//! What a token says: who it is, until when, and which schemas its bearer may bring rows for.
use replicator_core::model::ident::{ParseNameError, SchemaName, parse_parts};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Stands for every name in its place.
const ANY: &str = "*";

/// Who issues the tokens that we make ourselves. Others may have other issuers.
const ISSUER: &str = "replicator";

/// Clocks of two machines may differ by so many seconds.
const LEEWAY_SECONDS: f64 = 60.0;

/// What a token says.
///
/// A member that comes twice is an error, and so is one of ours that is not known: an issuer who limits
/// a token in a way that we do not understand must not find it unlimited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// Who made it. Told, not checked: keys decide whom we believe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iss: Option<serde_json::Value>,
    /// By what it is revoked.
    jti: String,
    /// From this time on it is void, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exp: Option<f64>,
    /// Before this time it is void, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<f64>,
    /// What it allows.
    #[serde(rename = "https://github.com/cockroachdb/replicator")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replicator: Option<Grant>,
    /// The same under its older name.
    #[serde(rename = "https://github.com/cockroachdb/cdc-sink")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    legacy: Option<Grant>,
}

/// What a token allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Schemas, each as its parts; `*` stands for every name in its place.
    #[serde(default)]
    schemas: Option<Vec<Vec<String>>>,
}

impl Grant {
    fn schemas(&self) -> impl Iterator<Item = &[String]> {
        self.schemas.iter().flatten().map(Vec::as_slice)
    }
}

impl Claims {
    /// Claims of our own making, with the token's id and the parts of each schema; see [`scope`].
    #[must_use]
    pub fn new(jti: String, schemas: Vec<Vec<String>>) -> Self {
        Self {
            iss: Some(ISSUER.into()),
            jti,
            exp: None,
            nbf: None,
            replicator: Some(Grant { schemas: Some(schemas) }),
            legacy: None,
        }
    }

    /// By what the token is revoked. One without cannot be, and is no token for us.
    pub(super) fn id(&self) -> Option<&str> {
        Some(self.jti.as_str()).filter(|id| !id.is_empty())
    }

    /// Whether it holds at this time, in seconds since 1970.
    pub(super) fn holds_at(&self, seconds: f64) -> bool {
        let ended = self.exp.is_some_and(|end| end + LEEWAY_SECONDS <= seconds);
        let begun = self.nbf.is_none_or(|begin| begin - LEEWAY_SECONDS <= seconds);
        begun && !ended
    }

    /// Whether it allows to bring rows of this schema.
    ///
    /// Names are compared letter for letter after both were decoded once, so neither case nor quotes nor
    /// escapes reach another schema than the one that was meant. The number of parts must be the same.
    pub(super) fn allow(&self, schema: &SchemaName) -> bool {
        let grants = [&self.replicator, &self.legacy].into_iter().flatten();
        grants.flat_map(Grant::schemas).any(|allowed| match (allowed, &schema.database) {
            ([one], None) => matches(one, &schema.schema),
            ([one, other], Some(database)) => {
                matches(one, database) && matches(other, &schema.schema)
            }
            _ => false,
        })
    }
}

fn matches(allowed: &str, name: &str) -> bool {
    allowed == ANY || allowed == name
}

/// The text does not name schemas that can be allowed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScopeError {
    /// It is no dotted name.
    #[error(transparent)]
    Name(#[from] ParseNameError),
    /// It has too many parts.
    #[error("\"{0}\" names more than a database and a schema")]
    Parts(String),
    /// A name that is one star. In a claim it would stand for all names.
    #[error("\"{0}\" names a schema or database \"*\", for which there is no claim")]
    Star(String),
}

/// Reads what somebody may be allowed: `database.schema`, or the one name of a schema where there are no
/// databases above it. `*` stands for all.
///
/// The parts of a dotted name are read as in SQL; one name alone is taken as it is spelled, because the
/// databases that have those tell cases apart, or do not care.
///
/// # Errors
///
/// See [`ScopeError`].
pub fn scope(text: &str) -> Result<Vec<String>, ScopeError> {
    let parts = parse_parts(text)?;
    if text.contains("\"*\"") {
        return Err(ScopeError::Star(text.to_owned()));
    }
    match parts.as_slice() {
        [_] if !text.starts_with('"') => Ok(vec![text.to_owned()]),
        [_] | [_, _] => Ok(parts),
        _ => Err(ScopeError::Parts(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use replicator_core::model::ident::SchemaName;

    use super::{Claims, scope};

    fn two(database: &str, schema: &str) -> SchemaName {
        SchemaName { database: Some(database.to_owned()), schema: schema.to_owned() }
    }

    fn one(schema: &str) -> SchemaName {
        SchemaName { database: None, schema: schema.to_owned() }
    }

    fn claims(schemas: &[&[&str]]) -> Claims {
        let parts = |schema: &&[&str]| schema.iter().map(|part| (*part).to_owned()).collect();
        Claims::new("id".to_owned(), schemas.iter().map(parts).collect())
    }

    #[test]
    fn what_is_allowed_is_allowed_letter_for_letter() {
        let claims = claims(&[&["app", "public"], &["Odd.db", "a\"b"], &["only"]]);
        for allowed in [two("app", "public"), two("Odd.db", "a\"b"), one("only")] {
            assert!(claims.allow(&allowed), "{allowed}");
        }
        for refused in [
            two("App", "public"),
            two("app", "PUBLIC"),
            two("app", "\"public\""),
            two("app", "public "),
            two("app", "*"),
            two("odd.db", "a\"b"),
            two("public", "app"),
            two("app", "ｐublic"),
            one("app"),
            one("app.public"),
            one("ONLY"),
            two("only", "only"),
            two("", "only"),
        ] {
            assert!(!claims.allow(&refused), "{refused}");
        }
    }

    #[test]
    fn a12_a_star_stands_for_one_name() {
        let database = claims(&[&["app", "*"]]);
        assert!(database.allow(&two("app", "anything")));
        assert!(!database.allow(&two("other", "anything")));
        assert!(!database.allow(&one("app")));
        let all = claims(&[&["*", "*"]]);
        assert!(all.allow(&two("a", "b")));
        assert!(!all.allow(&one("a")));
        assert!(claims(&[&["*"]]).allow(&one("a")));
        assert!(!claims(&[&["*"]]).allow(&two("a", "b")));
        // A part of a name is no pattern.
        assert!(!claims(&[&["a*", "*b"]]).allow(&two("ab", "ab")));
    }

    #[test]
    fn nothing_is_allowed_by_nothing() {
        for schemas in [&[][..], &[&[][..]], &[&["", ""]], &[&["a", "b", "c"]]] {
            assert!(!claims(schemas).allow(&two("a", "b")), "{schemas:?}");
        }
        let none: Claims = serde_json::from_str(r#"{"jti":"x"}"#).unwrap();
        assert!(!none.allow(&two("a", "b")));
        assert_eq!(none.id(), Some("x"));
    }

    #[test]
    fn the_older_name_is_known_too() {
        let text = r#"{"jti":"x","aud":["y"],"https://github.com/cockroachdb/cdc-sink":
                       {"schemas":[["a","b"]]},"https://github.com/cockroachdb/replicator":
                       {"schemas":null}}"#;
        let claims: Claims = serde_json::from_str(text).unwrap();
        assert!(claims.allow(&two("a", "b")));
    }

    #[test]
    fn claims_that_are_not_understood_are_none() {
        let grant = "https://github.com/cockroachdb/replicator";
        for text in [
            r#"{}"#.to_owned(),
            r#"{"jti":7}"#.to_owned(),
            r#"{"jti":null}"#.to_owned(),
            r#"{"jti":"x","jti":"y"}"#.to_owned(),
            r#"{"jti":"x","exp":"tomorrow"}"#.to_owned(),
            r#"{"jti":"x","nbf":[1]}"#.to_owned(),
            format!(r#"{{"jti":"x","{grant}":{{"schemas":"*"}}}}"#),
            format!(r#"{{"jti":"x","{grant}":{{"schemas":[["*",null]]}}}}"#),
            format!(r#"{{"jti":"x","{grant}":{{"schemas":[["a","b"]],"tables":["t"]}}}}"#),
            format!(r#"{{"jti":"x","{grant}":{{"schemas":[]}},"{grant}":{{"schemas":[]}}}}"#),
        ] {
            assert!(serde_json::from_str::<Claims>(&text).is_err(), "{text}");
        }
        assert_eq!(claims(&[]).id(), Some("id"));
        assert_eq!(Claims::new(String::new(), Vec::new()).id(), None);
    }

    #[test]
    fn times_are_kept_where_they_are_said() {
        let at = |text: &str, seconds: f64| {
            serde_json::from_str::<Claims>(text).unwrap().holds_at(seconds)
        };
        assert!(at(r#"{"jti":"x"}"#, 0.0));
        let hour = r#"{"jti":"x","nbf":1000.5,"exp":4600}"#;
        for (seconds, holds) in
            [(940.0, false), (941.0, true), (2000.0, true), (4659.0, true), (4660.0, false)]
        {
            assert_eq!(at(hour, seconds), holds, "{seconds}");
        }
        assert!(!at(r#"{"jti":"x","exp":-1e300}"#, 0.0));
        assert!(!at(r#"{"jti":"x","nbf":1e300}"#, 1e9));
    }

    #[test]
    fn what_may_be_allowed_is_read_as_a_name() {
        for (text, parts) in [
            ("ycsb.public", &["ycsb", "public"][..]),
            ("YCSB.Public", &["ycsb", "public"]),
            (r#""My.Db"."Sales""#, &["My.Db", "Sales"]),
            ("MIGRATION_SCHEMA", &["MIGRATION_SCHEMA"]),
            (r#""a.b""#, &["a.b"]),
            ("*.*", &["*", "*"]),
            ("app.*", &["app", "*"]),
            ("*", &["*"]),
        ] {
            assert_eq!(scope(text).unwrap(), parts, "{text}");
        }
        for text in ["", ".", "a.", "a.b.c", "\"a", r#""*".a"#, r#""*""#] {
            assert!(scope(text).is_err(), "{text}");
        }
    }
}
