//! TLS to PostgreSQL and CockroachDB, with the meaning that libpq gives to `sslmode` and the files it
//! is given (PostgreSQL documentation, "SSL Support" of libpq).
//!
//! One builder for all our connections: SQL and replication, source, target and staging.
mod end_point;
mod name;
mod stream;
#[cfg(test)]
mod tests;
mod verify;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use self::end_point::end_point;
pub use self::stream::{Established, EstablishedFuture, PgStream};
use self::verify::{Trust, Verifier};
use super::conninfo::{Host, Roots, SslMode, TlsSettings};

/// Asks the server for TLS (PostgreSQL documentation, "Message Formats", SSLRequest).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F];

/// TLS could not be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A certificate or key file cannot be used.
    #[error("could not read {what} file \"{}\"", path.display())]
    File {
        /// What it should hold.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// A certificate or key file holds something else.
    #[error("{what} file \"{}\" holds none that is readable without a passphrase", path.display())]
    Empty {
        /// What it should hold.
        what: &'static str,
        /// Its path.
        path: PathBuf,
    },
    /// The mode asks for a check, and there is nothing to check against.
    #[error(
        "there is no root certificate file; name one with sslrootcert, or trust those of the \
         operating system with sslrootcert=system"
    )]
    NoRoots,
    /// The operating system does not tell whom it trusts.
    #[error("the operating system has no root certificates")]
    NoSystemRoots,
    /// The certificate and the key do not fit each other, or are of a kind we do not know.
    #[error("cannot use the client certificate and its key")]
    ClientCertificate(#[source] rustls::Error),
    /// The TLS library refused the settings.
    #[error("could not set up TLS")]
    Setup(#[source] rustls::Error),
    /// The server has no TLS.
    #[error("the server does not support TLS, but sslmode asks for it")]
    NotSupported,
    /// The server broke off or answered with nonsense.
    #[error("the server did not answer the request for TLS")]
    NoAnswer(#[source] io::Error),
    /// The two sides could not agree, or the server's certificate was refused.
    #[error("TLS handshake failed")]
    Handshake(#[source] io::Error),
}

/// What one connection does about TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encryption {
    /// Do not ask.
    None,
    /// Ask; go on without if the server has none.
    Offered,
    /// Ask and insist.
    Required,
}

/// What to try at one host, in this order. The second way is for a server that refused the first.
pub(super) fn ways(mode: SslMode, host: &Host) -> (Encryption, Option<Encryption>) {
    if host.is_socket() {
        return (Encryption::None, None);
    }
    match mode {
        SslMode::Disable => (Encryption::None, None),
        SslMode::Allow => (Encryption::None, Some(Encryption::Required)),
        SslMode::Prefer => (Encryption::Offered, Some(Encryption::None)),
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => (Encryption::Required, None),
    }
}

/// Makes a connected stream a plain or an encrypted one. Not cancel safe.
///
/// # Errors
///
/// See [`TlsError`]; the stream is gone.
pub(super) async fn negotiate<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    encryption: Encryption,
    settings: &TlsSettings,
    host: &Host,
) -> Result<PgStream<S>, TlsError> {
    if encryption == Encryption::None {
        return Ok(PgStream::Plain(stream));
    }
    stream.write_all(&SSL_REQUEST).await.map_err(TlsError::NoAnswer)?;
    stream.flush().await.map_err(TlsError::NoAnswer)?;
    // Exactly one byte: what somebody in between put behind it must not count as encrypted.
    match stream.read_u8().await.map_err(TlsError::NoAnswer)? {
        b'S' => (),
        b'N' if encryption == Encryption::Offered => return Ok(PgStream::Plain(stream)),
        b'N' => return Err(TlsError::NotSupported),
        _ => return Err(TlsError::NoAnswer(io::ErrorKind::InvalidData.into())),
    }
    encrypt(stream, settings, host, home().as_deref()).await
}

/// Begins TLS at once. The files of `home` are used where the settings name none.
///
/// # Errors
///
/// See [`TlsError`]; the stream is gone.
pub(crate) async fn encrypt<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    settings: &TlsSettings,
    host: &Host,
    home: Option<&Path>,
) -> Result<PgStream<S>, TlsError> {
    let config = client_config(settings, host, home)?;
    // The name is sent to the server; ours to check is in the verifier. A name that is not one of
    // DNS is not sent.
    let unnamed = ServerName::from(std::net::IpAddr::from([0, 0, 0, 0]));
    let name = ServerName::try_from(host.name.clone()).unwrap_or(unnamed);
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await.map_err(TlsError::Handshake)?;
    let (_, session) = stream.get_ref();
    let end_point = session
        .peer_certificates()
        .and_then(|chain| chain.first())
        .and_then(|leaf| end_point(leaf));
    Ok(PgStream::Tls { stream: Box::new(stream), end_point })
}

