//! Transactions by name, one by one: what a target has beyond the position of its source.
use alloc::collections::BTreeMap;
use core::fmt;
use core::str::FromStr;

use super::error::{GtidFault, ParseGtidError, TooManyIntervals};
use super::ranges::Ranges;
use super::{AnyGtid, BinlogFlavor, GtidPosition, GtidSet, INTERVALS_MAX, Interval, MariaGtid};

/// A set of transactions, of MySQL or of MariaDB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GtidNames {
    /// Of MySQL, where a position is such a set itself.
    MySql(GtidSet),
    /// Of MariaDB.
    Maria(MariaNames),
}

/// Transactions of MariaDB. Unlike its positions it has nothing that was not added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MariaNames {
    // By domain and server. Invariant: no value is empty; `intervals` is how many runs all of them have together.
    streams: BTreeMap<(u32, u32), Ranges>,
    intervals: usize,
}

impl GtidNames {
    /// The set of nothing.
    #[must_use]
    pub const fn new(flavor: BinlogFlavor) -> Self {
        match flavor {
            BinlogFlavor::MySql => Self::MySql(GtidSet::new()),
            BinlogFlavor::MariaDb => Self::Maria(MariaNames::new()),
        }
    }

    /// Reads what its `Display` prints.
    ///
    /// # Errors
    ///
    /// It is something else.
    pub fn parse(flavor: BinlogFlavor, text: &str) -> Result<Self, ParseGtidError> {
        match flavor {
            BinlogFlavor::MySql => Ok(Self::MySql(text.parse()?)),
            BinlogFlavor::MariaDb => Ok(Self::Maria(text.parse()?)),
        }
    }

    /// Adds one transaction. One of the other product is not added; returns whether it is of this one.
    ///
    /// # Errors
    ///
    /// See [`GtidSet::insert`].
    pub fn insert(&mut self, gtid: AnyGtid) -> Result<bool, TooManyIntervals> {
        match (self, gtid) {
            (Self::MySql(set), AnyGtid::MySql(gtid)) => set.insert(gtid).map(|_| true),
            (Self::Maria(names), AnyGtid::Maria(gtid)) => names.insert(gtid).map(|()| true),
            (Self::MySql(_), AnyGtid::Maria(_)) | (Self::Maria(_), AnyGtid::MySql(_)) => Ok(false),
        }
    }

    /// Adds all that `other` has, if it is of the same product.
    ///
    /// # Errors
    ///
    /// See [`GtidSet::insert`]. Some of it may have been added.
    pub fn union(&mut self, other: &Self) -> Result<(), TooManyIntervals> {
        match (self, other) {
            (Self::MySql(set), Self::MySql(other)) => set.union(other),
            (Self::Maria(names), Self::Maria(other)) => names.union(other),
            (Self::MySql(_), Self::Maria(_)) | (Self::Maria(_), Self::MySql(_)) => Ok(()),
        }
    }

    /// Whether it has this transaction.
    #[must_use]
    pub fn contains(&self, gtid: AnyGtid) -> bool {
        match (self, gtid) {
            (Self::MySql(set), AnyGtid::MySql(gtid)) => set.contains(gtid),
            (Self::Maria(names), AnyGtid::Maria(gtid)) => names.contains(gtid),
            (Self::MySql(_), AnyGtid::Maria(_)) | (Self::Maria(_), AnyGtid::MySql(_)) => false,
        }
    }

    /// Whether all of them are at or before this position.
    #[must_use]
    pub fn is_within(&self, position: &GtidPosition) -> bool {
        match (self, position) {
            (Self::MySql(set), GtidPosition::MySql(position)) => set.is_subset(position),
            (Self::Maria(names), GtidPosition::Maria(position)) => {
                names.iter().all(|(first, through)| {
                    position.contains(MariaGtid { sequence: through, ..first })
                })
            }
            (Self::MySql(set), GtidPosition::Maria(_)) => set.is_empty(),
            (Self::Maria(names), GtidPosition::MySql(_)) => names.is_empty(),
        }
    }
}

impl fmt::Display for GtidNames {
    /// Prints `uuid:1-5` or `domain-server-1:5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MySql(set) => set.fmt(f),
            Self::Maria(names) => names.fmt(f),
        }
    }
}

