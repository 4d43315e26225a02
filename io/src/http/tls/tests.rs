//! Real handshakes on loopback.
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{ListenTlsError, TlsFiles, TlsReloader, server_config, throw_away};
use crate::disk::temp::TempFolder;
use crate::http::{HttpLimits, serve};

/// The files of a listener.
fn files(folder: &TempFolder) -> TlsFiles {
    TlsFiles {
        certificate: folder.path().join("server.crt"),
        key: folder.path().join("server.key"),
    }
}

/// Writes a certificate and its key, and returns the certificate, which signs itself.
fn issue(files: &TlsFiles) -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    fs::write(&files.certificate, certificate.pem()).unwrap();
    fs::write(&files.key, key.serialize_pem()).unwrap();
    certificate.der().clone()
}

/// Serves "hello" while `story` runs.
async fn while_serving(
    tls: watch::Receiver<Arc<ServerConfig>>,
    story: impl AsyncFnOnce(SocketAddr),
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let router = Router::new().route("/", get(async || "hello"));
    let limits = HttpLimits { grace: Duration::from_millis(100), ..HttpLimits::default() };
    let served = serve(listener, Some(tls), router, limits, stopped);
    let story = async {
        story(address).await;
        stop.send_replace(true);
    };
    tokio::join!(served, story);
}

async fn connect(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
    name: &'static str,
    protocol: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(name).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Asks over HTTP/1.1 and keeps the connection.
async fn hello(stream: &mut TlsStream<TcpStream>) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        let mut bytes = [0; 512];
        let read = stream.read(&mut bytes).await.unwrap();
        assert_ne!(read, 0, "closed after {answer:?}");
        answer.extend_from_slice(&bytes[..read]);
    }
    String::from_utf8(answer).unwrap()
}

/// The kinds of the frames of an HTTP/2 answer, up to its end (RFC 9113, section 6).
async fn hello_by_h2(stream: &mut TlsStream<TcpStream>) -> Vec<u8> {
    // Settings; then headers that end a request: GET, https, /, and the authority "x".
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let headers = [0, 0, 6, 1, 5, 0, 0, 0, 1, 0x82, 0x87, 0x84, 0x41, 0x01, b'x'];
    let request = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings, &headers].concat();
    stream.write_all(&request).await.unwrap();
    let mut kinds = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.unwrap();
        kinds.push(head[3]);
        // Data, and the flag that says that it is the last.
        if head[3] == 0 {
            assert_eq!((payload.as_slice(), head[4] & 1), (&b"hello"[..], 1));
            return kinds;
        }
    }
}

#[tokio::test]
async fn both_versions_of_http_are_spoken_inside() {
    let folder = TempFolder::new("tls-versions").unwrap();
    let trusted = issue(&files(&folder));
    let (config, _reloader) = TlsReloader::begin(files(&folder)).unwrap();
    while_serving(config, async |address| {
        let mut stream = connect(address, &trusted, "localhost", b"http/1.1").await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert!(hello(&mut stream).await.starts_with("HTTP/1.1 200 OK"));
        let mut stream = connect(address, &trusted, "localhost", b"h2").await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let kinds = hello_by_h2(&mut stream).await;
        assert!(kinds.contains(&4) && kinds.contains(&1), "{kinds:?}");
        let refused = connect(address, &trusted, "localhost", b"spdy/3").await.map(drop);
        assert!(refused.is_err(), "we speak what was not agreed on");
    })
    .await;
}

