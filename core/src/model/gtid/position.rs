//! Transactions and positions of either product.
use core::fmt;

use super::{Gtid, GtidSet, MariaGtid, MariaPosition, TooManyIntervals};

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
