//! MariaDB's identifiers: `domain-server-sequence`, one per domain in a position.
use alloc::collections::BTreeMap;
use core::fmt;
use core::str::FromStr;

use super::INTERVALS_MAX;
use super::error::{GtidFault, ParseGtidError, TooManyIntervals};

/// One transaction of MariaDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MariaGtid {
    /// The stream that it is ordered in (`gtid_domain_id`).
    pub domain: u32,
    /// The server that committed it first.
    pub server: u32,
    /// Its number in the domain.
    pub sequence: u64,
}

impl fmt::Display for MariaGtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.sequence)
    }
}

impl FromStr for MariaGtid {
    type Err = ParseGtidError;

    /// Reads three whole numbers with dashes between them.
    fn from_str(text: &str) -> Result<Self, ParseGtidError> {
        parse(text).ok_or_else(|| ParseGtidError::new(text, GtidFault::Maria))
    }
}

fn parse(text: &str) -> Option<MariaGtid> {
    // The parser of numbers would take a sign.
    if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return None;
    }
    let mut parts = text.split('-');
    let (domain, server, sequence) = (parts.next()?, parts.next()?, parts.next()?);
    let (domain, server) = (domain.parse().ok()?, server.parse().ok()?);
    let gtid = MariaGtid { domain, server, sequence: sequence.parse().ok()? };
    parts.next().is_none().then_some(gtid)
}

/// How far somebody is in each domain of MariaDB (`gtid_slave_pos`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MariaPosition {
    domains: BTreeMap<u32, (u32, u64)>,
}

impl MariaPosition {
    /// Before everything.
    #[must_use]
    pub const fn new() -> Self {
        Self { domains: BTreeMap::new() }
    }

    /// Whether it is before everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// The last transaction of a domain.
    #[must_use]
    pub fn last(&self, domain: u32) -> Option<MariaGtid> {
        let (server, sequence) = *self.domains.get(&domain)?;
        Some(MariaGtid { domain, server, sequence })
    }

    /// The last transaction of each domain, in the order of domains.
    pub fn iter(&self) -> impl Iterator<Item = MariaGtid> {
        self.domains.iter().map(|(domain, (server, sequence))| MariaGtid {
            domain: *domain,
            server: *server,
            sequence: *sequence,
        })
    }

    /// Whether this transaction is at or before it. Only the number counts: servers of a domain
    /// number one stream.
    #[must_use]
    pub fn contains(&self, gtid: MariaGtid) -> bool {
        self.last(gtid.domain).is_some_and(|last| gtid.sequence <= last.sequence)
    }

    /// Whether `other` is as far or farther in every domain.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.iter().all(|gtid| other.contains(gtid))
    }

    /// Goes on to this transaction, which becomes the last of its domain whatever its number is: without
    /// `gtid_strict_mode` numbers of a domain may go back.
    ///
    /// # Errors
    ///
    /// There are more domains than [`INTERVALS_MAX`].
    pub fn advance(&mut self, gtid: MariaGtid) -> Result<(), TooManyIntervals> {
        let known = self.domains.contains_key(&gtid.domain);
        if INTERVALS_MAX <= self.domains.len() && !known {
            return Err(TooManyIntervals);
        }
        self.domains.insert(gtid.domain, (gtid.server, gtid.sequence));
        Ok(())
    }

    /// Forgets a domain, as if nothing of it had been seen.
    pub fn forget(&mut self, domain: u32) {
        self.domains.remove(&domain);
    }
}

impl fmt::Display for MariaPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, gtid) in self.iter().enumerate() {
            write!(f, "{}{gtid}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for MariaPosition {
    type Err = ParseGtidError;

    /// Reads what a server prints. Blanks may stand around every part.
    fn from_str(text: &str) -> Result<Self, ParseGtidError> {
        let mut position = Self::new();
        if text.trim().is_empty() {
            return Ok(position);
        }
        for part in text.split(',').map(str::trim) {
            let gtid: MariaGtid = part.parse()?;
            if position.last(gtid.domain).is_some() {
                return Err(ParseGtidError::new(part, GtidFault::DomainTwice));
            }
            let error = |_| ParseGtidError::new(part, GtidFault::TooMany);
            position.advance(gtid).map_err(error)?;
        }
        Ok(position)
    }
}
