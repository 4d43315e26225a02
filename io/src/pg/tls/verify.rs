//! Whether to believe the server's certificate.
//!
//! Whoever we believe, the server must prove in the handshake that it has the certificate's key:
//! otherwise channel binding, which names the certificate, would prove nothing.
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _};

use super::name;

/// Whom to believe.
#[derive(Debug)]
pub(super) enum Trust {
    /// Whoever answers.
    Anyone,
    /// Those whom one of the roots vouches for.
    Roots {
        /// The roots.
        store: RootCertStore,
        /// The roots again, as they are in the file.
        certificates: Vec<CertificateDer<'static>>,
        /// The name that the certificate must bear.
        name: Option<String>,
    },
}

/// Judges certificates.
#[derive(Debug)]
pub(super) struct Verifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) const fn new(trust: Trust, algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { trust, algorithms }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Trust::Roots { store, certificates, name } = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        let chained = ParsedCertificate::try_from(end_entity).and_then(|parsed| {
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                store,
                intermediates,
                now,
                algorithms,
            )
        });
        if let Err(error) = chained {
            // A certificate that signed itself and is in the file is what the operator meant to
            // trust, although it is made out as one that signs others.
            let is_root = certificates.iter().any(|root| root.as_ref() == end_entity.as_ref());
            if !is_root || !is_own_root(&parse(end_entity)?, now) {
                return Err(error);
            }
        }
        if let Some(host) = name
            && let Err(presented) = name::check(&parse(end_entity)?, host)
        {
            return Err(wrong_name(host, presented));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // By the key alone, so that a certificate of version 1 is good enough where nobody asks who
        // signed it.
        let key = parse(certificate)?.tbs_certificate.subject_public_key_info.to_der();
        let key = SubjectPublicKeyInfoDer::from(key.map_err(|_| bad_encoding())?);
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn parse(certificate: &CertificateDer<'_>) -> Result<Certificate, Error> {
    Certificate::from_der(certificate).map_err(|_| bad_encoding())
}

const fn bad_encoding() -> Error {
    Error::InvalidCertificate(CertificateError::BadEncoding)
}

/// Whether a certificate names itself as its signer and is in force.
fn is_own_root(certificate: &Certificate, now: UnixTime) -> bool {
    let part = &certificate.tbs_certificate;
    let now = Duration::from_secs(now.as_secs());
    let validity = &part.validity;
    part.issuer == part.subject
        && validity.not_before.to_unix_duration() <= now
        && now <= validity.not_after.to_unix_duration()
}

fn wrong_name(host: &str, presented: Vec<String>) -> Error {
    let expected = ServerName::try_from(host.to_owned());
    Error::InvalidCertificate(expected.map_or(CertificateError::NotValidForName, |expected| {
        CertificateError::NotValidForNameContext { expected, presented }
    }))
}
