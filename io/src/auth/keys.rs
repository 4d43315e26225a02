//! Public keys: those of RSA and of two elliptic curves.
//!
//! All of a key is looked at when it is read, so that a request only ever meets keys that work.
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    VerificationAlgorithm,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use thiserror::Error;
use x509_cert::der::asn1::{ObjectIdentifier, UintRef};
use x509_cert::der::{Decode as _, Reader as _, SliceReader};
use x509_cert::spki::SubjectPublicKeyInfoRef;

/// Of one text, in bytes. A key with the longest modulus has under two thousand.
pub(super) const TEXT_BYTES_MAX: usize = 16 << 10;

/// Keys of one text.
const KEYS_MAX: usize = 16;

/// Longest and shortest modulus of RSA, in bytes.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

// RFC 8017, appendix C; RFC 5480, sections 2.1.1 and 2.1.1.1.
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// Blocks that must not lie around.
const PRIVATE: [SectionKind; 3] =
    [SectionKind::PrivateKey, SectionKind::RsaPrivateKey, SectionKind::EcPrivateKey];

/// Signatures that RSA keys check.
const RSA_SIGNATURES: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// What a key can check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
}

/// One public key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    kind: Kind,
    key: DecodingKey,
}

/// Why a text has no key for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum KeyError {
    #[error("it is over {} KiB long", TEXT_BYTES_MAX >> 10)]
    Long,
    #[error("it has over {KEYS_MAX} keys")]
    Many,
    #[error("it is broken PEM")]
    Pem,
    #[error("it has no block PUBLIC KEY; `openssl pkey -in KEY -pubout` makes one")]
    Nothing,
    #[error("it has a private key, which must not be here")]
    Private,
    #[error("a block PUBLIC KEY does not hold a key")]
    Der,
    #[error("a key is neither RSA nor of an elliptic curve")]
    Kind,
    #[error("a key is of an elliptic curve other than P-256 and P-384")]
    Curve,
    #[error("an RSA key does not have 2048 to 8192 bits")]
    Modulus,
    #[error("a key is not valid")]
    Invalid,
}

impl Key {
    /// All keys of a text in PEM. If one of them is bad, all are refused.
    pub(super) fn parse_all(text: &[u8]) -> Result<Vec<Self>, KeyError> {
        if TEXT_BYTES_MAX < text.len() {
            return Err(KeyError::Long);
        }
        let mut keys = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
            let (kind, der) = section.map_err(|_| KeyError::Pem)?;
            if keys.len() == KEYS_MAX {
                return Err(KeyError::Many);
            }
            if PRIVATE.contains(&kind) {
                return Err(KeyError::Private);
            }
            // A certificate beside the key does no harm.
            if kind == SectionKind::PublicKey {
                keys.push(Self::parse(&der)?);
            }
        }
        if keys.is_empty() { Err(KeyError::Nothing) } else { Ok(keys) }
    }

    /// A key as its SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7).
    fn parse(der: &[u8]) -> Result<Self, KeyError> {
        let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| KeyError::Der)?;
        let bits = info.subject_public_key.as_bytes().ok_or(KeyError::Der)?;
        let valid = |algorithm: &'static dyn VerificationAlgorithm| {
            ParsedPublicKey::new(algorithm, bits).map(drop).map_err(|_| KeyError::Invalid)
        };
        if info.algorithm.oid == RSA {
            if !MODULUS_BYTES.contains(&modulus_bytes(bits).ok_or(KeyError::Der)?) {
                return Err(KeyError::Modulus);
            }
            valid(&RSA_PKCS1_2048_8192_SHA256)?;
            return Ok(Self { kind: Kind::Rsa, key: DecodingKey::from_rsa_der(bits) });
        }
        if info.algorithm.oid != EC {
            return Err(KeyError::Kind);
        }
        let curve = info.algorithm.parameters_oid().map_err(|_| KeyError::Curve)?;
        let kind = match curve {
            P256 => {
                valid(&ECDSA_P256_SHA256_FIXED)?;
                Kind::P256
            }
            P384 => {
                valid(&ECDSA_P384_SHA384_FIXED)?;
                Kind::P384
            }
            _ => return Err(KeyError::Curve),
        };
        Ok(Self { kind, key: DecodingKey::from_ec_der(bits) })
    }

    /// Whether it can check signatures of this kind. No key can check those by a shared secret.
    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        match self.kind {
            Kind::Rsa => RSA_SIGNATURES.contains(&algorithm),
            Kind::P256 => algorithm == Algorithm::ES256,
            Kind::P384 => algorithm == Algorithm::ES384,
        }
    }

    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.key
    }
}

