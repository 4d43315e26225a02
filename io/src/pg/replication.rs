//! The streaming replication protocol, client side (PostgreSQL documentation, "Streaming Replication
//! Protocol" and "Logical Streaming Replication Protocol").
//!
//! ```text
//! connect ──► ReplicationClient ── query, identify_system, show ──┐
//!                    │ start                                      │ simple queries, one by one
//!                    ▼                                            │
//!        FrameReader      FrameWriter  ◄── two owners, no lock between them that anybody waits for
//! ```
//!
//! tokio-postgres knows nothing of it, so the messages are our own; the cryptography of logging in and
//! the encoding of requests are those of postgres-protocol.
mod frame;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use replicator_core::model::position::Lsn;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

pub use self::frame::{FrameReader, FrameWriter};
use super::connect::{ConnectError, SessionOptions, connect};
use super::conninfo::ConnInfo;
use super::login::WireLogin;
use super::wire::{TextRow, Wire, WireError};
use crate::net::Dial;

/// A request on a replication connection failed.
#[derive(Debug, Error)]
pub enum ReplicationError {
    /// The server refused, or the connection broke.
    #[error("could not {what}")]
    Wire {
        /// What we asked for.
        what: &'static str,
        /// Why.
        #[source]
        source: WireError,
    },
    /// The answer is none that the documentation describes.
    #[error("the server gave an unexpected answer when asked to {what}")]
    Answer {
        /// What we asked for.
        what: &'static str,
    },
    /// It took too long.
    #[error("the server did not {what} within {} s", limit.as_secs())]
    TimedOut {
        /// What we asked for.
        what: &'static str,
        /// How long we waited.
        limit: Duration,
    },
}

/// Who the server is (IDENTIFY_SYSTEM).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemIdentity {
    /// The same for a cluster and all copies of it, for ever.
    pub system_identifier: u64,
    /// Grows with each promotion and each recovery to a point in time.
    pub timeline: u32,
    /// The end of its WAL.
    pub wal_end: Lsn,
    /// The database we are in.
    pub database: Option<String>,
}

/// Where to start streaming, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartOptions<'a> {
    /// The slot's name.
    pub slot: &'a str,
    /// The first position we want; the server starts at the slot's if that is later.
    pub from: Lsn,
    /// Parameters of the output plugin, as name and value.
    pub plugin: &'a [(&'a str, &'a str)],
}

/// A replication connection on which nothing is streamed yet.
#[derive(Debug)]
pub struct ReplicationClient<S> {
    wire: Wire<S>,
    limit: Duration,
    hush: fn(&mut S),
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> ReplicationClient<S> {
    /// Logs in. Each later request may take as long as connecting may.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub async fn connect<D: Dial<Stream = S>>(
        dial: &D,
        conninfo: &ConnInfo,
        session: &SessionOptions,
    ) -> Result<Self, ConnectError> {
        let login = WireLogin { conninfo, session, replication: true };
        let wire = connect(dial, conninfo, session, &login).await?;
        Ok(Self { wire, limit: session.connect_timeout(conninfo), hush: D::hush })
    }

    /// Sends an SQL statement or a replication command and collects the rows of its answer. `what` is
    /// for the error: "could not {what}". Not cancel safe.
    ///
    /// # Errors
    ///
    /// The server refused, or the connection is gone.
    pub async fn query(
        &mut self,
        what: &'static str,
        sql: &str,
    ) -> Result<Vec<TextRow>, ReplicationError> {
        let limit = self.limit;
        match tokio::time::timeout(limit, self.wire.query(sql)).await {
            Ok(rows) => rows.map_err(|source| ReplicationError::Wire { what, source }),
            Err(_) => Err(ReplicationError::TimedOut { what, limit }),
        }
    }