impl MariaNames {
    /// The set of nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { streams: BTreeMap::new(), intervals: 0 }
    }

    /// Whether it has no transaction.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// All runs: the first transaction of each, and the number of the last one.
    fn iter(&self) -> impl Iterator<Item = (MariaGtid, u64)> {
        self.streams.iter().flat_map(|((domain, server), ranges)| {
            ranges.iter().map(|Interval { from, through }| {
                (MariaGtid { domain: *domain, server: *server, sequence: *from }, *through)
            })
        })
    }

    fn contains(&self, gtid: MariaGtid) -> bool {
        let ranges = self.streams.get(&(gtid.domain, gtid.server));
        ranges.is_some_and(|ranges| ranges.contains(gtid.sequence))
    }

    fn insert(&mut self, gtid: MariaGtid) -> Result<(), TooManyIntervals> {
        self.insert_run(gtid, gtid.sequence)
    }

    fn union(&mut self, other: &Self) -> Result<(), TooManyIntervals> {
        other.iter().try_for_each(|(first, through)| self.insert_run(first, through))
    }

    fn insert_run(&mut self, first: MariaGtid, through: u64) -> Result<(), TooManyIntervals> {
        let MariaGtid { domain, server, sequence } = first;
        let run = Interval { from: sequence, through };
        let joins = self.streams.get(&(domain, server)).is_some_and(|ranges| ranges.touches(run));
        if INTERVALS_MAX <= self.intervals && !joins {
            return Err(TooManyIntervals);
        }
        let ranges = self.streams.entry((domain, server)).or_default();
        let before = ranges.len();
        ranges.insert(run);
        self.intervals = self.intervals.saturating_sub(before).saturating_add(ranges.len());
        Ok(())
    }
}

impl fmt::Display for MariaNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, through)) in self.iter().enumerate() {
            write!(f, "{}{first}", if at == 0 { "" } else { "," })?;
            if first.sequence != through {
                write!(f, ":{through}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for MariaNames {
    type Err = ParseGtidError;

    /// Reads what its `Display` prints.
    fn from_str(text: &str) -> Result<Self, ParseGtidError> {
        let mut names = Self::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let error = |fault| ParseGtidError::new(part, fault);
            let (first, through) = part.split_once(':').unwrap_or((part, ""));
            let first: MariaGtid = first.parse()?;
            let through = match through {
                "" => first.sequence,
                digits => digits.parse().map_err(|_| error(GtidFault::Maria))?,
            };
            if through < first.sequence {
                return Err(error(GtidFault::Backwards));
            }
            names.insert_run(first, through).map_err(|_| error(GtidFault::TooMany))?;
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::{AnyGtid, BinlogFlavor, GtidNames, GtidPosition};

    const UUID: &str = "4c658ae6-e8ad-11ef-8449-0242ac140006";

    fn maria(text: &str) -> AnyGtid {
        AnyGtid::Maria(text.parse().unwrap())
    }

    fn mysql(number: u64) -> AnyGtid {
        AnyGtid::MySql(alloc::format!("{UUID}:{number}").parse().unwrap())
    }

    #[test]
    fn names_have_what_was_added_and_nothing_before_it() {
        let mut names = GtidNames::new(BinlogFlavor::MariaDb);
        for text in ["0-1-7", "0-1-8", "0-1-10", "5-2-1", "0-3-9"] {
            assert_eq!(names.insert(maria(text)), Ok(true));
        }
        assert_eq!(names.insert(mysql(1)), Ok(false));
        assert_eq!(names.to_string(), "0-1-7:8,0-1-10,0-3-9,5-2-1");
        assert_eq!(GtidNames::parse(BinlogFlavor::MariaDb, &names.to_string()), Ok(names.clone()));
        assert!(names.contains(maria("0-1-8")) && !names.contains(maria("0-1-9")));
        assert!(!names.contains(maria("0-1-6")) && !names.contains(mysql(7)));
        for text in ["0-1", "0-1-5:4", "0-1-5:x", "0-1-5:6:7"] {
            assert!(GtidNames::parse(BinlogFlavor::MariaDb, text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_within_a_position_when_all_of_them_are() {
        let of = |text: &str| GtidNames::parse(BinlogFlavor::MariaDb, text).unwrap();
        let at = |text: &str| GtidPosition::parse(BinlogFlavor::MariaDb, text).unwrap();
        assert!(of("0-1-7:8,5-2-1").is_within(&at("0-1-8,5-2-1")));
        assert!(!of("0-1-7:8,5-2-1").is_within(&at("0-1-7,5-2-1")));
        assert!(!of("0-1-7:8,5-2-1").is_within(&at("0-1-8")));
        let mut names = GtidNames::new(BinlogFlavor::MySql);
        let added = names.insert(mysql(3)).and_then(|_| names.insert(mysql(4)));
        assert_eq!(added, Ok(true));
        let within =
            |text: &str| names.is_within(&GtidPosition::parse(BinlogFlavor::MySql, text).unwrap());
        assert!(within(&alloc::format!("{UUID}:1-5")));
        assert!(!within(&alloc::format!("{UUID}:1-3")));
        let mut both = GtidNames::new(BinlogFlavor::MySql);
        assert_eq!(both.union(&names), Ok(()));
        assert_eq!(both, names);
    }
}
