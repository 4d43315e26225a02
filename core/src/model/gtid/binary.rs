//! The binary form of a set, as in PREVIOUS_GTIDS_LOG_EVENT and in COM_BINLOG_DUMP_GTID
//! (`Gtid_set::encode` and `Gtid_set::add_gtid_encoding` in the server's `sql/rpl_gtid_set.cc`).
//!
//! Eight bytes say how many sources follow. Without tags they are that number; with tags their first
//! and last byte are 1 and the number is between. Whole numbers are little endian; the end of a run is
//! exclusive.
use alloc::vec::Vec;

use super::error::{BinaryFault, GtidBinaryError};
use super::{GtidSet, Interval, Tag, Tsid, Uuid};

/// The first and the last byte of a set with tags.
const TAGGED: u64 = 1;

impl GtidSet {
    /// Writes the set as a server of any version does: without tags where there are none.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let tagged = self.has_tags();
        let mut out = Vec::new();
        let sources = u64::try_from(self.sources.len()).unwrap_or(u64::MAX);
        let header = if tagged { TAGGED << 56 | sources << 8 | TAGGED } else { sources };
        out.extend_from_slice(&header.to_le_bytes());
        for (tsid, ranges) in &self.sources {
            out.extend_from_slice(&tsid.uuid.0);
            if tagged {
                let tag = tsid.tag.as_str();
                // A whole number of variable length: below 64 it is one byte, doubled.
                out.push(u8::try_from(tag.len() << 1).unwrap_or(u8::MAX));
                out.extend_from_slice(tag.as_bytes());
            }
            let runs = u64::try_from(ranges.len()).unwrap_or(u64::MAX);
            out.extend_from_slice(&runs.to_le_bytes());
            for Interval { from, through } in ranges.iter() {
                out.extend_from_slice(&from.to_le_bytes());
                out.extend_from_slice(&through.saturating_add(1).to_le_bytes());
            }
        }
        out
    }

    /// Reads what a server wrote.
    ///
    /// # Errors
    ///
    /// It is cut short, or not a set; the error says which field is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, GtidBinaryError> {
        let mut fields = Fields { rest: bytes, len: bytes.len() };
        let header = fields.number("count of sources")?;
        let [low, .., high] = header.to_le_bytes();
        let (tagged, sources) = match u64::from(high) {
            0 => (false, header),
            TAGGED if u64::from(low) == TAGGED || low == 0 => (true, (header << 8) >> 16),
            other => {
                let fault = BinaryFault::Value(other);
                return Err(GtidBinaryError { field: "format", offset: 7, fault });
            }
        };
        let mut set = Self::new();
        for _ in 0..sources {
            let uuid = Uuid(fields.chunk("UUID")?);
            let tag = if tagged { fields.tag()? } else { Tag::NONE };
            fields.runs(Tsid { uuid, tag }, &mut set)?;
        }
        match fields.rest.len() {
            0 => Ok(set),
            extra => Err(fields.error("end", BinaryFault::Extra(extra))),
        }
    }
}

/// What is left to read.
struct Fields<'a> {
    rest: &'a [u8],
    len: usize,
}

impl Fields<'_> {
    const fn error(&self, field: &'static str, fault: BinaryFault) -> GtidBinaryError {
        GtidBinaryError { field, offset: self.len.saturating_sub(self.rest.len()), fault }
    }

    fn chunk<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], GtidBinaryError> {
        let Some((chunk, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.error(field, BinaryFault::Short));
        };
        self.rest = rest;
        Ok(*chunk)
    }

    fn number(&mut self, field: &'static str) -> Result<u64, GtidBinaryError> {
        self.chunk(field).map(u64::from_le_bytes)
    }

    fn tag(&mut self) -> Result<Tag, GtidBinaryError> {
        let wrong = self.error("tag", BinaryFault::Tag);
        let [len] = self.chunk("length of the tag")?;
        if len & 1 == 1 {
            return Err(wrong);
        }
        let Some((text, rest)) = self.rest.split_at_checked(usize::from(len >> 1)) else {
            return Err(self.error("tag", BinaryFault::Short));
        };
        self.rest = rest;
        Tag::new(text).ok_or(wrong)
    }

    fn runs(&mut self, tsid: Tsid, set: &mut GtidSet) -> Result<(), GtidBinaryError> {
        let runs = self.number("count of intervals")?;
        let mut end = 0;
        for _ in 0..runs {
            let wrong = self.error("interval", BinaryFault::Interval);
            let many = self.error("interval", BinaryFault::TooMany);
            let (from, after) = (self.number("interval")?, self.number("interval")?);
            // The server refuses what is not in order, and runs that should have been one.
            let interval = Interval::new(from, after.saturating_sub(1)).filter(|_| end < from);
            set.insert_interval(tsid, interval.ok_or(wrong)?).map_err(|_| many)?;
            end = after;
        }
        Ok(())
    }
}
