//! Handshakes with a server in the same process, for each mode and certificate.
//!
//! The certificates are P-256, good from 2020 to 2119. `named.crt` is made out to db.example.com,
//! *.wild.example.com and 127.0.0.1 as alternative names; `common.crt` has db.example.com as its common
//! name only; both are signed by `ca.crt`. `own.crt` signed itself, with SHA-512, as one that may sign
//! others. `client.crt` and `client_rsa.crt` are for clients.
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_rustls::TlsAcceptor;

use super::{
    Encryption, PgStream, SSL_REQUEST, TlsError, client_config, end_point, negotiate, ways,
};
use crate::pg::conninfo::{ConnInfo, SslMode};

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/pg/tls/fixtures").join(name)
}

fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file(name)).unwrap()
}

fn parse(text: &str) -> ConnInfo {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A server with this certificate; with `asks`, one that wants to see a certificate of ours.
fn server(name: &str, asks: bool) -> TlsAcceptor {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = if asks {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate("ca.crt")).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::from_pem_file(file(&format!("{name}.key"))).unwrap();
    let chain = vec![certificate(&format!("{name}.crt"))];
    TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()))
}

/// Answers a request for TLS, and then every byte with the next one.
async fn serve(acceptor: TlsAcceptor, mut stream: DuplexStream) -> std::io::Result<()> {
    let mut request = [0; 8];
    stream.read_exact(&mut request).await?;
    assert_eq!(request, SSL_REQUEST);
    stream.write_all(b"S").await?;
    let mut stream = acceptor.accept(stream).await?;
    let byte = stream.read_u8().await?;
    stream.write_u8(byte + 1).await?;
    stream.flush().await
}

/// Connects as the connection string says and says something.
async fn handshake(acceptor: TlsAcceptor, text: &str) -> Result<PgStream<DuplexStream>, TlsError> {
    let conninfo = parse(text);
    let (ours, theirs) = duplex(1 << 16);
    let client = async {
        let host = &conninfo.hosts[0];
        let mut stream = negotiate(ours, Encryption::Required, &conninfo.tls, host).await?;
        stream.write_u8(7).await.unwrap();
        stream.flush().await.unwrap();
        // In TLS 1.3 the server may refuse us after the handshake.
        match stream.read_u8().await {
            Ok(byte) => assert_eq!(byte, 8),
            Err(error) => return Err(TlsError::Handshake(error)),
        }
        Ok(stream)
    };
    let (outcome, _) = tokio::join!(client, serve(acceptor, theirs));
    outcome
}

/// The cause of a refusal, or an empty text.
async fn refusal(name: &str, text: &str) -> String {
    match handshake(server(name, false), text).await {
        Ok(_) => String::new(),
        Err(TlsError::Handshake(error)) => error.to_string(),
        Err(other) => other.to_string(),
    }
}

#[tokio::test]
async fn each_mode_checks_what_it_promises() {
    let roots = file("ca.crt").display().to_string();
    let named = "not valid for name";
    for (certificate, host, mode, expected) in [
        ("named", "db.example.com", "verify-full", ""),
        ("named", "DB.EXAMPLE.com", "verify-full", ""),
        ("named", "a.wild.example.com", "verify-full", ""),
        ("named", "127.0.0.1", "verify-full", ""),
        ("named", "127.0.0.2", "verify-full", named),
        ("named", "a.b.wild.example.com", "verify-full", named),
        // The common name does not count when there are alternative names.
        ("named", "ignored.example.com", "verify-full", named),
        ("named", "ignored.example.com", "verify-ca", ""),
        ("common", "db.example.com", "verify-full", ""),
        ("common", "other.example.com", "verify-full", named),
        ("common", "other.example.com", "verify-ca", ""),
        ("own", "db.example.com", "verify-full", "invalid peer certificate"),
        ("own", "db.example.com", "verify-ca", "invalid peer certificate"),
        // With a root file this is as strict as verify-ca.
        ("own", "db.example.com", "require", "invalid peer certificate"),
        ("named", "other.example.com", "require", ""),
    ] {
        let text = format!("postgres://u@{host}?sslmode={mode}&sslrootcert={roots}");
        let refused = refusal(certificate, &text).await;
        let right =
            if expected.is_empty() { refused.is_empty() } else { refused.contains(expected) };
        assert!(right, "{certificate} {host} {mode}: {refused:?}");
    }
}

#[tokio::test]
async fn without_a_root_file_require_takes_any_certificate() {
    let text = "postgres://u@elsewhere.example.com?sslmode=require&sslrootcert=/does/not/exist";
    assert_eq!(refusal("own", text).await, "");
    let text = "postgres://u@db.example.com?sslmode=verify-ca&sslrootcert=/does/not/exist";
    assert_eq!(
        refusal("own", text).await,
        "could not read root certificate file \"/does/not/exist\""
    );
}

