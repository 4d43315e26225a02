//! A session of ours as a replica: a few questions, and then the events of the binary log (MySQL documentation,
//! "Replication Protocol"; MariaDB documentation, "Replica Protocol").
//!
//! The driver for targets opens its own sockets. A source must run in the simulator, too, so this one takes any
//! stream, and it hands out events as they came: who reads them skips none.
use std::time::Duration;

use bytes::{BufMut as _, Bytes};
use replicator_core::model::gtid::GtidPosition;
use thiserror::Error;

use super::conninfo::{MySqlConnInfo, MySqlSslMode, Place};
use super::login::{ERROR, LoggedIn, LoginError, ServerRefusal, log_in};
use super::packets::{PacketError, Packets};
use crate::net::Dial;
use crate::pg::tls::PgStream;

/// How long connecting and each question may take, unless the connection string says otherwise.
const LIMIT: Duration = Duration::from_secs(10);

/// The largest event that a server can have, in bytes: 1 GiB (MySQL documentation, `max_allowed_packet`), and what
/// is around it.
const EVENT_BYTES_MAX: usize = (1 << 30) + (1 << 10);

/// How long the server may wait for us to read, in seconds: a target can be slow for hours.
const NOT_READ_SECONDS: u32 = 86_400;

/// Commands (MySQL documentation, "Command Phase").
const QUERY: u8 = 0x03;
const BINLOG_DUMP: u8 = 0x12;
const REGISTER_REPLICA: u8 = 0x15;
const BINLOG_DUMP_GTID: u8 = 0x1E;

/// The first byte of an event, and of the end of all events.
const EVENT: u8 = 0x00;
const END: u8 = 0xFE;

/// The end of rows is shorter than any row that begins with the same byte.
const END_BYTES_MAX: usize = 9;

/// Of `BINLOG_DUMP_GTID`: the position is a set of GTIDs.
const THROUGH_GTID: u16 = 0x04;

/// The first event of a file is behind its mark.
const FIRST_POSITION: u32 = 4;

/// A session as a replica failed.
#[derive(Debug, Error)]
pub enum ReplicaError {
    /// Nobody was logged in.
    #[error("could not connect to {to}")]
    Login {
        /// The server, without the password.
        to: String,
        /// Why.
        #[source]
        source: LoginError,
    },
    /// There is no connection.
    #[error("could not connect to {to}")]
    Dial {
        /// The server, without the password.
        to: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Nobody answered in time.
    #[error("{to} did not answer within {} s", limit.as_secs())]
    TimedOut {
        /// The server, without the password.
        to: String,
        /// How long we waited.
        limit: Duration,
    },
    /// A source on a Unix socket.
    #[error("a source must be named by host and port, not by a socket")]
    Socket,
    /// See [`PacketError`].
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// The server refused a statement, or ended the events.
    #[error("the server says: {0}")]
    Server(#[from] ServerRefusal),
    /// Something that the protocol does not know.
    #[error("the server broke the protocol: {0}")]
    Protocol(&'static str),
    /// It has nothing more to send, which only a server does that is about to stop.
    #[error("the server ended the events")]
    Ended,
}

/// A session that can be asked. See the [module docs](self).
pub struct ReplicaSession<D: Dial> {
    packets: Packets<PgStream<D::Stream>>,
    version: String,
    to: String,
    limit: Duration,
}

impl<D: Dial> std::fmt::Debug for ReplicaSession<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { version, to, .. } = self;
        f.debug_struct("ReplicaSession")
            .field("version", version)
            .field("to", to)
            .finish_non_exhaustive()
    }
}

/// Who we are among those who read a server's binary log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Nobody else's number among the servers of the topology. MariaDB ends the connection of whoever has the same.
    pub server_id: u32,
    /// As other servers have one in `server_uuid`: 32 hexadecimal digits with four dashes. MySQL ends the connection
    /// of whoever has the same, such as an earlier one of ours.
    pub uuid: String,
}

