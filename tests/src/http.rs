//! Requests to the program's metrics listener.
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What it answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub code: u16,
    /// Status and headers, in small letters.
    pub head: String,
    /// The rest.
    pub body: String,
}

/// A request of plain HTTP/1.1 to a port of this machine.
///
/// # Errors
///
/// There is no answer, or it is none.
pub async fn get(port: u16, path: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let (head, body) = text.split_once("\r\n\r\n").context("no head")?;
    let code = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok(Answer { code, head: head.to_lowercase(), body: body.to_owned() })
}