    /// Asks the server who it is.
    ///
    /// # Errors
    ///
    /// See [`query`](Self::query).
    pub async fn identify_system(&mut self) -> Result<SystemIdentity, ReplicationError> {
        let what = "identify the system";
        let rows = self.query(what, "IDENTIFY_SYSTEM").await?;
        let [row] = rows.as_slice() else { return Err(ReplicationError::Answer { what }) };
        let text = |index: usize| row.get(index).and_then(Option::as_deref);
        let identity = || {
            Some(SystemIdentity {
                system_identifier: text(0)?.parse().ok()?,
                timeline: text(1)?.parse().ok()?,
                wal_end: text(2)?.parse().ok()?,
                database: text(3).map(str::to_owned),
            })
        };
        identity().ok_or(ReplicationError::Answer { what })
    }

    /// Asks for the value of a setting.
    ///
    /// # Errors
    ///
    /// See [`query`](Self::query).
    pub async fn show(&mut self, setting: &str) -> Result<String, ReplicationError> {
        let what = "show a setting";
        let rows = self.query(what, &format!("SHOW {setting}")).await?;
        let value = rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten();
        value.ok_or(ReplicationError::Answer { what })
    }

    /// After how long without a word from us the server hangs up; `None` if it never does.
    ///
    /// # Errors
    ///
    /// See [`query`](Self::query).
    pub async fn sender_timeout(&mut self) -> Result<Option<Duration>, ReplicationError> {
        let what = "show wal_sender_timeout";
        let value = self.show("wal_sender_timeout").await?;
        let timeout = parse_duration(&value).ok_or(ReplicationError::Answer { what })?;
        Ok(Some(timeout).filter(|timeout| !timeout.is_zero()))
    }

    /// Starts streaming from a logical slot.
    ///
    /// # Errors
    ///
    /// The server refused, or the connection is gone.
    pub async fn start(
        mut self,
        options: &StartOptions<'_>,
    ) -> Result<(FrameReader<S>, FrameWriter<S>), ReplicationError> {
        let what = "start replication";
        let limit = self.limit;
        match tokio::time::timeout(limit, self.wire.start_copy(&start_command(options))).await {
            Ok(Ok(())) => Ok(frame::split(self.wire, self.hush)),
            Ok(Err(source)) => Err(ReplicationError::Wire { what, source }),
            Err(_) => Err(ReplicationError::TimedOut { what, limit }),
        }
    }
}

/// Unquoted names would be folded to lower case, and a quote could end the command (server source,
/// repl_scanner.l).
fn start_command(options: &StartOptions<'_>) -> String {
    let StartOptions { slot, from, plugin } = options;
    let parameters: Vec<String> = plugin
        .iter()
        .map(|(name, value)| format!("{} {}", quote_ident(name), quote_literal(value)))
        .collect();
    let (slot, parameters) = (quote_ident(slot), parameters.join(", "));
    format!("START_REPLICATION SLOT {slot} LOGICAL {from} ({parameters})")
}

/// A name in double quotes.
#[must_use]
pub fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string in single quotes, for replication commands and for sessions with
/// `standard_conforming_strings`.
#[must_use]
pub fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Reads a time as the server prints settings: a whole number and a unit, or a bare zero (server source,
/// guc.c, time_unit_conversion_table).
fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" | "" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(millis)?))
}

/// A stream and the server's end of it, in memory.
#[cfg(test)]
pub(crate) fn pretend_stream(
    bytes: usize,
) -> (
    FrameReader<tokio::io::DuplexStream>,
    FrameWriter<tokio::io::DuplexStream>,
    tokio::io::DuplexStream,
) {
    let (ours, theirs) = tokio::io::duplex(bytes);
    let (reader, writer) = frame::split(Wire::new(super::tls::PgStream::Plain(ours)), |_| ());
    (reader, writer, theirs)
}

/// Appends CopyDone and Terminate, each without a body.
fn push_empty(tag: u8, buffer: &mut BytesMut) {
    buffer.put_u8(tag);
    buffer.put_u32(4);
}