#[tokio::test]
async fn a_certificate_is_believed_by_those_who_trust_it() {
    let folder = TempFolder::new("tls-trust").unwrap();
    let trusted = issue(&files(&folder));
    let (config, _reloader) = TlsReloader::begin(files(&folder)).unwrap();
    let (stranger, _) = throw_away().unwrap();
    while_serving(config, async |address| {
        assert!(connect(address, &stranger, "localhost", b"h2").await.is_err());
        assert!(connect(address, &trusted, "elsewhere", b"h2").await.is_err());
        // Plain HTTP is no TLS, and harms nobody.
        let mut plain = TcpStream::connect(address).await.unwrap();
        plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        plain.read_to_end(&mut answer).await.ok();
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
        assert!(connect(address, &trusted, "localhost", b"h2").await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn a_throw_away_certificate_is_for_this_machine() {
    let (certificate, key) = throw_away().unwrap();
    let config = server_config(vec![certificate.clone()], key).unwrap();
    let (_config, read) = watch::channel(config);
    while_serving(read, async |address| {
        for name in ["localhost", "127.0.0.1", "::1"] {
            let mut stream = connect(address, &certificate, name, b"http/1.1").await.unwrap();
            assert!(hello(&mut stream).await.ends_with("hello"), "{name}");
        }
        assert!(connect(address, &certificate, "example.org", b"http/1.1").await.is_err());
    })
    .await;
    assert!(super::self_signed().is_ok());
}

#[tokio::test]
async fn a_certificate_is_renewed_while_connections_are_open() {
    let folder = TempFolder::new("tls-renew").unwrap();
    let files = files(&folder);
    let first = issue(&files);
    let (config, reloader) = TlsReloader::begin(files.clone()).unwrap();
    let (ask, asked) = watch::channel(());
    let (stop, stopped) = watch::channel(false);
    let mut watched = config.clone();
    let story = async {
        while_serving(config, async |address| {
            let mut old = connect(address, &first, "localhost", b"http/1.1").await.unwrap();
            // A key that does not fit changes nothing.
            let second = issue(&files);
            let kept = fs::read(&files.key).unwrap();
            fs::write(&files.key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
            ask.send_replace(());
            let changed = tokio::time::timeout(Duration::from_millis(200), watched.changed());
            assert!(changed.await.is_err(), "a bad key was taken");
            assert!(connect(address, &first, "localhost", b"http/1.1").await.is_ok());
            fs::write(&files.key, kept).unwrap();
            ask.send_replace(());
            watched.changed().await.unwrap();
            let mut new = connect(address, &second, "localhost", b"http/1.1").await.unwrap();
            assert!(connect(address, &first, "localhost", b"http/1.1").await.is_err());
            hello(&mut new).await;
            hello(&mut old).await;
        })
        .await;
        stop.send_replace(true);
    };
    tokio::join!(reloader.run(asked, stopped), story);
}

#[test]
fn keys_of_each_form_are_taken() {
    let folder = TempFolder::new("tls-forms").unwrap();
    let openssl = |arguments: &[&str]| {
        let done = std::process::Command::new("openssl")
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    let form = |name: &str| folder.path().join(name);
    openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-out", "sec1"]);
    openssl(&["pkcs8", "-topk8", "-nocrypt", "-in", "sec1", "-out", "ec.pkcs8"]);
    openssl(&["genrsa", "-out", "rsa.pkcs8", "2048"]);
    openssl(&["rsa", "-in", "rsa.pkcs8", "-traditional", "-out", "pkcs1"]);
    for (key, others) in [("sec1", ["sec1", "ec.pkcs8"]), ("pkcs1", ["pkcs1", "rsa.pkcs8"])] {
        openssl(&["req", "-x509", "-new", "-key", key, "-subj", "/CN=localhost", "-out", "crt"]);
        for other in others {
            let files = TlsFiles { certificate: form("crt"), key: form(other) };
            assert!(files.load().is_ok(), "{other}");
        }
    }
    openssl(&["pkcs8", "-topk8", "-passout", "pass:x", "-in", "sec1", "-out", "locked"]);
    let files = TlsFiles { certificate: form("crt"), key: form("locked") };
    assert!(matches!(files.load(), Err(ListenTlsError::NoKey { .. })));
}

#[test]
fn what_cannot_be_used_is_told_with_its_flag_and_file() {
    let folder = TempFolder::new("tls-told").unwrap();
    let files = files(&folder);
    let told = |files: &TlsFiles| crate::error_chain(&files.load().map(drop).unwrap_err());
    assert!(told(&files).starts_with("could not read --tlsCertificate \""), "{}", told(&files));
    issue(&files);
    let put = |path: &Path, text: &str| fs::write(path, text).unwrap();
    let whole = fs::read_to_string(&files.key).unwrap();
    put(&files.key, "");
    assert!(told(&files).contains("--tlsPrivateKey \""), "{}", told(&files));
    assert!(told(&files).contains("server.key\" holds no private key"), "{}", told(&files));
    put(&files.key, &whole.replacen("\n", "\n!", 1));
    assert!(told(&files).ends_with("server.key\" is not PEM"), "{}", told(&files));
    put(&files.key, &KeyPair::generate().unwrap().serialize_pem());
    assert!(told(&files).contains("is not the key of the first certificate"), "{}", told(&files));
    put(&files.certificate, &whole);
    put(&files.key, &whole);
    assert!(told(&files).ends_with("server.crt\" holds no certificate"), "{}", told(&files));
    fs::remove_file(&files.key).unwrap();
    issue(&files);
    fs::remove_file(&files.key).unwrap();
    assert!(told(&files).starts_with("could not read --tlsPrivateKey \""), "{}", told(&files));
}
