//! Global transaction identifiers: exact sets of MySQL's ([`GtidSet`]), positions of MariaDB's
//! ([`MariaPosition`]).
//!
//! MySQL numbers the transactions of each server, and of each tag of it, and says which it has as
//! runs of numbers, with holes. Such a set is only partly ordered: neither of two may hold the other.
mod binary;
mod error;
mod maria;
mod names;
mod position;
mod ranges;
mod text;

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use core::fmt;

pub use error::{BinaryFault, GtidBinaryError, GtidFault, ParseGtidError, TooManyIntervals};
pub use maria::{MariaGtid, MariaPosition};
pub use names::{GtidNames, MariaNames};
pub use position::{AnyGtid, BinlogFlavor, GtidPosition};
use ranges::Ranges;

/// How many runs of numbers a set may have. Servers have a few per source.
pub const INTERVALS_MAX: usize = 1 << 18;

/// The largest number that a transaction can have.
pub const GNO_MAX: u64 = (1 << 63) - 2;

/// The longest tag, in bytes.
const TAG_BYTES_MAX: usize = 32;

/// What a server is called by: its `server_uuid`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

/// What tells transactions of one server apart from others of it, since MySQL 8.3; mostly nothing.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    // Invariant: a letter or `_`, then letters, digits and `_`, small ones; then zeros. Or all zeros.
    bytes: [u8; TAG_BYTES_MAX],
}

impl Tag {
    /// No tag.
    pub const NONE: Self = Self { bytes: [0; TAG_BYTES_MAX] };

    /// Reads a tag. Large letters are taken as small ones, as the server does.
    ///
    /// `None` if it is no tag: too long, or with a character that tags do not have.
    #[must_use]
    pub fn new(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; TAG_BYTES_MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        bytes.make_ascii_lowercase();
        let word = text.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        let digit = text.first().is_some_and(u8::is_ascii_digit);
        (word && !digit).then_some(Self { bytes })
    }

    /// Its text; empty if there is none.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let text = self.bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        core::str::from_utf8(text).unwrap_or_default()
    }

    /// Whether there is no tag.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({:?})", self.as_str())
    }
}

/// Where transactions are numbered: a server, and a tag of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tsid {
    /// The server that committed first.
    pub uuid: Uuid,
    /// The tag it gave.
    pub tag: Tag,
}

/// One transaction of MySQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gtid {
    /// Where it was numbered.
    pub tsid: Tsid,
    /// Its number, from 1 through [`GNO_MAX`].
    pub gno: u64,
}

/// A run of numbers, both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval {
    /// The first.
    pub from: u64,
    /// The last.
    pub through: u64,
}

impl Interval {
    /// A run of numbers that transactions can have; `None` if it is none.
    #[must_use]
    pub const fn new(from: u64, through: u64) -> Option<Self> {
        if from == 0 || through < from || GNO_MAX < through {
            return None;
        }
        Some(Self { from, through })
    }
}

/// Which transactions of MySQL somebody has.
///
/// Its text is the server's: sources in order, each with its tags in order, each with its runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GtidSet {
    // Invariant: no value is empty; `intervals` is how many runs all of them have together.
    sources: BTreeMap<Tsid, Ranges>,
    intervals: usize,
}

