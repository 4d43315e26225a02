//! The certificate of a listener: from files, which may be renewed while we run, or thrown away with us.
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::{InconsistentKeys, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem};
use thiserror::Error;
use tokio::sync::watch;
use tracing::{info, warn};

use super::stopped;

/// What is spoken inside, in the order in which we prefer it.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Whom a throw-away certificate is for.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The flag that names the certificate, and the one that names its key.
const CERTIFICATE: &str = "--tlsCertificate";
const KEY: &str = "--tlsPrivateKey";

/// The listener cannot have TLS.
#[derive(Debug, Error)]
pub enum ListenTlsError {
    /// A file cannot be read.
    #[error("could not read {flag} \"{}\"", path.display())]
    File {
        /// The flag that names it.
        flag: &'static str,
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{flag} \"{}\" is not PEM", path.display())]
    NotPem {
        /// The flag that names it.
        flag: &'static str,
        /// Its path.
        path: PathBuf,
    },
    /// There is no certificate in the file.
    #[error("{CERTIFICATE} \"{}\" holds no certificate", path.display())]
    NoCertificate {
        /// Its path.
        path: PathBuf,
    },
    /// There is no key in the file.
    #[error(
        "{KEY} \"{}\" holds no private key that can be read without a passphrase", path.display()
    )]
    NoKey {
        /// Its path.
        path: PathBuf,
    },
    /// The key is another certificate's.
    #[error(
        "{KEY} \"{}\" is not the key of the first certificate in {CERTIFICATE} \"{}\"",
        key.display(), certificate.display()
    )]
    Mismatch {
        /// The certificate's path.
        certificate: PathBuf,
        /// The key's path.
        key: PathBuf,
    },
    /// They are of a kind that the TLS library does not know, or broken.
    #[error(
        "cannot use {CERTIFICATE} \"{}\" with {KEY} \"{}\"", certificate.display(), key.display()
    )]
    Unusable {
        /// The certificate's path.
        certificate: PathBuf,
        /// The key's path.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// No throw-away certificate can be made.
    #[error("could not make a certificate")]
    SelfSigned(#[source] rcgen::Error),
    /// The TLS library refused the settings.
    #[error("could not set up TLS")]
    Setup(#[source] rustls::Error),
}

/// A certificate and its key, as files in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, the listener's own certificate first.
    pub certificate: PathBuf,
    /// The key of the first certificate: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Reads both. It blocks.
    ///
    /// # Errors
    ///
    /// See [`ListenTlsError`].
    pub fn load(&self) -> Result<Arc<ServerConfig>, ListenTlsError> {
        let chain = self.chain()?;
        let key = self.key()?;
        let (certificate, path) = (self.certificate.clone(), self.key.clone());
        server_config(chain, key).map_err(|source| {
            if source == rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) {
                ListenTlsError::Mismatch { certificate, key: path }
            } else {
                ListenTlsError::Unusable { certificate, key: path, source }
            }
        })
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, ListenTlsError> {
        let text = read(CERTIFICATE, &self.certificate)?;
        let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
        let path = self.certificate.clone();
        match chain {
            Ok(chain) if chain.is_empty() => Err(ListenTlsError::NoCertificate { path }),
            Ok(chain) => Ok(chain),
            Err(_) => Err(ListenTlsError::NotPem { flag: CERTIFICATE, path }),
        }
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, ListenTlsError> {
        let text = read(KEY, &self.key)?;
        let path = self.key.clone();
        // The cause is not told: it may quote the text, which is a secret.
        PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
            if matches!(error, pem::Error::NoItemsFound) {
                ListenTlsError::NoKey { path }
            } else {
                ListenTlsError::NotPem { flag: KEY, path }
            }
        })
    }
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, ListenTlsError> {
    std::fs::read(path).map_err(|source| {
        let path = path.to_owned();
        ListenTlsError::File { flag, path, source }
    })
}

/// A certificate for this machine alone, which nobody has a reason to believe. Its key is never written
/// down.
///
/// # Errors
///
/// The system has no randomness.
pub fn self_signed() -> Result<Arc<ServerConfig>, ListenTlsError> {
    let (chain, key) = throw_away().map_err(ListenTlsError::SelfSigned)?;
    server_config(vec![chain], key).map_err(ListenTlsError::Setup)
}

fn throw_away() -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), rcgen::Error> {
    // P-256, by rcgen's choice.
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(LOCAL.map(str::to_owned))?;
    params.distinguished_name.push(DnType::CommonName, "replicator, made by itself");
    let certificate = params.self_signed(&key)?;
    Ok((certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
}

/// TLS 1.2 and 1.3, without certificates of clients: those have tokens.
fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(Arc::new(config))
}

/// Keeps the certificate of a listener up to date. Connections keep the one that they began with.
#[derive(Debug)]
pub struct TlsReloader {
    files: TlsFiles,
    config: watch::Sender<Arc<ServerConfig>>,
}

impl TlsReloader {
    /// Reads the files for the first time. It blocks.
    ///
    /// # Errors
    ///
    /// See [`ListenTlsError`]; without a certificate there is no listener.
    pub fn begin(
        files: TlsFiles,
    ) -> Result<(watch::Receiver<Arc<ServerConfig>>, Self), ListenTlsError> {
        let (config, read) = watch::channel(files.load()?);
        Ok((read, Self { files, config }))
    }

    /// Reads them whenever `asked` changes, until told to stop. What cannot be used changes nothing.
    pub async fn run(self, mut asked: watch::Receiver<()>, mut stop: watch::Receiver<bool>) {
        loop {
            let changed = tokio::select! {
                biased;
                () = stopped(&mut stop) => return,
                changed = asked.changed() => changed,
            };
            if changed.is_err() {
                // Nobody is left who could ask.
                return;
            }
            let files = self.files.clone();
            match tokio::task::spawn_blocking(move || files.load()).await {
                Ok(Ok(config)) => {
                    self.config.send_replace(config);
                    info!("the certificate of the listener was read again");
                }
                Ok(Err(error)) => {
                    let error = crate::error_chain(&error);
                    warn!("the certificate of the listener stays as it was: {error}");
                }
                Err(died) => warn!("the certificate of the listener stays as it was: {died}"),
            }
        }
    }
}

#[cfg(test)]
mod tests;