/// Where the events are to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since<'a> {
    /// After a set of GTIDs, in the form of `COM_BINLOG_DUMP_GTID`. MySQL.
    GtidSet(&'a [u8]),
    /// After a position of one GTID for each domain, as text. MariaDB.
    GtidPosition(&'a str),
}

impl<D: Dial> ReplicaSession<D> {
    /// Connects and logs in.
    ///
    /// # Errors
    ///
    /// See [`ReplicaError`].
    pub async fn open(dial: &D, conninfo: &MySqlConnInfo) -> Result<Self, ReplicaError> {
        let (to, limit) = (conninfo.to_string(), conninfo.connect_timeout.unwrap_or(LIMIT));
        let opening = async {
            let opened = dial_in(dial, conninfo, &to).await;
            let refused = |error: &_| {
                matches!(error, ReplicaError::Login { source: LoginError::Server(_), .. })
            };
            if conninfo.tls.mode != MySqlSslMode::Allow || !opened.as_ref().is_err_and(refused) {
                return opened;
            }
            // A server that insists on TLS refuses us without.
            let mut encrypted = conninfo.clone();
            encrypted.tls.mode = MySqlSslMode::Require;
            dial_in(dial, &encrypted, &to).await.or(opened)
        };
        let opened = tokio::time::timeout(limit, opening).await;
        let LoggedIn { packets, version } =
            opened.map_err(|_| ReplicaError::TimedOut { to: to.clone(), limit })??;
        Ok(Self { packets, version, to, limit })
    }

    /// What the server calls its version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Asks one question. Returns the rows of the answer as text, none for a statement that has none. Of no use
    /// after a call that was not awaited to its end.
    ///
    /// # Errors
    ///
    /// See [`ReplicaError`].
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, ReplicaError> {
        let limit = self.limit;
        let asked = tokio::time::timeout(limit, ask(&mut self.packets, sql)).await;
        asked.map_err(|_| ReplicaError::TimedOut { to: self.to.clone(), limit })?
    }

    /// The same as [`ReplicaSession::stream`], for a position of either product.
    ///
    /// # Errors
    ///
    /// See [`ReplicaSession::stream`].
    pub async fn stream_after(
        self,
        replica: &Replica,
        heartbeat: Duration,
        position: &GtidPosition,
    ) -> Result<EventStream<D>, ReplicaError> {
        match position {
            GtidPosition::MySql(set) => {
                self.stream(replica, heartbeat, Since::GtidSet(&set.to_bytes())).await
            }
            GtidPosition::Maria(position) => {
                let text = position.to_string();
                self.stream(replica, heartbeat, Since::GtidPosition(&text)).await
            }
        }
    }

    /// Says who we are, and asks for all events since a position. From here on the server says something at least each
    /// `heartbeat`.
    ///
    /// # Errors
    ///
    /// See [`ReplicaError`]. A position that the server does not have any more is refused with the first event.
    pub async fn stream(
        mut self,
        replica: &Replica,
        heartbeat: Duration,
        since: Since<'_>,
    ) -> Result<EventStream<D>, ReplicaError> {
        let (Replica { server_id, uuid }, nanos) = (replica, heartbeat.as_nanos());
        let server_id = *server_id;
        // The server says how it checks events; by this we say that we know checksums. Each name is the one that
        // some version looks at. While we do not read for long it must not give up.
        self.query(&format!(
            "SET @master_heartbeat_period = {nanos}, @source_heartbeat_period = {nanos}, \
             @master_binlog_checksum = @@global.binlog_checksum, \
             @source_binlog_checksum = @@global.binlog_checksum, \
             @slave_uuid = '{uuid}', @replica_uuid = '{uuid}', \
             SESSION net_write_timeout = {NOT_READ_SECONDS}"
        ))
        .await?;
        let mut command = Vec::new();
        match since {
            Since::GtidSet(set) => {
                command.put_u8(BINLOG_DUMP_GTID);
                command.put_u16_le(THROUGH_GTID);
                command.put_u32_le(server_id);
                // No file: the set alone says where.
                command.put_u32_le(0);
                command.put_u64_le(u64::from(FIRST_POSITION));
                command.put_u32_le(u32::try_from(set.len()).unwrap_or(u32::MAX));
                command.extend_from_slice(set);
            }
            Since::GtidPosition(position) => {
                // 4: we know GTIDs (MariaDB documentation, "5-Slave Registration").
                self.query("SET @mariadb_slave_capability = 4, @slave_gtid_strict_mode = 1")
                    .await?;
                let quoted = position.replace('\\', "\\\\").replace('\'', "''");
                self.query(&format!("SET @slave_connect_state = '{quoted}'")).await?;
                command.put_u8(BINLOG_DUMP);
                command.put_u32_le(FIRST_POSITION);
                command.put_u16_le(0);
                command.put_u32_le(server_id);
            }
        }
        let asking = async {
            register(&mut self.packets, server_id).await?;
            Ok::<(), ReplicaError>(self.packets.command(&command).await?)
        };
        let asked = tokio::time::timeout(self.limit, asking).await;
        let (to, limit) = (self.to, self.limit);
        asked.map_err(|_| ReplicaError::TimedOut { to, limit })??;
        Ok(EventStream { packets: self.packets })
    }
}

/// Connects and logs in as `sslmode` says. `to` is for errors.
async fn dial_in<D: Dial>(
    dial: &D,
    conninfo: &MySqlConnInfo,
    to: &str,
) -> Result<LoggedIn<D::Stream>, ReplicaError> {
    let Place::Tcp { host, port } = &conninfo.place else { return Err(ReplicaError::Socket) };
    let to = || to.to_owned();
    let stream = dial.dial(host, *port).await;
    let stream = stream.map_err(|source| ReplicaError::Dial { to: to(), source })?;
    let logged_in = log_in(stream, conninfo, EVENT_BYTES_MAX).await;
    logged_in.map_err(|source| ReplicaError::Login { to: to(), source })
}

/// The events of the binary log.
pub struct EventStream<D: Dial> {
    packets: Packets<PgStream<D::Stream>>,
}

impl<D: Dial> std::fmt::Debug for EventStream<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}

