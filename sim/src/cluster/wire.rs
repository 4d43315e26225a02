//! The messages between a PostgreSQL server and its clients, as the server sees them (PostgreSQL
//! documentation, "Message Formats").
mod reply;

use std::collections::BTreeMap;
use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

pub use self::reply::{Column, Format, Refused, Reply, TxStatus};

/// No request of the product comes near it.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// SSLRequest, GSSENCRequest, CancelRequest and version 3.0, which stand where the version does.
const TLS_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
const VERSION_3_0: u32 = 196_608;

/// What a client says first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Startup {
    /// `user`, `database`, `application_name`, `options`, `replication` and so on.
    pub parameters: BTreeMap<String, String>,
}

impl Startup {
    /// A parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// Whether replication commands are to be understood.
    #[must_use]
    pub fn is_replication(&self) -> bool {
        self.get("replication") == Some("database")
    }
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Simple query.
    Query(String),
    /// Prepares a statement.
    Parse {
        /// The statement's name; empty for the unnamed one.
        statement: String,
        /// Its text.
        sql: String,
        /// Types of its first parameters; 0 for those left to the server.
        types: Vec<u32>,
    },
    /// Gives a statement its parameters.
    Bind {
        /// The portal's name; empty for the unnamed one.
        portal: String,
        /// The statement's name.
        statement: String,
        /// One for all parameters, one for each, or none, which is text.
        formats: Vec<Format>,
        /// The parameters; `None` is NULL.
        values: Vec<Option<Bytes>>,
        /// The same for the columns of the result.
        result_formats: Vec<Format>,
    },
    /// Asks what a statement takes and returns.
    DescribeStatement(String),
    /// Asks what a portal returns.
    DescribePortal(String),
    /// Runs a portal.
    Execute {
        /// The portal's name.
        portal: String,
        /// Most rows to return; 0 for all.
        rows_max: u32,
    },
    /// Forgets a statement.
    CloseStatement(String),
    /// Forgets a portal.
    ClosePortal(String),
    /// Ends a series of requests.
    Sync,
    /// Asks for what has been answered so far.
    Flush,
    /// Data for COPY FROM STDIN, or a report on a replication stream.
    CopyData(Bytes),
    /// No more of it.
    CopyDone,
    /// The client gives up a COPY.
    CopyFail(String),
    /// A word of a login.
    Password(Bytes),
    /// Goodbye.
    Terminate,
}

