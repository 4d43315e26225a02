//! Makes tokens, for those who have no other issuer.
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, RsaKeyPair,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use thiserror::Error;
use x509_cert::der::asn1::{OctetStringRef, UintRef};
use x509_cert::der::{Decode as _, Reader as _, SliceReader};
use x509_cert::spki::AlgorithmIdentifierRef;

use super::claims::Claims;

/// The shortest modulus of RSA whose signatures our own gate takes, in bytes.
const MODULUS_BYTES_MIN: usize = 256;

/// The curves that we sign with, and how their signatures are called.
const CURVES: [(&EcdsaSigningAlgorithm, Algorithm); 2] = [
    (&ECDSA_P256_SHA256_FIXED_SIGNING, Algorithm::ES256),
    (&ECDSA_P384_SHA384_FIXED_SIGNING, Algorithm::ES384),
];

/// No token can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SignError {
    /// There is no key in the text.
    #[error("did not find expected PEM data: there is no private key")]
    Nothing,
    /// The key needs a passphrase.
    #[error("the private key is encrypted; `openssl pkey -in KEY` makes one that is not")]
    Encrypted,
    /// It is neither RSA nor of a curve that we know, or broken.
    #[error(
        "unsupported key type: it must be RSA with at least 2048 bits, or of the elliptic curves \
         P-256 or P-384"
    )]
    Kind,
    /// The library refused.
    #[error("could not sign")]
    Refused,
}

/// A private key. Printing it does not show it.
#[derive(Clone, Debug)]
pub struct SigningKey {
    algorithm: Algorithm,
    key: EncodingKey,
}

impl SigningKey {
    /// The first private key of a text in PEM: PKCS#8, PKCS#1 or SEC1.
    ///
    /// # Errors
    ///
    /// See [`SignError`].
    pub fn from_pem(text: &[u8]) -> Result<Self, SignError> {
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
            let (kind, der) = section.map_err(|_| SignError::Nothing)?;
            let key = if kind == SectionKind::RsaPrivateKey {
                Self::rsa(&der)
            } else if kind == SectionKind::EcPrivateKey {
                Self::ec(&der)
            } else if kind == SectionKind::PrivateKey {
                Self::ec(&der).or_else(|| rsa_in_pkcs8(&der).and_then(Self::rsa))
            } else {
                // Such as the parameters that openssl writes before the key.
                continue;
            };
            return key.ok_or(SignError::Kind);
        }
        let encrypted = text.windows(9).any(|window| window == b"ENCRYPTED");
        Err(if encrypted { SignError::Encrypted } else { SignError::Nothing })
    }

    /// An RSAPrivateKey (RFC 8017, appendix A.1.2).
    fn rsa(der: &[u8]) -> Option<Self> {
        let key = RsaKeyPair::from_der(der).ok()?;
        let key_fits = MODULUS_BYTES_MIN <= key.public_modulus_len();
        let key = key_fits.then(|| EncodingKey::from_rsa_der(der))?;
        Some(Self { algorithm: Algorithm::RS256, key })
    }

    /// An ECPrivateKey (RFC 5915), alone or in a PrivateKeyInfo.
    fn ec(der: &[u8]) -> Option<Self> {
        CURVES.into_iter().find_map(|(curve, algorithm)| {
            let pair = EcdsaKeyPair::from_private_key_der(curve, der).ok()?;
            let pkcs8 = pair.to_pkcs8v1().ok()?;
            Some(Self { algorithm, key: EncodingKey::from_ec_der(pkcs8.as_ref()) })
        })
    }

    /// The token with these claims.
    ///
    /// # Errors
    ///
    /// The library refused.
    pub fn sign(&self, claims: &Claims) -> Result<String, SignError> {
        let header = Header::new(self.algorithm);
        jsonwebtoken::encode(&header, claims, &self.key).map_err(|_| SignError::Refused)
    }
}

impl Claims {
    /// Claims with a random id, so that the token can be revoked without touching others.
    ///
    /// # Errors
    ///
    /// The system has no randomness.
    pub fn issue(schemas: Vec<Vec<String>>) -> Result<Self, SignError> {
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| SignError::Refused)?;
        Ok(Self::new(uuid(bytes), schemas))
    }
}

/// Random bytes as a UUID (RFC 9562, section 5.4).
fn uuid(bytes: [u8; 16]) -> String {
    let bits = u128::from_be_bytes(bytes);
    let bits = bits & !(0xF << 76) | 0x4 << 76;
    let bits = bits & !(0x3 << 62) | 0x2 << 62;
    let digits = format!("{bits:032x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]);
    parts.join("-")
}

/// The RSAPrivateKey in a PrivateKeyInfo (RFC 5208, section 5).
fn rsa_in_pkcs8(der: &[u8]) -> Option<&[u8]> {
    let mut reader = SliceReader::new(der).ok()?;
    let key = reader.sequence(|inner| {
        UintRef::decode(inner)?;
        AlgorithmIdentifierRef::decode(inner)?;
        let key = OctetStringRef::decode(inner)?;
        // Attributes may follow.
        inner.read_slice(inner.remaining_len())?;
        Ok(key)
    });
    key.ok().map(|key| key.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::{Claims, SignError, SigningKey, uuid};

    #[test]
    fn keys_of_each_form_sign() {
        let claims = Claims::issue(vec![vec!["app".to_owned(), "public".to_owned()]]).unwrap();
        for text in [
            fixtures::RSA_PKCS1,
            fixtures::RSA_PKCS8,
            fixtures::P256_SEC1,
            fixtures::P256_PKCS8,
            fixtures::P384_SEC1,
            fixtures::P384_PKCS8,
        ] {
            let key = SigningKey::from_pem(text.as_bytes()).unwrap();
            let token = key.sign(&claims).unwrap();
            assert_eq!(token.split('.').count(), 3, "{token}");
            assert!(!format!("{key:?}").contains("48"), "a key shows itself: {key:?}");
        }
    }

    #[test]
    fn what_is_no_key_says_why() {
        for (text, error) in [
            ("", SignError::Nothing),
            (fixtures::P256_PUBLIC, SignError::Nothing),
            (fixtures::P256_ENCRYPTED, SignError::Encrypted),
            (fixtures::P521_SEC1, SignError::Kind),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", SignError::Kind),
        ] {
            assert_eq!(SigningKey::from_pem(text.as_bytes()).map(drop), Err(error), "{text}");
        }
    }

    #[test]
    fn an_id_is_a_random_uuid() {
        assert_eq!(uuid([0; 16]), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid([0xFF; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        let id = || Claims::issue(Vec::new()).unwrap().id().unwrap().to_owned();
        assert_ne!(id(), id());
    }
}
