//! All public keys and revoked tokens at one moment. It is replaced as a whole, never changed.
use std::collections::BTreeSet;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use replicator_core::model::ident::SchemaName;
use replicator_core::model::time::WallTime;
use thiserror::Error;

use super::claims::Claims;
use super::keys::Key;
use super::token::Token;

/// Public keys at the same time. A request costs at most so many checks of a signature.
const KEYS_MAX: usize = 64;

const MICROS_PER_SECOND: f64 = 1e6;

/// Public keys and revoked tokens as somebody keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Material {
    /// Texts with public keys.
    pub keys: Vec<PublicKeyText>,
    /// Ids of tokens that are void.
    pub revoked: BTreeSet<String>,
    /// What could not be read, for the operator; the rest was.
    pub complaints: Vec<String>,
}

/// One text with public keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKeyText {
    /// Where it is, for the operator.
    pub place: String,
    /// PEM.
    pub text: Vec<u8>,
}

/// Why somebody is refused: for the log, never for the one who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Denied {
    #[error("it has no token")]
    Missing,
    #[error("it has several tokens")]
    Several,
    #[error("its token is too long")]
    Long,
    #[error("its token is malformed")]
    Malformed,
    #[error("its token has a header that asks for more than we understand")]
    Critical,
    #[error("there is no public key for the algorithm of its token")]
    NoKey,
    #[error("no public key fits the signature of its token")]
    Signature,
    #[error("its token has no claims that we understand")]
    Claims,
    #[error("its token has no jti")]
    Id,
    #[error("its token is revoked")]
    Revoked,
    #[error("its token has expired or is not valid yet")]
    Time,
    #[error("its token does not allow this schema")]
    Schema,
}

/// Public keys and revoked tokens.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    keys: Vec<Key>,
    revoked: BTreeSet<String>,
    read_at: Option<WallTime>,
}

impl Keyring {
    /// Keeps what can be used, and tells the operator about the rest. A bad key does not touch the others.
    #[must_use]
    pub fn new(material: Material, read_at: WallTime) -> (Self, Vec<String>) {
        let Material { keys: texts, revoked, mut complaints } = material;
        let mut keys = Vec::new();
        for PublicKeyText { place, text } in texts {
            match Key::parse_all(&text) {
                Ok(found) if KEYS_MAX < keys.len() + found.len() => {
                    complaints.push(format!("{place} is ignored: there are over {KEYS_MAX} keys"));
                }
                Ok(found) => keys.extend(found),
                Err(error) => complaints.push(format!("{place} is ignored: {error}")),
            }
        }
        (Self { keys, revoked, read_at: Some(read_at) }, complaints)
    }

    /// How many keys there are.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// How many tokens are revoked.
    #[must_use]
    pub fn revoked(&self) -> usize {
        self.revoked.len()
    }

    /// When it was read. `None` if it never was, and is empty.
    #[must_use]
    pub fn read_at(&self) -> Option<WallTime> {
        self.read_at
    }

    /// Whether the bearer of `token` may bring rows of `schema` now.
    pub(super) fn judge(
        &self,
        token: &Token<'_>,
        schema: &SchemaName,
        now: WallTime,
    ) -> Result<(), Denied> {
        let claims = self.verify(token)?;
        let id = claims.id().ok_or(Denied::Id)?;
        if self.revoked.contains(id) {
            return Err(Denied::Revoked);
        }
        if !claims.holds_at(seconds(now)) {
            return Err(Denied::Time);
        }
        if claims.allow(schema) { Ok(()) } else { Err(Denied::Schema) }
    }

    /// The claims of a token. Nothing of them is looked at before somebody's signature was found good.
    fn verify(&self, token: &Token<'_>) -> Result<Claims, Denied> {
        // A header that is unknown, such as the algorithm "none", cannot be read.
        let header = decode_header(token.expose()).map_err(|_| Denied::Malformed)?;
        // RFC 7515, section 4.1.11: whoever does not understand what is critical must refuse.
        if header.crit.is_some() || header.enc.is_some() || header.zip.is_some() {
            return Err(Denied::Critical);
        }
        let validation = signature_only(header.alg);
        let mut denied = Denied::NoKey;
        for key in self.keys.iter().filter(|key| key.fits(header.alg)) {
            match decode::<Claims>(token.expose(), key.decoding(), &validation) {
                Ok(token) => return Ok(token.claims),
                Err(error) if *error.kind() == ErrorKind::InvalidSignature => {
                    denied = Denied::Signature;
                }
                Err(_) => return Err(Denied::Claims),
            }
        }
        Err(denied)
    }
}

/// The library checks signatures; claims are looked at by us, by a clock that tests can set.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    // Nobody has told us who we are to those who issue tokens.
    validation.validate_aud = false;
    validation
}

#[expect(clippy::cast_precision_loss, reason = "seconds matter, and there is a leeway of sixty")]
fn seconds(time: WallTime) -> f64 {
    time.micros as f64 / MICROS_PER_SECOND
}