#[tokio::test]
async fn a_certificate_that_signed_itself_is_trusted_if_it_is_in_the_root_file() {
    let roots = file("own.crt").display().to_string();
    let text = format!("postgres://u@db.example.com?sslmode=verify-full&sslrootcert={roots}");
    assert_eq!(refusal("own", &text).await, "");
    let text = format!("postgres://u@x.example.com?sslmode=verify-full&sslrootcert={roots}");
    assert!(refusal("own", &text).await.contains("not valid for name"));
}

#[tokio::test]
async fn the_server_sees_our_certificate() {
    let roots = file("ca.crt").display().to_string();
    for (certificate, key) in [
        ("client.crt", "client.pkcs8.key"),
        ("client.crt", "client.sec1.key"),
        ("client_rsa.crt", "client_rsa.pkcs1.key"),
    ] {
        let (certificate, key) = (file(certificate), file(key));
        let text = format!(
            "host=db.example.com user=u sslmode=verify-full sslrootcert={roots} sslcert={} sslkey={}",
            certificate.display(),
            key.display()
        );
        let outcome = handshake(server("named", true), &text).await;
        assert!(outcome.is_ok(), "{text}: {outcome:?}");
    }
    let text = format!("host=db.example.com user=u sslmode=verify-full sslrootcert={roots}");
    assert!(handshake(server("named", true), &text).await.is_err());
}

#[test]
fn unusable_files_are_named() {
    let config = |certificate: &str, key: &str| {
        let (certificate, key) = (file(certificate), file(key));
        let text = format!(
            "host=h user=u sslmode=require sslcert={} sslkey={}",
            certificate.display(),
            key.display()
        );
        let conninfo = parse(&text);
        client_config(&conninfo.tls, &conninfo.hosts[0], None).map(drop).unwrap_err().to_string()
    };
    let encrypted = config("client.crt", "client.encrypted.key");
    assert!(encrypted.starts_with("client key file"), "{encrypted}");
    assert!(encrypted.contains("without a passphrase"), "{encrypted}");
    assert!(config("client.crt", "nothing.key").starts_with("could not read client key file"));
    assert!(config("named.key", "named.key").starts_with("client certificate file"));
    let other = config("client.crt", "client_rsa.pkcs1.key");
    assert_eq!(other, "cannot use the client certificate and its key");
    let conninfo = parse("host=h user=u sslmode=verify-full");
    let nobody = PathBuf::from("/does/not/exist");
    let missing = client_config(&conninfo.tls, &conninfo.hosts[0], Some(&nobody)).map(drop);
    assert!(matches!(missing, Err(TlsError::NoRoots)));
}

#[tokio::test]
async fn a_server_without_tls_is_taken_or_left() {
    for (encryption, answer, expected) in [
        (Encryption::Offered, b'N', Some(false)),
        (Encryption::Required, b'N', None),
        (Encryption::Required, b'E', None),
        (Encryption::Offered, b'E', None),
    ] {
        let conninfo = parse("postgres://u@h");
        let (ours, mut theirs) = duplex(64);
        theirs.write_all(&[answer]).await.unwrap();
        let stream = negotiate(ours, encryption, &conninfo.tls, &conninfo.hosts[0]).await;
        assert_eq!(stream.ok().map(|s| s.is_encrypted()), expected, "{encryption:?} {answer}");
    }
}

#[test]
fn modes_are_tried_in_the_order_of_libpq() {
    let host = &parse("postgres://u@h").hosts[0];
    assert_eq!(ways(SslMode::Disable, host), (Encryption::None, None));
    assert_eq!(ways(SslMode::Allow, host), (Encryption::None, Some(Encryption::Required)));
    assert_eq!(ways(SslMode::Prefer, host), (Encryption::Offered, Some(Encryption::None)));
    assert_eq!(ways(SslMode::Require, host), (Encryption::Required, None));
    let socket = &parse("host=/tmp user=u").hosts[0];
    assert_eq!(ways(SslMode::VerifyFull, socket), (Encryption::None, None));
}

/// The expected digests are those that `openssl dgst` gives.
#[tokio::test]
async fn channel_binding_uses_the_hash_of_the_signature() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let of = |name: &str| hex(&end_point(&certificate(name)).unwrap());
    let named = "579e991540c7d4b4ae47c0f9d2f35a78f67efbcb2eba9aaa0815a51e1a67b82e";
    assert_eq!(of("named.crt"), named);
    assert_eq!(
        of("own.crt"),
        "ecdc067ab87949b7caf0f6ba8f50f8d3983324675985e1f2ebde4343ea2ee1a3\
         934b4874c6c9b2207dedadf12f71af36ef73a70040c73121d18b1a47f5ef5037"
    );
    assert_eq!(end_point(b"no certificate"), None);
    let text = "postgres://u@h?sslmode=require&sslrootcert=/does/not/exist";
    let stream = handshake(server("named", false), text).await.unwrap();
    assert_eq!(stream.end_point().map(hex).as_deref(), Some(named));
}
