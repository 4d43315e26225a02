//! Packets of the client/server protocol, over any stream (MySQL documentation, "MySQL Packets").
//!
//! A packet has a length of three bytes, a number that counts the packets of one exchange, and so many bytes. One
//! of 16 MiB less one byte goes on in the next one.
use std::io;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Bytes of a packet that goes on in the next one.
const FULL: usize = 0xFF_FFFF;

/// Bytes before the content of a packet.
const HEAD: usize = 4;

/// Room for what comes in at once, in bytes.
const ROOM: usize = 64 << 10;

/// A packet could not be read or written.
#[derive(Debug, Error)]
pub enum PacketError {
    /// The connection broke.
    #[error("the connection to the server broke")]
    Io(#[from] io::Error),
    /// The server ended the connection.
    #[error("the server ended the connection")]
    Ended,
    /// The server counts its packets differently.
    #[error("packet {got} came where {wanted} was expected: the server broke the protocol")]
    OutOfOrder {
        /// What the packet says.
        got: u8,
        /// What it should say.
        wanted: u8,
    },
    /// It is larger than we take.
    #[error("the server sent more than {limit} bytes at once")]
    TooLarge {
        /// What we take, in bytes.
        limit: usize,
    },
}

/// Reads and writes packets.
#[derive(Debug)]
pub(super) struct Packets<S> {
    stream: S,
    read: BytesMut,
    // The parts of a packet that goes on.
    begun: BytesMut,
    sequence: u8,
    bytes_max: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Packets<S> {
    /// Takes packets of up to `bytes_max` bytes.
    pub(super) fn new(stream: S, bytes_max: usize) -> Self {
        let (read, begun) = (BytesMut::new(), BytesMut::new());
        Self { stream, read, begun, sequence: 0, bytes_max }
    }

    /// The stream, for another way to use it. `None` if the server has sent more than was read: what came in the
    /// clear must not count as encrypted.
    pub(super) fn into_stream(self) -> Option<(S, u8)> {
        let Self { stream, read, sequence, .. } = self;
        read.is_empty().then_some((stream, sequence))
    }

    /// Goes on where another stream has stopped counting.
    pub(super) fn resume(stream: S, bytes_max: usize, sequence: u8) -> Self {
        Self { sequence, ..Self::new(stream, bytes_max) }
    }

    /// Waits for the next packet. Cancel safe.
    pub(super) async fn read(&mut self) -> Result<Bytes, PacketError> {
        loop {
            let part = self.part().await?;
            let is_last = part.len() < FULL;
            if is_last && self.begun.is_empty() {
                return Ok(part.freeze());
            }
            self.begun.unsplit(part);
            if self.bytes_max < self.begun.len() {
                return Err(PacketError::TooLarge { limit: self.bytes_max });
            }
            if is_last {
                return Ok(std::mem::take(&mut self.begun).freeze());
            }
        }
    }

    async fn part(&mut self) -> Result<BytesMut, PacketError> {
        loop {
            if let Some((head, _)) = self.read.split_first_chunk::<HEAD>() {
                let [low, middle, high, sequence] = *head;
                let length = u32::from_le_bytes([low, middle, high, 0]);
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if sequence != self.sequence {
                    return Err(PacketError::OutOfOrder { got: sequence, wanted: self.sequence });
                }
                if self.bytes_max < length {
                    return Err(PacketError::TooLarge { limit: self.bytes_max });
                }
                if HEAD + length <= self.read.len() {
                    self.sequence = self.sequence.wrapping_add(1);
                    self.read.advance(HEAD);
                    return Ok(self.read.split_to(length));
                }
                self.read.reserve(HEAD + length - self.read.len());
            } else {
                self.read.reserve(ROOM);
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(PacketError::Ended);
            }
        }
    }

    /// Begins an exchange with a command.
    pub(super) async fn command(&mut self, content: &[u8]) -> Result<(), PacketError> {
        self.sequence = 0;
        self.write(content).await
    }

    /// Goes on with an exchange.
    pub(super) async fn write(&mut self, mut content: &[u8]) -> Result<(), PacketError> {
        let mut bytes = Vec::with_capacity(content.len() + HEAD);
        loop {
            let (part, rest) = content.split_at(content.len().min(FULL));
            bytes.put_uint_le(part.len() as u64, 3);
            bytes.put_u8(self.sequence);
            bytes.extend_from_slice(part);
            self.sequence = self.sequence.wrapping_add(1);
            content = rest;
            if part.len() < FULL {
                break;
            }
        }
        self.stream.write_all(&bytes).await?;
        Ok(self.stream.flush().await?)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::{FULL, PacketError, Packets};

    #[tokio::test]
    async fn packets_arrive_whole_however_they_are_cut() {
        let (ours, mut theirs) = duplex(64);
        let mut packets = Packets::new(ours, 100);
        let sent = [&[3, 0, 0, 0][..], b"abc", &[0, 0, 0, 1], &[1, 0, 0, 2], b"d"].concat();
        let send = async {
            for byte in &sent {
                theirs.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let read = async {
            for wanted in ["abc", "", "d"] {
                assert_eq!(packets.read().await.unwrap(), wanted);
            }
        };
        tokio::join!(send, read);
        drop(theirs);
        assert!(matches!(packets.read().await, Err(PacketError::Ended)));
    }

    #[tokio::test]
    async fn a_packet_of_more_than_16_mib_is_written_and_read_in_parts() {
        for length in [FULL - 1, FULL, FULL + 1, 2 * FULL] {
            let (ours, theirs) = duplex(1 << 20);
            let (mut to, mut from) = (Packets::new(ours, FULL), Packets::new(theirs, 3 * FULL));
            let content: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let (sent, read) = tokio::join!(to.command(&content), from.read());
            sent.unwrap();
            assert!(read.unwrap() == content, "{length}");
            let parts = u8::try_from(length / FULL + 1).unwrap();
            assert_eq!((to.sequence, from.sequence), (parts, parts));
        }
    }

    #[tokio::test]
    async fn what_is_too_large_or_out_of_order_is_refused() {
        for (bytes, limit, text) in [
            (&[101, 0, 0, 0][..], 100, "more than 100 bytes"),
            (&[1, 0, 0, 1][..], 100, "packet 1 came where 0"),
        ] {
            let (ours, mut theirs) = duplex(64);
            theirs.write_all(bytes).await.unwrap();
            let error = Packets::new(ours, limit).read().await.unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        // Also in parts.
        let (ours, theirs) = duplex(1 << 20);
        let (mut to, mut from) = (Packets::new(ours, FULL), Packets::new(theirs, FULL + 3));
        let content = vec![0; FULL + 4];
        let (_, read) = tokio::join!(to.command(&content), from.read());
        assert!(matches!(read, Err(PacketError::TooLarge { .. })));
    }
}