impl GtidSet {
    /// The set of nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { sources: BTreeMap::new(), intervals: 0 }
    }

    /// Whether it has no transaction.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// How many runs it has.
    #[must_use]
    pub const fn intervals_len(&self) -> usize {
        self.intervals
    }

    /// Whether it needs the binary form of MySQL 8.3 and later.
    #[must_use]
    pub fn has_tags(&self) -> bool {
        self.sources.keys().any(|tsid| !tsid.tag.is_none())
    }

    /// All runs, in the order of the text.
    pub fn iter(&self) -> impl Iterator<Item = (Tsid, Interval)> {
        self.sources.iter().flat_map(|(tsid, ranges)| ranges.iter().map(|range| (*tsid, *range)))
    }

    /// Whether it has this transaction.
    #[must_use]
    pub fn contains(&self, gtid: Gtid) -> bool {
        self.sources.get(&gtid.tsid).is_some_and(|ranges| ranges.contains(gtid.gno))
    }

    /// Whether `other` has all that it has.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.sources.iter().all(|(tsid, ranges)| {
            let there = other.sources.get(tsid);
            there.is_some_and(|there| ranges.iter().all(|range| there.covers(*range)))
        })
    }

    /// Adds one transaction; returns whether it is new.
    ///
    /// # Errors
    ///
    /// The set would get more runs than [`INTERVALS_MAX`]. It is unchanged then.
    pub fn insert(&mut self, gtid: Gtid) -> Result<bool, TooManyIntervals> {
        if self.contains(gtid) {
            return Ok(false);
        }
        let Some(one) = Interval::new(gtid.gno, gtid.gno) else { return Ok(false) };
        self.insert_interval(gtid.tsid, one)?;
        Ok(true)
    }

    /// Adds a run of transactions.
    ///
    /// # Errors
    ///
    /// See [`insert`](Self::insert). Where the run would have joined others it is refused, too.
    pub fn insert_interval(
        &mut self,
        tsid: Tsid,
        interval: Interval,
    ) -> Result<(), TooManyIntervals> {
        let extends = |ranges: &Ranges| ranges.touches(interval);
        let joins = self.sources.get(&tsid).is_some_and(extends);
        if INTERVALS_MAX <= self.intervals && !joins {
            return Err(TooManyIntervals);
        }
        let ranges = self.sources.entry(tsid).or_default();
        let before = ranges.len();
        ranges.insert(interval);
        self.intervals = self.intervals.saturating_sub(before).saturating_add(ranges.len());
        Ok(())
    }

    /// Adds all that `other` has.
    ///
    /// # Errors
    ///
    /// See [`insert`](Self::insert). Some of it may have been added.
    pub fn union(&mut self, other: &Self) -> Result<(), TooManyIntervals> {
        other.iter().try_for_each(|(tsid, interval)| self.insert_interval(tsid, interval))
    }

    /// Takes one transaction out; returns whether it was there.
    ///
    /// # Errors
    ///
    /// The set would get more runs than [`INTERVALS_MAX`]. It is unchanged then.
    pub fn remove(&mut self, gtid: Gtid) -> Result<bool, TooManyIntervals> {
        let Some(one) = Interval::new(gtid.gno, gtid.gno) else { return Ok(false) };
        let was = self.contains(gtid);
        self.remove_interval(gtid.tsid, one)?;
        Ok(was)
    }

    /// Takes a run of transactions out.
    ///
    /// # Errors
    ///
    /// See [`remove`](Self::remove).
    pub fn remove_interval(
        &mut self,
        tsid: Tsid,
        interval: Interval,
    ) -> Result<(), TooManyIntervals> {
        let Entry::Occupied(mut entry) = self.sources.entry(tsid) else { return Ok(()) };
        // A hole makes one run more.
        if INTERVALS_MAX <= self.intervals && entry.get().is_split_by(interval) {
            return Err(TooManyIntervals);
        }
        let before = entry.get().len();
        entry.get_mut().remove(interval);
        let after = entry.get().len();
        self.intervals = self.intervals.saturating_sub(before).saturating_add(after);
        if after == 0 {
            entry.remove();
        }
        Ok(())
    }

    /// Takes all out that `other` has.
    ///
    /// # Errors
    ///
    /// See [`remove`](Self::remove). Some of it may have been taken out.
    pub fn subtract(&mut self, other: &Self) -> Result<(), TooManyIntervals> {
        other.iter().try_for_each(|(tsid, interval)| self.remove_interval(tsid, interval))
    }
}

#[cfg(test)]
mod tests;
