//! What events of a file look like: FORMAT_DESCRIPTION_EVENT.
use alloc::vec::Vec;

use super::cursor::Cursor;
use super::error::{DecodeError, Fault};
use super::event_type::EventType;

/// The only version of the format since MySQL 5.0.
const VERSION: u16 = 4;
const SERVER_VERSION_BYTES: usize = 50;
/// The byte that names the kind of checksum, and the checksum that this event always has.
const FOOTER_BYTES: usize = 5;

/// What an event ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// Nothing.
    None,
    /// Four bytes of CRC-32 over all before them.
    Crc32,
}

impl Checksum {
    /// How long it is.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::None => 0,
            Self::Crc32 => 4,
        }
    }
}

/// What events of a file look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// The version of the server that wrote it, without the zero bytes at its end.
    pub server_version: Vec<u8>,
    /// When the server started, in seconds since 1970, in the first file since then; else 0.
    pub started: u32,
    /// How much of the body of each type, from 1, comes before its variable part.
    pub post_headers: Vec<u8>,
    /// What the other events end with.
    pub checksum: Checksum,
}

impl Format {
    /// How much of the body of an event comes before its variable part; `None` if the server does not
    /// know the type.
    #[must_use]
    pub fn post_header(&self, kind: EventType) -> Option<usize> {
        let at = usize::from(kind.0).checked_sub(1)?;
        self.post_headers.get(at).map(|bytes| usize::from(*bytes))
    }

    /// Whether MariaDB wrote it.
    #[must_use]
    pub fn is_mariadb(&self) -> bool {
        self.server_version.windows(7).any(|part| part.eq_ignore_ascii_case(b"mariadb"))
    }

    /// Reads the body, with the checksum at its end.
    pub(super) fn read(mut body: Cursor<'_>) -> Result<Self, DecodeError> {
        let at = body;
        let version = body.u16("binlog version")?;
        if version != VERSION {
            return Err(at.error("binlog version", Fault::Value { found: u64::from(version) }));
        }
        let at = body;
        let version = body.chunk::<SERVER_VERSION_BYTES>("server version")?;
        let version = version.split(|byte| *byte == 0).next().unwrap_or_default();
        if !has_checksums(version) {
            return Err(at.error("server version", Fault::ServerVersion));
        }
        let started = body.u32("start of the server")?;
        let at = body;
        let header = body.u8("length of headers")?;
        if usize::from(header) != super::event::HEADER_BYTES {
            let fault = Fault::Value { found: u64::from(header) };
            return Err(at.error("length of headers", fault));
        }
        let count = body.left().saturating_sub(FOOTER_BYTES);
        let post_headers = body.bytes("lengths of post-headers", count)?.to_vec();
        let at = body;
        let checksum = match body.u8("kind of checksums")? {
            0 => Checksum::None,
            1 => Checksum::Crc32,
            other => {
                let fault = Fault::Value { found: u64::from(other) };
                return Err(at.error("kind of checksums", fault));
            }
        };
        Ok(Self { server_version: version.to_vec(), started, post_headers, checksum })
    }
}

/// Whether a server of this version writes the kind of checksum at the end: MySQL since 5.6.1, MariaDB
/// since 5.3. Sources are later than both.
fn has_checksums(version: &[u8]) -> bool {
    let mut numbers = version.split(|byte| !byte.is_ascii_digit()).map(|digits| {
        let text = core::str::from_utf8(digits).unwrap_or_default();
        text.parse().unwrap_or(0_u32)
    });
    let mut next = || numbers.next().unwrap_or_default();
    (5, 6, 1) <= (next(), next(), next())
}