impl<D: Dial> EventStream<D> {
    /// Waits for the next event: its header, its body, and its checksum if the server has one. Cancel safe. Whoever
    /// waits has the limit: the server has said that it sends a heartbeat.
    ///
    /// # Errors
    ///
    /// See [`ReplicaError`].
    pub async fn next(&mut self) -> Result<Bytes, ReplicaError> {
        let mut packet = self.packets.read().await?;
        match packet.first() {
            Some(&EVENT) => Ok(packet.split_off(1)),
            Some(&ERROR) => Err(ServerRefusal::of(&packet).into()),
            Some(&END) if packet.len() < END_BYTES_MAX => Err(ReplicaError::Ended),
            _ => Err(ReplicaError::Protocol("a packet is no event")),
        }
    }
}

/// Shows us in the server's list of replicas.
async fn register<S>(packets: &mut Packets<S>, server_id: u32) -> Result<(), ReplicaError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut command = vec![REGISTER_REPLICA];
    command.put_u32_le(server_id);
    // No host, user and password, no port, no rank, no source.
    command.extend_from_slice(&[0; 3 + 2 + 4 + 4]);
    packets.command(&command).await?;
    let answer = packets.read().await?;
    match answer.first() {
        Some(&ERROR) => Err(ServerRefusal::of(&answer).into()),
        Some(_) => Ok(()),
        None => Err(ReplicaError::Protocol("an answer is empty")),
    }
}

/// The text protocol (MySQL documentation, "COM_QUERY Response").
async fn ask<S>(
    packets: &mut Packets<S>,
    sql: &str,
) -> Result<Vec<Vec<Option<String>>>, ReplicaError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    packets.command(&[&[QUERY], sql.as_bytes()].concat()).await?;
    let head = packets.read().await?;
    let columns = match head.first() {
        Some(&EVENT) => return Ok(Vec::new()),
        Some(&ERROR) => return Err(ServerRefusal::of(&head).into()),
        // The number of columns; we ask for few.
        Some(&columns @ 1..=250) => usize::from(columns),
        _ => return Err(ReplicaError::Protocol("an answer is none")),
    };
    // What the columns are like, and the end of that.
    for _ in 0..=columns {
        packets.read().await?;
    }
    let mut rows = Vec::new();
    loop {
        let packet = packets.read().await?;
        match packet.first() {
            Some(&ERROR) => return Err(ServerRefusal::of(&packet).into()),
            Some(&END) if packet.len() < END_BYTES_MAX => return Ok(rows),
            _ => rows.push(row(&packet, columns)?),
        }
    }
}

fn row(packet: &[u8], columns: usize) -> Result<Vec<Option<String>>, ReplicaError> {
    let mut rest = packet;
    let cells = (0..columns).map(|_| cell(&mut rest));
    let cells: Option<Vec<_>> = cells.collect();
    cells.ok_or(ReplicaError::Protocol("a row ends too early"))
}

/// A string behind its length, or NULL.
fn cell(rest: &mut &[u8]) -> Option<Option<String>> {
    let (first, after) = rest.split_first()?;
    let (bytes, length) = match first {
        0xFB => {
            *rest = after;
            return Some(None);
        }
        0xFC => (2, 0),
        0xFD => (3, 0),
        0xFE => (8, 0),
        length => (0, u64::from(*length)),
    };
    let (head, after) = after.split_at_checked(bytes)?;
    let length = head.iter().rev().fold(length, |sum, byte| sum << 8 | u64::from(*byte));
    let (text, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = after;
    Some(Some(String::from_utf8_lossy(text).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::row;

    #[test]
    fn cells_have_lengths_of_many_sizes() {
        let long = "x".repeat(300);
        let packet = [&b"\x02hi\xFB\xFC\x2C\x01"[..], long.as_bytes(), b"\x00"].concat();
        let cells = row(&packet, 4).unwrap();
        assert_eq!(cells, [Some("hi".to_owned()), None, Some(long), Some(String::new())]);
        for length in 0..packet.len() - 1 {
            assert!(row(&packet[..length], 4).is_err(), "{length}");
        }
    }
}
