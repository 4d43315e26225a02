//! Whoever asks, byte by byte.
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The longest that an answer is waited for. The server is quicker, whatever happens.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often somebody slow sends a byte.
const DRIP: Duration = Duration::from_millis(20);

/// What is sent, and what is done then.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// All of it, then the answer is read.
    Whole(Vec<u8>),
    /// All of it, then nothing more is sent and nothing read.
    Left(Vec<u8>),
    /// The first part at once, the second one byte at a time.
    Slow(Vec<u8>, Vec<u8>),
}

/// The status of the answer. `None` if there is none, because the connection was closed.
pub(crate) async fn ask(address: SocketAddr, request: &Request) -> Option<u16> {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    match request {
        Request::Left(bytes) => {
            stream.write_all(bytes).await.ok();
            None
        }
        Request::Whole(bytes) => {
            let (mut reading, mut writing) = stream.split();
            // Who refuses early does not read the rest.
            let written = async { writing.write_all(bytes).await.ok() };
            let (_, status) = tokio::join!(written, status(&mut reading));
            status
        }
        Request::Slow(bytes, slowly) => {
            let (mut reading, mut writing) = stream.split();
            let written = async {
                writing.write_all(bytes).await.ok();
                for byte in slowly {
                    tokio::time::sleep(DRIP).await;
                    writing.write_all(&[*byte]).await.ok();
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                status = status(&mut reading) => status,
                () = written => None,
            }
        }
    }
}

/// Reads until the other side closes, and takes the status out of what came.
async fn status(reading: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<u16> {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, reading.read_to_end(&mut answer)).await;
    // It may have closed while we were still sending; what came before that counts.
    drop(read.expect("the server neither answers nor closes"));
    let answer = String::from_utf8_lossy(&answer);
    let rest = answer.strip_prefix("HTTP/1.1 ").or_else(|| answer.strip_prefix("HTTP/1.0 "))?;
    rest.get(..3)?.parse().ok()
}

/// A body with one row of this key.
pub(crate) fn row(key: u32) -> Vec<u8> {
    rows(&[format!(r#"{{"topic":"t","key":[{key}],"after":{{"id":{key}}},"updated":"1.0"}}"#)])
}

/// A body with these rows.
pub(crate) fn rows(rows: &[String]) -> Vec<u8> {
    format!(r#"{{"payload":[{}],"length":{}}}"#, rows.join(","), rows.len()).into_bytes()
}

/// An ordinary request.
pub(crate) fn post(path: &str, token: &str, body: &[u8]) -> Request {
    Request::Whole(bytes("POST", path, &bearer(token), body))
}

/// The header with a token.
pub(crate) fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// A request with these headers, each with its end of line, and a body of known length.
pub(crate) fn bytes(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = format!("Content-Length: {}\r\n", body.len());
    [head(method, path, &(headers.to_owned() + &length)).as_slice(), body].concat()
}

/// A head with these headers.
pub(crate) fn head(method: &str, path: &str, headers: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n")
        .into_bytes()
}
