//! Row locks, and who waits for whom.
use std::collections::{BTreeMap, BTreeSet};

use super::error::{Halt, SqlError};
use super::value::Value;

/// The strength of a lock (PostgreSQL documentation, "Row-Level Locks").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    /// `FOR KEY SHARE`: the row and its key stay. A reference to it takes this.
    KeyShare,
    /// `FOR SHARE`: the row stays as it is.
    Share,
    /// `FOR NO KEY UPDATE`: values change that no reference can mean.
    Change,
    /// `FOR UPDATE`: the row goes, or comes, or gets another key.
    Exclusive,
}

/// What can be locked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lock {
    /// A row of a table by its key, whether or not it is there.
    Row(usize, Vec<Value>),
    /// A table: shared by all who write to it.
    Table(usize),
    /// Values in a unique index of a table. Whoever meets a row of an open transaction there waits for
    /// its end (`_bt_check_unique` in the server's nbtinsert.c).
    Unique(usize, usize, Vec<Value>),
}

/// All locks of a server. Sessions are meant by their numbers.
#[derive(Debug, Default)]
pub(super) struct Locks {
    held: BTreeMap<Lock, BTreeMap<u64, Mode>>,
    of: BTreeMap<u64, BTreeSet<Lock>>,
    waits: BTreeMap<u64, BTreeSet<u64>>,
}

/// The table of conflicts in the documentation, as a sum.
fn clash(a: Mode, b: Mode) -> bool {
    let weight = |mode: Mode| match mode {
        Mode::KeyShare => 0,
        Mode::Share => 1,
        Mode::Change => 2,
        Mode::Exclusive => 3,
    };
    3 <= weight(a) + weight(b)
}

impl Locks {
    /// Takes a lock until the session's transaction ends.
    pub(super) fn take(&mut self, session: u64, lock: Lock, mode: Mode) -> Result<(), Halt> {
        self.probe(session, &lock, mode)?;
        let had = self.held.entry(lock.clone()).or_default().entry(session).or_insert(mode);
        *had = mode.max(*had);
        self.of.entry(session).or_default().insert(lock);
        Ok(())
    }

    /// Whether a lock could be taken.
    pub(super) fn probe(&self, session: u64, lock: &Lock, mode: Mode) -> Result<(), Halt> {
        let holders = self.held.get(lock).into_iter().flatten();
        let others = holders.filter(|(holder, held)| **holder != session && clash(mode, **held));
        let others: BTreeSet<u64> = others.map(|(holder, _)| *holder).collect();
        if others.is_empty() { Ok(()) } else { Err(Halt::Wait(others)) }
    }

    /// A transaction has ended.
    pub(super) fn release(&mut self, session: u64) {
        self.waits.remove(&session);
        for lock in self.of.remove(&session).unwrap_or_default() {
            let holders = self.held.get_mut(&lock).expect("a lock of a session is held");
            holders.remove(&session);
            if holders.is_empty() {
                self.held.remove(&lock);
            }
        }
    }

    /// A session begins to wait. Fails if it would wait for itself.
    pub(super) fn wait(&mut self, session: u64, on: BTreeSet<u64>) -> Result<(), SqlError> {
        self.waits.insert(session, on);
        let mut seen = BTreeSet::new();
        let mut next: Vec<u64> = self.waits[&session].iter().copied().collect();
        while let Some(other) = next.pop() {
            if other == session {
                self.waits.remove(&session);
                return Err(SqlError::new("40P01", "deadlock detected"));
            }
            if seen.insert(other) {
                next.extend(self.waits.get(&other).into_iter().flatten());
            }
        }
        Ok(())
    }

    /// A session waits no more.
    pub(super) fn woke(&mut self, session: u64) {
        self.waits.remove(&session);
    }
}

#[cfg(test)]
mod tests {
    use super::{Lock, Locks, Mode, clash};
    use crate::cluster::sql::error::Halt;

    #[test]
    fn locks_clash_as_the_manual_says() {
        let modes = [Mode::KeyShare, Mode::Share, Mode::Change, Mode::Exclusive];
        let table: Vec<Vec<bool>> =
            modes.iter().map(|a| modes.iter().map(|b| clash(*a, *b)).collect()).collect();
        let expected = [
            [false, false, false, true],
            [false, false, true, true],
            [false, true, true, true],
            [true, true, true, true],
        ];
        assert_eq!(table, expected);
    }

    #[test]
    fn the_session_that_closes_a_circle_is_told() {
        let row = |number| Lock::Row(0, vec![super::Value::Int(number)]);
        let mut locks = Locks::default();
        locks.take(1, row(1), Mode::Exclusive).unwrap();
        locks.take(2, row(2), Mode::Exclusive).unwrap();
        let Err(Halt::Wait(on)) = locks.take(1, row(2), Mode::Change) else { panic!("taken") };
        assert_eq!(locks.wait(1, on), Ok(()));
        let Err(Halt::Wait(on)) = locks.take(2, row(1), Mode::Share) else { panic!("taken") };
        assert_eq!(locks.wait(2, on).unwrap_err().code, "40P01");
        locks.release(2);
        assert_eq!(locks.take(1, row(2), Mode::Change), Ok(()));
    }
}
