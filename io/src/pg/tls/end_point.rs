//! The `tls-server-end-point` channel binding: a digest of the server's certificate (RFC 5929, section
//! 4.1), which SCRAM-SHA-256-PLUS signs.
use aws_lc_rs::digest::{Algorithm, SHA224, SHA256, SHA384, SHA512, digest};
use x509_cert::Certificate;
use x509_cert::der::asn1::{AnyRef, ContextSpecific};
use x509_cert::der::{Decode as _, Encode as _, Reader as _, SliceReader};
use x509_cert::spki::{AlgorithmIdentifierOwned, AlgorithmIdentifierRef};

/// The digest of a certificate, with the hash that its signature uses. `None` if that has none.
pub(super) fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let algorithm = hash_of(&parsed.signature_algorithm)?;
    Some(digest(algorithm, certificate).as_ref().to_vec())
}

fn hash_of(signature: &AlgorithmIdentifierOwned) -> Option<&'static Algorithm> {
    match signature.oid.to_string().as_str() {
        // RFC 8017, appendix A.2: RSA with MD5 and SHA-1, which are both replaced by SHA-256.
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" => Some(&SHA256),
        "1.2.840.113549.1.1.11" => Some(&SHA256),
        "1.2.840.113549.1.1.12" => Some(&SHA384),
        "1.2.840.113549.1.1.13" => Some(&SHA512),
        "1.2.840.113549.1.1.14" => Some(&SHA224),
        // RSASSA-PSS has the hash among its parameters.
        "1.2.840.113549.1.1.10" => pss_hash(signature),
        // RFC 5758 and RFC 3279: ECDSA with SHA-1, SHA-224, SHA-256, SHA-384, SHA-512.
        "1.2.840.10045.4.1" => Some(&SHA256),
        "1.2.840.10045.4.3.1" => Some(&SHA224),
        "1.2.840.10045.4.3.2" => Some(&SHA256),
        "1.2.840.10045.4.3.3" => Some(&SHA384),
        "1.2.840.10045.4.3.4" => Some(&SHA512),
        // Ed25519 and Ed448 have no hash of their own, and RFC 5929 defines no binding for them.
        _ => None,
    }
}

/// RFC 8017, appendix A.2.3: `[0] hashAlgorithm`, SHA-1 if it is left out.
fn pss_hash(signature: &AlgorithmIdentifierOwned) -> Option<&'static Algorithm> {
    let parameters = signature.parameters.as_ref()?.to_der().ok()?;
    let sequence = AnyRef::from_der(&parameters).ok()?;
    let mut reader = SliceReader::new(sequence.value()).ok()?;
    if reader.is_finished() {
        return Some(&SHA256);
    }
    let first = ContextSpecific::<AlgorithmIdentifierRef<'_>>::decode(&mut reader).ok()?;
    if first.tag_number.value() != 0 {
        return Some(&SHA256);
    }
    match first.value.oid.to_string().as_str() {
        "1.3.14.3.2.26" | "2.16.840.1.101.3.4.2.1" => Some(&SHA256),
        "2.16.840.1.101.3.4.2.2" => Some(&SHA384),
        "2.16.840.1.101.3.4.2.3" => Some(&SHA512),
        "2.16.840.1.101.3.4.2.4" => Some(&SHA224),
        _ => None,
    }
}