/// The length of the modulus of an RSAPublicKey (RFC 8017, appendix A.1.1).
fn modulus_bytes(der: &[u8]) -> Option<usize> {
    let mut reader = SliceReader::new(der).ok()?;
    let parts = reader.sequence(|inner| Ok((UintRef::decode(inner)?, UintRef::decode(inner)?)));
    let (modulus, _exponent) = parts.ok()?;
    Some(modulus.as_bytes().len())
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::Algorithm;

    use super::super::fixtures;
    use super::{Key, KeyError};

    fn check(text: &str, error: KeyError) {
        assert_eq!(Key::parse_all(text.as_bytes()).map(|keys| keys.len()), Err(error), "{text}");
    }

    #[test]
    fn keys_of_each_kind_are_read() {
        for (text, fits) in [
            (fixtures::RSA_PUBLIC, Algorithm::RS256),
            (fixtures::RSA_PUBLIC, Algorithm::PS512),
            (fixtures::P256_PUBLIC, Algorithm::ES256),
            (fixtures::P384_PUBLIC, Algorithm::ES384),
        ] {
            let keys = Key::parse_all(text.as_bytes()).unwrap();
            assert_eq!(keys.len(), 1);
            assert!(keys[0].fits(fits), "{fits:?}");
            for other in [Algorithm::HS256, Algorithm::HS512, Algorithm::EdDSA] {
                assert!(!keys[0].fits(other), "{other:?}");
            }
        }
        let both = format!("{}{}", fixtures::RSA_PUBLIC, fixtures::P256_PUBLIC);
        assert_eq!(Key::parse_all(both.as_bytes()).unwrap().len(), 2);
    }

    #[test]
    fn a_key_checks_only_what_it_can() {
        let p256 = &Key::parse_all(fixtures::P256_PUBLIC.as_bytes()).unwrap()[0];
        assert!(!p256.fits(Algorithm::ES384) && !p256.fits(Algorithm::RS256));
        let rsa = &Key::parse_all(fixtures::RSA_PUBLIC.as_bytes()).unwrap()[0];
        assert!(!rsa.fits(Algorithm::ES256));
    }

    #[test]
    fn what_is_no_key_says_why() {
        check("", KeyError::Nothing);
        check("nothing of it is PEM", KeyError::Nothing);
        check(&"x".repeat(20_000), KeyError::Long);
        check("-----BEGIN PUBLIC KEY-----\nAAAA\n", KeyError::Pem);
        check("-----BEGIN PUBLIC KEY-----\n!!!!\n-----END PUBLIC KEY-----\n", KeyError::Pem);
        check("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", KeyError::Der);
        check(fixtures::P256_SEC1, KeyError::Private);
        check(fixtures::RSA_PKCS8, KeyError::Private);
        check(fixtures::P521_PUBLIC, KeyError::Curve);
        check(fixtures::ED25519_PUBLIC, KeyError::Kind);
        check(fixtures::RSA_1024_PUBLIC, KeyError::Modulus);
        check(&fixtures::P256_PUBLIC.repeat(17), KeyError::Many);
        // A point that is not on the curve.
        check(fixtures::P256_OFF_CURVE, KeyError::Invalid);
    }
}