/// The server's end of a connection.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    read: BytesMut,
    /// What to send next.
    pub reply: Reply,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// On a stream of which nothing has been read, or nothing but the startup.
    pub fn new(stream: S) -> Self {
        Self { stream, read: BytesMut::new(), reply: Reply::default() }
    }

    /// The bytes below, for somebody who goes on with them in another way. Nothing may wait to be read or
    /// sent.
    #[must_use]
    pub fn into_stream(self) -> S {
        assert!(self.read.is_empty(), "bytes that were read and not understood");
        self.stream
    }

    /// Reads what the client says first. Encryption is declined. Returns `None` if it is no startup: the
    /// client went away, or cancels something.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub async fn open(&mut self) -> io::Result<Option<Startup>> {
        loop {
            let Some(mut body) = self.untagged().await? else { return Ok(None) };
            match take_u32(&mut body)? {
                TLS_REQUEST | GSS_REQUEST => {
                    self.stream.write_all(b"N").await?;
                    self.stream.flush().await?;
                }
                VERSION_3_0 => return read_startup(&mut body).map(Some),
                CANCEL_REQUEST => return Ok(None),
                other => return Err(broken(&format!("protocol version {other}"))),
            }
        }
    }

    /// The next request; `None` once the client has hung up. Cancel safe: what has arrived stays here.
    ///
    /// # Errors
    ///
    /// The connection broke, or the client broke the protocol.
    pub async fn receive(&mut self) -> io::Result<Option<Request>> {
        loop {
            if let Some(request) = self.arrived()? {
                return Ok(Some(request));
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The next request if all of it has arrived already, without waiting.
    ///
    /// # Errors
    ///
    /// The client broke the protocol.
    pub fn arrived(&mut self) -> io::Result<Option<Request>> {
        let Some((header, _)) = self.read.split_first_chunk::<5>() else { return Ok(None) };
        let [tag, a, b, c, d] = *header;
        let whole = checked_len(u32::from_be_bytes([a, b, c, d]))? + 1;
        if self.read.len() < whole {
            return Ok(None);
        }
        let mut body = self.read.split_to(whole).freeze();
        body.advance(5);
        read_request(tag, body).map(Some)
    }

    /// Sends what waits in `reply`. Not cancel safe.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub async fn send(&mut self) -> io::Result<()> {
        let bytes = self.reply.take();
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await
    }

    /// Says nothing more; the client reads an end.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// A message without a tag, as they come before the startup.
    async fn untagged(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(header) = self.read.first_chunk::<4>() {
                let whole = checked_len(u32::from_be_bytes(*header))?;
                if whole <= self.read.len() {
                    let mut body = self.read.split_to(whole).freeze();
                    body.advance(4);
                    return Ok(Some(body));
                }
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// A length as it stands in a message: it counts itself.
fn checked_len(len: u32) -> io::Result<usize> {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if (4..=MESSAGE_BYTES_MAX).contains(&len) {
        Ok(len)
    } else {
        Err(broken(&format!("a message of {len} bytes")))
    }
}

fn read_startup(body: &mut Bytes) -> io::Result<Startup> {
    let mut startup = Startup::default();
    loop {
        let name = take_text(body)?;
        if name.is_empty() {
            return Ok(startup);
        }
        startup.parameters.insert(name, take_text(body)?);
    }
}

fn read_request(tag: u8, mut body: Bytes) -> io::Result<Request> {
    let body = &mut body;
    Ok(match tag {
        b'Q' => Request::Query(take_text(body)?),
        b'P' => Request::Parse {
            statement: take_text(body)?,
            sql: take_text(body)?,
            types: take_list(body, take_u32)?,
        },
        b'B' => Request::Bind {
            portal: take_text(body)?,
            statement: take_text(body)?,
            formats: take_list(body, take_format)?,
            values: take_list(body, take_value)?,
            result_formats: take_list(body, take_format)?,
        },
        b'D' => match take_kind(body)? {
            (b'S', name) => Request::DescribeStatement(name),
            (_, name) => Request::DescribePortal(name),
        },
        b'C' => match take_kind(body)? {
            (b'S', name) => Request::CloseStatement(name),
            (_, name) => Request::ClosePortal(name),
        },
        b'E' => Request::Execute { portal: take_text(body)?, rows_max: take_u32(body)? },
        b'S' => Request::Sync,
        b'H' => Request::Flush,
        b'd' => Request::CopyData(std::mem::take(body)),
        b'c' => Request::CopyDone,
        b'f' => Request::CopyFail(take_text(body)?),
        b'p' => Request::Password(std::mem::take(body)),
        b'X' => Request::Terminate,
        other => return Err(broken(&format!("a request of kind {:?}", char::from(other)))),
    })
}

fn take_kind(body: &mut Bytes) -> io::Result<(u8, String)> {
    let kind = body.try_get_u8().map_err(io::Error::other)?;
    Ok((kind, take_text(body)?))
}

fn take_u32(body: &mut Bytes) -> io::Result<u32> {
    body.try_get_u32().map_err(io::Error::other)
}

fn take_format(body: &mut Bytes) -> io::Result<Format> {
    match body.try_get_u16().map_err(io::Error::other)? {
        0 => Ok(Format::Text),
        1 => Ok(Format::Binary),
        other => Err(broken(&format!("format {other}"))),
    }
}

fn take_value(body: &mut Bytes) -> io::Result<Option<Bytes>> {
    let len = body.try_get_i32().map_err(io::Error::other)?;
    let Ok(len) = usize::try_from(len) else { return Ok(None) };
    if body.len() < len {
        return Err(broken("a value that is cut short"));
    }
    Ok(Some(body.split_to(len)))
}

fn take_list<T>(body: &mut Bytes, take: fn(&mut Bytes) -> io::Result<T>) -> io::Result<Vec<T>> {
    let count = body.try_get_u16().map_err(io::Error::other)?;
    (0..count).map(|_| take(body)).collect()
}

fn take_text(body: &mut Bytes) -> io::Result<String> {
    let end =
        body.iter().position(|byte| *byte == 0).ok_or_else(|| broken("a text without end"))?;
    let text = body.split_to(end);
    body.advance(1);
    String::from_utf8(text.to_vec()).map_err(io::Error::other)
}

fn broken(what: &str) -> io::Error {
    io::Error::other(format!("the client sent {what}"))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::{Connection, Format, Request};

    #[tokio::test]
    async fn requests_are_read_as_they_arrive_byte_by_byte() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut server = Connection::new(server);
        // Bind of statement "s" with a text, a NULL and binary results.
        let mut bind = vec![b'B', 0, 0, 0, 25, 0, b's', 0, 0, 0, 0, 2];
        bind.extend([0, 0, 0, 2, b'h', b'i', 255, 255, 255, 255, 0, 1, 0, 1]);
        bind.extend([b'S', 0, 0, 0, 4]);
        let writing = async {
            for byte in bind {
                client.write_all(&[byte]).await.unwrap();
            }
            drop(client);
        };
        let reading = async {
            let bound = server.receive().await.unwrap();
            let synced = server.receive().await.unwrap();
            (bound, synced, server.receive().await.unwrap())
        };
        let ((), (bound, synced, end)) = tokio::join!(writing, reading);
        assert_eq!(
            bound,
            Some(Request::Bind {
                portal: String::new(),
                statement: "s".to_owned(),
                formats: Vec::new(),
                values: vec![Some("hi".into()), None],
                result_formats: vec![Format::Binary],
            })
        );
        assert_eq!((synced, end), (Some(Request::Sync), None));
    }

    #[tokio::test]
    async fn a_client_that_asks_for_encryption_is_declined_and_may_go_on() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut server = Connection::new(server);
        client.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.unwrap();
        client.write_all(&[0, 0, 0, 16, 0, 3, 0, 0]).await.unwrap();
        client.write_all(b"user\0u\0\0").await.unwrap();
        let startup = server.open().await.unwrap().unwrap();
        assert_eq!(startup.get("user"), Some("u"));
        assert!(!startup.is_replication());
    }
}
