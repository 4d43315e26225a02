//! Where we are: in the source's stream, and in our own order.
use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use super::time::Hlc;

/// A PostgreSQL log sequence number: a byte offset into the WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// A source position: what a checkpoint holds and what we hand back to the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Position {
    /// CockroachDB changefeed time.
    Hlc(Hlc),
    /// PostgreSQL WAL offset of the end of a commit record.
    Lsn(Lsn),
    /// The number of a transaction in its stream, for sources whose own positions have no order (sets of GTIDs).
    /// Counted on from what was saved.
    Ordinal(u64),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hlc(hlc) => hlc.fmt(f),
            Self::Lsn(lsn) => lsn.fmt(f),
            Self::Ordinal(number) => write!(f, "#{number}"),
        }
    }
}

impl Position {
    /// Text of fixed width whose order is the order of positions of one kind, for database columns.
    #[must_use]
    pub fn to_sortable(self) -> String {
        match self {
            Self::Hlc(Hlc { nanos, logical }) => alloc::format!("{nanos:020}.{logical:010}"),
            Self::Lsn(Lsn(bytes)) => alloc::format!("{bytes:016X}"),
            Self::Ordinal(number) => alloc::format!("#{number:020}"),
        }
    }

    /// Reads what [`to_sortable`](Self::to_sortable) wrote, and nothing else: another text for the same
    /// position would sort elsewhere.
    #[must_use]
    pub fn from_sortable(text: &str) -> Option<Self> {
        Self::parse_sortable(text).filter(|position| position.to_sortable() == text)
    }

    fn parse_sortable(text: &str) -> Option<Self> {
        if let Some((nanos, logical)) = text.split_once('.') {
            let (nanos, logical) = (nanos.parse().ok()?, logical.parse().ok()?);
            return Some(Self::Hlc(Hlc { nanos, logical }));
        }
        if let Some(number) = text.strip_prefix('#') {
            return Some(Self::Ordinal(number.parse().ok()?));
        }
        Some(Self::Lsn(Lsn(u64::from_str_radix(text, 16).ok()?)))
    }
}

/// A run of transactions that is known to be in the target although no checkpoint covers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Applied {
    /// Exclusive lower bound; `None` is the beginning of the stream.
    pub after: Option<Position>,
    /// Inclusive upper bound.
    pub through: Position,
}

impl Applied {
    /// Reads what [`Position::to_sortable`] wrote of both ends.
    #[must_use]
    pub fn from_sortable(after: Option<&str>, through: &str) -> Option<Self> {
        let after = match after {
            Some(text) => Some(Position::from_sortable(text)?),
            None => None,
        };
        Some(Self { after, through: Position::from_sortable(through)? })
    }

    /// Whether a transaction that ends at `position` is part of the run.
    #[must_use]
    pub fn holds(&self, position: Position) -> bool {
        self.after < Some(position) && position <= self.through
    }

    /// Whether a transaction whose commit record starts at `before` is part of the run. It ends after
    /// `before`, and before the next transaction's commit record starts.
    #[must_use]
    pub fn holds_after(&self, before: Position) -> bool {
        self.after <= Some(before) && before < self.through
    }
}

/// The place of a transaction in our own order. Dense, starts at 1, never reused by one machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxSeq(pub u64);

impl TxSeq {
    /// The next place in the order.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for TxSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tx{}", self.0)
    }
}

/// Names one effect so that its completion finds back. Never reused by one machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "op{}", self.0)
    }
}

/// Names a batch while it is scheduled. In the order of the batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// One independently ordered stream of a source, such as a Kafka partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub u32);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition{}", self.0)
    }
}

/// A source request that waits for our answer, such as an HTTP call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request{}", self.0)
    }
}

/// The text is not an LSN.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not an LSN; expected two hexadecimal halves such as 0/16B3748")]
pub struct ParseLsnError {
    text: String,
}

impl FromStr for Lsn {
    type Err = ParseLsnError;

    /// Parses `XXX/XXX`, two hexadecimal halves of 32 bits, as PostgreSQL prints `pg_lsn`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseLsnError { text: text.to_owned() };
        let half = |half: &str| {
            // The parser of numbers would take a sign.
            let digits = half.bytes().all(|byte| byte.is_ascii_hexdigit());
            u32::from_str_radix(half, 16).ok().filter(|_| digits).ok_or_else(error)
        };
        let (high, low) = text.split_once('/').ok_or_else(error)?;
        let (high, low) = (half(high)?, half(low)?);
        Ok(Self((u64::from(high) << 32) | u64::from(low)))
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::{Hlc, Lsn, Position};

    #[test]
    fn an_lsn_survives_printing_and_parsing() {
        for lsn in [Lsn(0), Lsn(32), Lsn(0x1_0000_0000), Lsn(u64::MAX)] {
            assert_eq!(lsn.to_string().parse(), Ok(lsn));
        }
    }

    #[test]
    fn sortable_text_keeps_order_and_value() {
        let hlc = |nanos, logical| Position::Hlc(Hlc { nanos, logical });
        for (low, high) in [
            (Position::Lsn(Lsn(0xF)), Position::Lsn(Lsn(0x1_0000_0000))),
            (hlc(9, 10), hlc(10, 0)),
            (hlc(9, 9), hlc(9, 10)),
            (Position::Ordinal(9), Position::Ordinal(10)),
        ] {
            assert!(low.to_sortable() < high.to_sortable());
            assert_eq!(Position::from_sortable(&low.to_sortable()), Some(low));
            assert_eq!(Position::from_sortable(&high.to_sortable()), Some(high));
        }
    }

    #[test]
    fn nonsense_is_not_an_lsn() {
        for text in ["", "/", "0/", "/0", "0/0/0", "G/0", "0/100000000", "+0/+1"] {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_position_has_one_sortable_text() {
        for text in ["", "10", "#10", "#", "+00000000000000F", "000000000000000f", "1.1", "-1.0"] {
            assert_eq!(Position::from_sortable(text), None, "{text}");
        }
    }
}
