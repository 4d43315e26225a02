//! Locks of numbers that sessions hold until they end (PostgreSQL documentation, "Advisory Lock Functions").
use std::collections::{BTreeMap, BTreeSet};

use super::describe::Shape;
use super::error::SqlError;
use super::value::Base;

/// Who holds which numbers.
#[derive(Debug, Default)]
pub(super) struct Advisory {
    shares: BTreeMap<i64, BTreeSet<u64>>,
    whole: BTreeMap<i64, u64>,
}

/// A call of one of the functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Share(i64),
    Whole(i64),
    GiveBack(i64),
    /// Ends the sessions that hold it.
    End(i64),
}

/// How the sessions are ended that hold a number, up to its halves.
const END: &str = "SELECT pg_catalog.pg_terminate_backend(l.pid) FROM pg_catalog.pg_locks l ";

/// The name of a function, and what a call of it is.
type Function = (&'static str, fn(i64) -> Call);

const FUNCTIONS: [Function; 3] = [
    ("pg_try_advisory_lock_shared", Call::Share),
    ("pg_try_advisory_lock", Call::Whole),
    ("pg_advisory_unlock", Call::GiveBack),
];

impl Call {
    /// The call that a question is, if it is nothing else.
    pub(super) fn of(sql: &str) -> Option<Self> {
        Self::named(sql).map(|(_, call)| call)
    }

    fn named(sql: &str) -> Option<(&'static str, Self)> {
        if sql.starts_with(END) {
            let (high, low) = (quoted(sql, "l.classid = ")?, quoted(sql, "l.objid = ")?);
            let number = (u64::from(high) << 32) | u64::from(low);
            return Some(("pg_terminate_backend", Self::End(number.cast_signed())));
        }
        let call = sql.trim().strip_prefix("SELECT pg_catalog.")?;
        FUNCTIONS.iter().find_map(|(name, of)| {
            let number = call.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')?;
            Some((*name, of(number.parse().ok()?)))
        })
    }

    /// What it returns.
    pub(super) fn shape(sql: &str) -> Result<Shape, SqlError> {
        let (name, _) = Self::named(sql).ok_or_else(|| SqlError::unknown(sql))?;
        Ok(Shape { params: Vec::new(), columns: vec![(name.to_owned(), Base::Bool.one())] })
    }
}

/// The number in quotes that follows.
fn quoted(sql: &str, after: &str) -> Option<u32> {
    let (_, rest) = sql.split_once(after)?;
    rest.strip_prefix('\'')?.split_once('\'')?.0.parse().ok()
}

impl Advisory {
    /// Other sessions that hold a number or a share of it.
    pub(super) fn holders(&self, session: u64, number: i64) -> Vec<u64> {
        let shares = self.shares.get(&number).into_iter().flatten();
        let holders = shares.chain(self.whole.get(&number)).copied();
        holders.filter(|holder| *holder != session).collect()
    }

    /// Whether it could be done. Nobody waits.
    pub(super) fn call(&mut self, session: u64, call: Call) -> bool {
        match call {
            Call::End(number) => !self.holders(session, number).is_empty(),
            Call::Share(number) => {
                let free = self.whole.get(&number).is_none_or(|holder| *holder == session);
                if free {
                    self.shares.entry(number).or_default().insert(session);
                }
                free
            }
            Call::Whole(number) => {
                let free = self.holders(session, number).is_empty();
                if free {
                    self.whole.insert(number, session);
                }
                free
            }
            Call::GiveBack(number) => {
                let had = self.whole.get(&number) == Some(&session);
                if had {
                    self.whole.remove(&number);
                }
                had
            }
        }
    }

    /// A session has ended.
    pub(super) fn release(&mut self, session: u64) {
        self.whole.retain(|_, holder| *holder != session);
        self.shares.retain(|_, holders| {
            holders.remove(&session);
            !holders.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{Advisory, Call, END};

    #[test]
    fn a_number_is_had_whole_when_nobody_has_a_share() {
        let mut locks = Advisory::default();
        assert!(locks.call(1, Call::Share(-7)) && locks.call(2, Call::Share(-7)));
        assert!(!locks.call(3, Call::Whole(-7)) && locks.call(3, Call::Whole(8)));
        locks.release(1);
        assert!(!locks.call(3, Call::Whole(-7)));
        locks.release(2);
        assert!(locks.call(3, Call::Whole(-7)) && !locks.call(1, Call::Share(-7)));
        assert!(locks.call(3, Call::GiveBack(-7)) && !locks.call(3, Call::GiveBack(-7)));
        assert!(locks.call(1, Call::Share(-7)));
    }

    #[test]
    fn a_call_is_known_by_its_name() {
        let of = |call: &str| Call::of(&format!("SELECT pg_catalog.{call}"));
        assert_eq!(of("pg_try_advisory_lock_shared(-5)"), Some(Call::Share(-5)));
        assert_eq!(of("pg_try_advisory_lock(5)"), Some(Call::Whole(5)));
        assert_eq!(of("pg_advisory_unlock(5)"), Some(Call::GiveBack(5)));
        assert_eq!(of("pg_advisory_lock(5)"), None);
        let end = format!("{END} WHERE l.classid = '4294967295'::OID AND l.objid = '7'::OID");
        assert_eq!(Call::of(&end), Some(Call::End(7 - (1 << 32))));
    }
}
