//! Requests over one connection, which is opened again when it breaks.
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::product::Replicator;
use crate::wait_until;

/// The longest that a request may take: what the documents set as `webhook_client_timeout`.
const LIMIT: Duration = Duration::from_secs(10);

/// Where requests go, and as whom.
#[derive(Clone, Debug)]
pub struct Where {
    /// On 127.0.0.1.
    pub port: u16,
    /// The path, such as `/shop/public`.
    pub path: String,
    /// A token, if one must be shown.
    pub token: Option<String>,
    /// How to trust the server; `None` is without TLS.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Somebody who calls.
pub struct Caller {
    place: Where,
    stream: Option<Box<dyn Stream>>,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Caller {
    /// Connects with the first request.
    #[must_use]
    pub fn new(place: Where) -> Self {
        Self { place, stream: None }
    }

    /// Sends a body again and again until it is taken.
    ///
    /// # Errors
    ///
    /// The program has ended, or it did not take the body within `limit`.
    pub async fn bring(
        &mut self,
        replicator: &mut Replicator,
        body: &str,
        limit: Duration,
    ) -> Result<()> {
        wait_until(limit, "it is taken", async || {
            replicator.must_run()?;
            Ok(matches!(self.post(body).await, Ok((200, _))))
        })
        .await
    }

    /// Sends a body; returns the status and the text of the answer.
    ///
    /// # Errors
    ///
    /// There was no answer. Whether the body has arrived nobody knows.
    pub async fn post(&mut self, body: &str) -> Result<(u16, String)> {
        self.ask("POST", body).await
    }

    /// Sends a body by this method; returns the status and the text of the answer.
    ///
    /// # Errors
    ///
    /// There was no answer. Whether the body has arrived nobody knows.
    pub async fn ask(&mut self, method: &str, body: &str) -> Result<(u16, String)> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => timeout(LIMIT, connect(&self.place)).await??,
        };
        let asked = timeout(LIMIT, ask(&self.place, &mut stream, method, body)).await;
        let (answer, usable) = asked??;
        self.stream = usable.then_some(stream);
        Ok(answer)
    }
}

async fn connect(place: &Where) -> Result<Box<dyn Stream>> {
    let stream = TcpStream::connect(("127.0.0.1", place.port)).await?;
    stream.set_nodelay(true)?;
    let Some(config) = &place.tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from("localhost")?;
    Ok(Box::new(TlsConnector::from(Arc::clone(config)).connect(name, stream).await?))
}

/// Returns the answer, and whether the connection can be used again.
async fn ask(
    place: &Where,
    stream: &mut Box<dyn Stream>,
    method: &str,
    body: &str,
) -> Result<((u16, String), bool)> {
    let (path, length) = (&place.path, body.len());
    let token = place.token.as_ref();
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         {}Content-Length: {length}\r\n\r\n",
        token.unwrap_or_default()
    );
    stream.write_all(head.as_bytes()).await?;
    // A server that refuses early does not read the rest, but it answers.
    let written = stream.write_all(body.as_bytes()).await.and(stream.flush().await);
    Ok((read_answer(stream).await?, written.is_ok()))
}

async fn read_answer(stream: &mut Box<dyn Stream>) -> Result<(u16, String)> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let status = head.split(' ').nth(1).context("no status in the answer")?.parse()?;
            let length = head
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .map_or(Ok(0), |(_, length)| length.trim().parse::<usize>())?;
            if length <= body.len() {
                return Ok((status, body.to_owned()));
            }
        }
        let had = bytes.len();
        stream.read_buf(&mut bytes).await?;
        ensure!(had < bytes.len(), "the connection ended before the answer");
    }
}
