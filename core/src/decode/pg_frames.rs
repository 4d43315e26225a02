//! The frames around the messages: what travels in CopyData on a replication connection.
//!
//! ```text
//! server  'w' start end time  message…     some of the log (XLogData)
//!         'k' end time reply               how far the server is (primary keepalive)
//! client  'r' write flush apply time reply how far we are (standby status update)
//! ```
//!
//! PostgreSQL documentation, chapter "Streaming Replication Protocol", under `START_REPLICATION`.
use alloc::vec::Vec;

use bytes::{Buf, BufMut, Bytes};

use super::pg_wire::{Cursor, DecodeError, Fault, kind_of, micros_since_2000, unknown};
use crate::model::position::Lsn;
use crate::model::time::WallTime;

/// What the server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// One message of the output plugin.
    XLogData {
        /// Where it is in the log; zero for messages that are not in it.
        wal_start: Lsn,
        /// For logical replication the same as `wal_start`.
        wal_end: Lsn,
        /// When it was sent, by the server's clock.
        sent: WallTime,
        /// A message of pgoutput.
        message: Bytes,
    },
    /// How far the server has read its log. Everything that committed up to here was sent before.
    Keepalive {
        /// The end of what it has read.
        wal_end: Lsn,
        /// When it was sent, by the server's clock.
        sent: WallTime,
        /// Whether the server waits for a status update and ends the connection without one.
        reply_requested: bool,
    },
}

impl Frame {
    /// Decodes the payload of one CopyData message.
    ///
    /// # Errors
    ///
    /// The bytes are no such frame. The stream cannot be read on.
    #[inline]
    pub fn parse(mut frame: Bytes) -> Result<Self, DecodeError> {
        match kind_of(&frame)? {
            b'w' => {
                let mut cursor = Cursor::after(1, "XLogData", &frame);
                let wal_start = cursor.lsn("start of the data")?;
                let wal_end = cursor.lsn("end of the log")?;
                let sent = cursor.time("time")?;
                let header = cursor.offset();
                frame.advance(header);
                Ok(Self::XLogData { wal_start, wal_end, sent, message: frame })
            }
            b'k' => {
                let mut cursor = Cursor::after(1, "Primary keepalive", &frame);
                let wal_end = cursor.lsn("end of the log")?;
                let sent = cursor.time("time")?;
                let reply_requested = cursor.flag("reply")?;
                cursor.end()?;
                Ok(Self::Keepalive { wal_end, sent, reply_requested })
            }
            found => Err(unknown(Fault::UnknownKind { found })),
        }
    }
}

/// A standby status update: how far we are. The server drops its log up to `flushed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandbyStatus {
    /// Received through here.
    pub written: Lsn,
    /// Durable through here: the server never sends it again.
    pub flushed: Lsn,
    /// Visible in the target through here.
    pub applied: Lsn,
    /// Our clock.
    pub sent: WallTime,
    /// Whether we want an answer at once.
    pub reply_requested: bool,
}

impl StandbyStatus {
    /// The payload of the CopyData message to send.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(34);
        out.put_u8(b'r');
        for lsn in [self.written, self.flushed, self.applied] {
            out.put_u64(lsn.0);
        }
        out.put_i64(micros_since_2000(self.sent));
        out.put_u8(u8::from(self.reply_requested));
        out.into()
    }

    /// Decodes what [`encode`](Self::encode) wrote; for pretend servers.
    ///
    /// # Errors
    ///
    /// The bytes are no standby status update.
    pub fn parse(frame: &Bytes) -> Result<Self, DecodeError> {
        let kind = kind_of(frame)?;
        if kind != b'r' {
            return Err(unknown(Fault::UnknownKind { found: kind }));
        }
        let mut cursor = Cursor::after(1, "Standby status update", frame);
        let written = cursor.lsn("written")?;
        let flushed = cursor.lsn("flushed")?;
        let applied = cursor.lsn("applied")?;
        let sent = cursor.time("time")?;
        let reply_requested = cursor.flag("reply")?;
        cursor.end()?;
        Ok(Self { written, flushed, applied, sent, reply_requested })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Frame, StandbyStatus};
    use crate::decode::pg_encode::encode_frame;
    use crate::decode::pg_wire::Fault;
    use crate::model::position::Lsn;
    use crate::model::time::WallTime;

    #[test]
    fn frames_survive_writing_and_parsing() {
        let sent = WallTime { micros: 1_700_000_000_000_001 };
        let message = Bytes::from_static(b"E");
        for frame in [
            Frame::XLogData { wal_start: Lsn(1), wal_end: Lsn(2), sent, message },
            Frame::Keepalive { wal_end: Lsn(u64::MAX), sent, reply_requested: true },
        ] {
            assert_eq!(Frame::parse(encode_frame(&frame)), Ok(frame));
        }
        let (written, flushed, applied) = (Lsn(3), Lsn(2), Lsn(1));
        let status = StandbyStatus { written, flushed, applied, sent, reply_requested: false };
        assert_eq!(status.encode().len(), 34);
        assert_eq!(StandbyStatus::parse(&status.encode()), Ok(status));
    }

    #[test]
    fn the_clock_of_the_wire_starts_in_2000() {
        let frame = Bytes::from_static(b"k\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\0\0");
        let sent = WallTime { micros: 946_684_800_000_000 };
        let keepalive = Frame::Keepalive { wal_end: Lsn(16), sent, reply_requested: false };
        assert_eq!(Frame::parse(frame), Ok(keepalive));
    }

    #[test]
    fn broken_frames_are_refused() {
        for (bytes, fault) in [
            (&b""[..], Fault::Short { needed: 1, left: 0 }),
            (b"x", Fault::UnknownKind { found: b'x' }),
            (b"w\0\0\0", Fault::Short { needed: 8, left: 3 }),
            (b"k\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\0\x02", Fault::Value { found: 2 }),
            (b"k\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\0\x01!", Fault::Extra { extra: 1 }),
        ] {
            let error = Frame::parse(Bytes::from_static(bytes)).unwrap_err();
            assert_eq!(error.fault, fault);
        }
    }
}
