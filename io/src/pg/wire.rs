//! Messages of the server, whole, one after the other.
use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use postgres_protocol::message::frontend;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::server_error::ServerError;
use super::tls::PgStream;

/// No message is longer: the server keeps each in one allocation (server source, memutils.h,
/// MaxAllocSize).
const MESSAGE_BYTES_MAX: usize = 0x3FFF_FFFF;

/// What a message promises is believed up to here; the rest of it gets its place when it comes.
const RESERVED_BYTES_MAX: usize = 64 << 10;

/// One line of an answer.
pub type TextRow = Vec<Option<String>>;

/// The longest answer to a query that we expect, in rows.
const ROWS_MAX: usize = 10_000;

/// The tag and the length before each message.
const HEADER_BYTES: usize = 5;

/// Something went wrong between the server and us.
#[derive(Debug, Error)]
pub enum WireError {
    /// The connection broke.
    #[error("the connection to the server broke")]
    Io(#[from] io::Error),
    /// The server hung up.
    #[error("the server closed the connection")]
    Closed,
    /// The server refused.
    #[error(transparent)]
    Server(Box<ServerError>),
    /// The bytes are not what the documentation describes.
    #[error("the server broke the protocol: {what}")]
    Protocol {
        /// In which way.
        what: &'static str,
    },
    /// Something of ours cannot be written as a message.
    #[error("could not write a message")]
    Encode(#[source] io::Error),
}

/// A message of the server.
#[derive(Debug)]
pub(super) struct Message {
    /// What it is.
    pub(super) tag: u8,
    /// The rest of it.
    pub(super) body: Bytes,
}

/// Splits the first message off. Returns `Err(bytes)` with how many bytes it has, header included, or at
/// least has, if not all of them are there.
pub(super) fn split_message(buffer: &mut BytesMut) -> Result<Result<Message, usize>, WireError> {
    let Some((header, _)) = buffer.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(Err(HEADER_BYTES));
    };
    let [tag, a, b, c, d] = *header;
    // The length counts itself.
    let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if !(4..=MESSAGE_BYTES_MAX).contains(&len) {
        return Err(WireError::Protocol { what: "a message of an impossible length" });
    }
    let whole = len + 1;
    if buffer.len() < whole {
        return Ok(Err(whole));
    }
    let mut body = buffer.split_to(whole).freeze();
    body.advance(HEADER_BYTES);
    Ok(Ok(Message { tag, body }))
}

/// A connection with the bytes that wait to be read and written.
#[derive(Debug)]
pub(super) struct Wire<S> {
    pub(super) stream: PgStream<S>,
    pub(super) read: BytesMut,
    pub(super) write: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: PgStream<S>) -> Self {
        Self { stream, read: BytesMut::new(), write: BytesMut::new() }
    }

    /// Sends what is in `write`.
    pub(super) async fn send(&mut self) -> Result<(), WireError> {
        self.stream.write_all(&self.write).await?;
        self.stream.flush().await?;
        self.write.clear();
        Ok(())
    }

    /// The next message: see [`receive`].
    pub(super) async fn receive(&mut self) -> Result<Message, WireError> {
        receive(&mut self.stream, &mut self.read).await
    }

    /// Sends a simple query and reads its answer to the end.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Vec<TextRow>, WireError> {
        push_query(sql, &mut self.write)?;
        self.send().await?;
        let mut rows = Vec::new();
        let mut refused = None;
        loop {
            let message = self.receive().await?;
            match message.tag {
                // DataRow.
                b'D' if rows.len() < ROWS_MAX => rows.push(parse_row(message.body)?),
                b'D' => return Err(WireError::Protocol { what: "too many rows" }),
                // ErrorResponse. What follows it depends on how bad it is.
                b'E' => refused = Some(Box::new(ServerError::parse(&message.body))),
                // RowDescription, CommandComplete, EmptyQueryResponse.
                b'T' | b'C' | b'I' => (),
                // ReadyForQuery.
                b'Z' => return refused.map_or(Ok(rows), |error| Err(WireError::Server(error))),
                _ => return Err(WireError::Protocol { what: "an unknown answer to a query" }),
            }
            if let Some(error) = refused.take_if(|error| error.is_fatal()) {
                return Err(WireError::Server(error));
            }
        }
    }

    /// Sends a command that turns the connection into a stream in both directions.
    pub(super) async fn start_copy(&mut self, command: &str) -> Result<(), WireError> {
        push_query(command, &mut self.write)?;
        self.send().await?;
        let message = self.receive().await?;
        match message.tag {
            // CopyBothResponse.
            b'W' => Ok(()),
            b'E' => Err(WireError::Server(Box::new(ServerError::parse(&message.body)))),
            _ => Err(WireError::Protocol { what: "an unknown answer to START_REPLICATION" }),
        }
    }
}

/// The next message, besides those that may come at any time and need no answer.
pub(super) async fn receive<R: AsyncRead + Unpin>(
    stream: &mut R,
    read: &mut BytesMut,
) -> Result<Message, WireError> {
    loop {
        match split_message(read)? {
            // NoticeResponse, ParameterStatus, NotificationResponse.
            Ok(Message { tag: b'N' | b'S' | b'A', .. }) => continue,
            Ok(message) => return Ok(message),
            Err(whole) => {
                let missing = whole.saturating_sub(read.len());
                read.reserve(missing.min(RESERVED_BYTES_MAX));
            }
        }
        if stream.read_buf(read).await? == 0 {
            return Err(WireError::Closed);
        }
    }
}

/// Appends a simple query.
fn push_query(sql: &str, buffer: &mut BytesMut) -> Result<(), WireError> {
    frontend::query(sql, buffer).map_err(WireError::Encode)
}

/// The number of columns, then for each its length, or -1 for NULL, and its text.
fn parse_row(mut body: Bytes) -> Result<TextRow, WireError> {
    let broken = || WireError::Protocol { what: "a row that is cut short" };
    let columns = body.try_get_u16().map_err(|_| broken())?;
    let mut row = Vec::with_capacity(usize::from(columns));
    for _ in 0..columns {
        let len = body.try_get_i32().map_err(|_| broken())?;
        let Ok(len) = usize::try_from(len) else {
            row.push(None);
            continue;
        };
        if body.len() < len {
            return Err(broken());
        }
        row.push(Some(String::from_utf8_lossy(&body.split_to(len)).into_owned()));
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{RESERVED_BYTES_MAX, WireError, receive};

    #[tokio::test]
    async fn a_promise_of_a_gigabyte_takes_no_memory() {
        let mut read = BytesMut::new();
        let received = receive(&mut &b"R\x3f\xff\xff\xffabc"[..], &mut read).await;
        assert!(matches!(received, Err(WireError::Closed)));
        assert!(read.capacity() <= 2 * RESERVED_BYTES_MAX, "{}", read.capacity());
        // What is longer is read all the same.
        let mut long = b"R\x00\x04\x00\x04".to_vec();
        long.resize(5 + (256 << 10), 7);
        let message = receive(&mut long.as_slice(), &mut BytesMut::new()).await.unwrap();
        assert_eq!(message.body.len(), 256 << 10);
    }
}
