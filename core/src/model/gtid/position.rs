//! Transactions and positions of either product.
use core::fmt;

use super::{Gtid, GtidSet, MariaGtid, MariaPosition, ParseGtidError, TooManyIntervals};

/// Whose binary log it is. They differ in how transactions are named, in which columns have a character set, and in
/// the numbers of collations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BinlogFlavor {
    /// MySQL 5.7 and later.
    MySql,
    /// MariaDB 10.5 and later.
    MariaDb,
}

/// One transaction, of MySQL or of MariaDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnyGtid {
    /// Of MySQL.
    MySql(Gtid),
    /// Of MariaDB.
    Maria(MariaGtid),
}

impl fmt::Display for AnyGtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MySql(gtid) => gtid.fmt(f),
            Self::Maria(gtid) => gtid.fmt(f),
        }
    }
}

/// Which transactions somebody has, of MySQL or of MariaDB: where a stream goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GtidPosition {
    /// Of MySQL.
    MySql(GtidSet),
    /// Of MariaDB.
    Maria(MariaPosition),
}

impl fmt::Display for GtidPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MySql(set) => set.fmt(f),
            Self::Maria(position) => position.fmt(f),
        }
    }
}

impl GtidPosition {
    /// Reads what a server of this product prints, or what people write.
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

    /// Whether it is before everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::MySql(set) => set.is_empty(),
            Self::Maria(position) => position.is_empty(),
        }
    }

    /// Whether this transaction is at or before it. One of the other product is not.
    #[must_use]
    pub fn contains(&self, gtid: AnyGtid) -> bool {
        match (self, gtid) {
            (Self::MySql(set), AnyGtid::MySql(gtid)) => set.contains(gtid),
            (Self::Maria(position), AnyGtid::Maria(gtid)) => position.contains(gtid),
            (Self::MySql(_), AnyGtid::Maria(_)) | (Self::Maria(_), AnyGtid::MySql(_)) => false,
        }
    }

    /// Whether `other` has all that it has.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::MySql(set), Self::MySql(other)) => set.is_subset(other),
            (Self::Maria(position), Self::Maria(other)) => position.is_subset(other),
            (Self::MySql(_), Self::Maria(_)) | (Self::Maria(_), Self::MySql(_)) => self.is_empty(),
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
            (Self::Maria(position), AnyGtid::Maria(gtid)) => position.advance(gtid).map(|()| true),
            (Self::MySql(_), AnyGtid::Maria(_)) | (Self::Maria(_), AnyGtid::MySql(_)) => Ok(false),
        }
    }
}
