//! Requests over one connection, which is opened again when it breaks: the little of HTTP/1.1 that it takes
//! (RFC 9112).
use std::io::{self, ErrorKind};
use std::time::Duration;

use replicator_io::net::Dial as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::PORT;
use crate::cluster::dial::{SimDial, SimStream};
use crate::cluster::source::DATABASE;

/// Somebody who calls the program.
#[derive(Debug)]
pub(super) struct Caller {
    dial: SimDial,
    // Where the program runs, and how many of them did not do what was asked.
    hosts: &'static [&'static str],
    passed: usize,
    stream: Option<SimStream>,
    limit: Duration,
}

impl Caller {
    /// Connects with the first request. `limit` is the longest that one may take.
    pub(super) fn new(dial: SimDial, hosts: &'static [&'static str], limit: Duration) -> Self {
        Self { dial, hosts, passed: 0, stream: None, limit }
    }

    /// Brings a body to the schema `public`, or to `path` below it. Returns the status of the answer.
    ///
    /// # Errors
    ///
    /// There was no answer. Whether the body has arrived nobody knows.
    pub(super) async fn post(&mut self, path: &str, body: &str) -> io::Result<u16> {
        let host = self.hosts[self.passed % self.hosts.len()];
        let status = self.post_to(host, path, body).await;
        if !matches!(status, Ok(200)) && self.hosts.len() > 1 {
            // The next one may. A proxy in front of them does the same.
            self.passed += 1;
            self.stream = None;
        }
        status
    }

    async fn post_to(&mut self, host: &str, path: &str, body: &str) -> io::Result<u16> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => timeout(self.limit, self.dial.dial(host, PORT)).await??,
        };
        let status = timeout(self.limit, ask(&mut stream, host, path, body)).await??;
        self.stream = Some(stream);
        Ok(status)
    }
}

async fn ask(stream: &mut SimStream, host: &str, path: &str, body: &str) -> io::Result<u16> {
    let length = body.len();
    let request = format!(
        "POST /{DATABASE}/public{path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut bytes = Vec::new();
    loop {
        if let Some(status) = status(&bytes) {
            return Ok(status);
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The status of an answer that has arrived whole.
fn status(bytes: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, length)| length.trim().parse::<usize>().ok())
        .unwrap_or_default();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    (length <= body.len()).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::status;

    #[test]
    fn an_answer_has_a_status_when_all_of_it_is_there() {
        let answer = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno";
        assert_eq!(status(answer.as_bytes()), Some(503));
        for length in 0..answer.len() {
            assert_eq!(status(&answer.as_bytes()[..length]), None);
        }
    }
}