/// Whose files are the default ones.
fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

/// The settings of the TLS library. Files are read each time, so that certificates may be renewed.
fn client_config(
    settings: &TlsSettings,
    host: &Host,
    home: Option<&Path>,
) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let trust = trust(settings, host, home)?;
    let verifier = Verifier::new(trust, provider.signature_verification_algorithms);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match client_certificate(settings, home)? {
        Some((chain, key)) => {
            builder.with_client_auth_cert(chain, key).map_err(TlsError::ClientCertificate)?
        }
        None => builder.with_no_client_auth(),
    };
    config.enable_sni = settings.server_name;
    Ok(config)
}

/// Whom to believe. If there is a root file then it is used, also in the modes that do not insist
/// (libpq, fe-secure-openssl.c, initialize_SSL).
fn trust(settings: &TlsSettings, host: &Host, home: Option<&Path>) -> Result<Trust, TlsError> {
    let insists = SslMode::VerifyCa <= settings.mode;
    let path = match &settings.roots {
        Roots::System => None,
        Roots::File(path) => Some(path.clone()),
        Roots::Default => Some(home.unwrap_or_else(|| Path::new("")).join(".postgresql/root.crt")),
    };
    let certificates = match &path {
        None => rustls_native_certs::load_native_certs().certs,
        Some(path) if path.exists() => certificates("root certificate", path)?,
        Some(path) if insists && settings.roots != Roots::Default => {
            let source = pem::Error::Io(io::ErrorKind::NotFound.into());
            return Err(TlsError::File { what: "root certificate", path: path.clone(), source });
        }
        Some(_) if insists => return Err(TlsError::NoRoots),
        Some(_) => return Ok(Trust::Anyone),
    };
    let mut store = RootCertStore::empty();
    // Systems carry old certificates that cannot be read; those sign nothing of ours.
    let (added, _) = store.add_parsable_certificates(certificates.iter().cloned());
    match path {
        None if added == 0 => return Err(TlsError::NoSystemRoots),
        Some(path) if added == 0 => {
            return Err(TlsError::Empty { what: "root certificate", path });
        }
        None | Some(_) => (),
    }
    let name = (settings.mode == SslMode::VerifyFull).then(|| host.name.clone());
    Ok(Trust::Roots { store, certificates, name })
}

/// Our certificate with its key: the files that were named, or the default ones if they exist.
fn client_certificate(
    settings: &TlsSettings,
    home: Option<&Path>,
) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, TlsError> {
    let (certificate, key) = match (&settings.certificate, &settings.key, home) {
        (Some(certificate), Some(key), _) => (certificate.clone(), key.clone()),
        (_, _, Some(home)) => {
            let folder = home.join(".postgresql");
            let certificate = folder.join("postgresql.crt");
            if !certificate.exists() {
                return Ok(None);
            }
            (certificate, folder.join("postgresql.key"))
        }
        (_, _, None) => return Ok(None),
    };
    let chain = certificates("client certificate", &certificate)?;
    let what = "client key";
    match PrivateKeyDer::from_pem_file(&key) {
        Ok(key) => Ok(Some((chain, key))),
        Err(pem::Error::NoItemsFound) => Err(TlsError::Empty { what, path: key }),
        Err(source) => Err(TlsError::File { what, path: key, source }),
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file = |source| TlsError::File { what, path: path.to_owned(), source };
    let found = CertificateDer::pem_file_iter(path).map_err(file)?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(file)?;
    if found.is_empty() {
        return Err(TlsError::Empty { what, path: path.to_owned() });
    }
    Ok(found)
}
