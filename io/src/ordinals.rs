//! Numbers for the transactions of a source whose positions have no order.
//!
//! A position of MySQL is a set of transactions, and the machine wants positions that come one after the other. So
//! the source numbers what it reads, and here is what each number stands for, until it is of no use any more. A
//! number means something to one run only; what is kept beyond it are the names.
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use replicator_core::model::gtid::{
    AnyGtid, BinlogFlavor, GtidNames, GtidPosition, GtidSet, MariaPosition, TooManyIntervals,
};
use replicator_core::model::position::Position;

/// Where a run began, or how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of the last transaction.
    pub ordinal: u64,
    /// All transactions through that one.
    pub executed: GtidPosition,
    /// Where to go on from, if that is not behind all of them: before XA transactions that had no outcome yet.
    pub held_back: Option<GtidPosition>,
}

/// See the [module docs](self). Clones are the same one.
#[derive(Clone, Debug)]
pub struct Ordinals {
    flavor: BinlogFlavor,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    place: Place,
    // What the target has beyond the place where the run began, by earlier runs.
    applied: GtidNames,
    // Those after it, in their order.
    later: VecDeque<Numbered>,
}

#[derive(Debug)]
struct Numbered {
    gtid: AnyGtid,
    held_back: Option<GtidPosition>,
}

impl Place {
    /// Behind these transactions, and before any that has a number.
    #[must_use]
    pub const fn after(executed: GtidPosition) -> Self {
        Self { ordinal: 0, executed, held_back: None }
    }

    fn go_on(&mut self, numbered: &Numbered) -> Result<(), TooManyIntervals> {
        self.ordinal = self.ordinal.saturating_add(1);
        self.executed.insert(numbered.gtid)?;
        self.held_back.clone_from(&numbered.held_back);
        Ok(())
    }

    /// Where to go on from.
    #[must_use]
    pub fn resumable(&self) -> &GtidPosition {
        self.held_back.as_ref().unwrap_or(&self.executed)
    }
}

impl Ordinals {
    /// Of a run that has not begun yet.
    #[must_use]
    pub fn new(flavor: BinlogFlavor) -> Self {
        let place = Place::after(match flavor {
            BinlogFlavor::MySql => GtidPosition::MySql(GtidSet::new()),
            BinlogFlavor::MariaDb => GtidPosition::Maria(MariaPosition::new()),
        });
        let applied = GtidNames::new(flavor);
        let state = State { place, applied, later: VecDeque::new() };
        Self { flavor, state: Arc::new(Mutex::new(state)) }
    }

    /// The run begins after `place`, and earlier ones have brought `applied` into the target as well.
    pub fn resume(&self, place: Place, applied: GtidNames) {
        *self.lock() = State { place, applied, later: VecDeque::new() };
    }

    /// Where the run began, or what was last forgotten.
    #[must_use]
    pub fn begun(&self) -> Place {
        self.lock().place.clone()
    }

    /// What the target has beyond that, by earlier runs.
    #[must_use]
    pub fn applied(&self) -> GtidNames {
        self.lock().applied.clone()
    }

    /// Whose transactions they are.
    #[must_use]
    pub const fn flavor(&self) -> BinlogFlavor {
        self.flavor
    }

    /// Numbers the next transaction. For `held_back` see [`Place`].
    #[must_use]
    pub fn number(&self, gtid: AnyGtid, held_back: Option<GtidPosition>) -> Position {
        self.lock().later.push_back(Numbered { gtid, held_back });
        self.last()
    }

    /// The last number.
    #[must_use]
    pub fn last(&self) -> Position {
        let state = self.lock();
        let later = u64::try_from(state.later.len()).unwrap_or(u64::MAX);
        Position::Ordinal(state.place.ordinal.saturating_add(later))
    }

    /// What this number stands for, if it was not forgotten.
    ///
    /// # Errors
    ///
    /// The position would have more parts than it may.
    pub fn place(&self, through: Position) -> Result<Place, TooManyIntervals> {
        let state = self.lock();
        let mut place = state.place.clone();
        let count = state.count(through);
        state.later.iter().take(count).try_for_each(|numbered| place.go_on(numbered))?;
        Ok(place)
    }

    /// The names of the transactions after `after` through `through`.
    ///
    /// # Errors
    ///
    /// There would be more parts than there may be.
    pub fn names(
        &self,
        after: Option<Position>,
        through: Position,
    ) -> Result<GtidNames, TooManyIntervals> {
        let state = self.lock();
        let (begin, end) = (after.map_or(0, |after| state.count(after)), state.count(through));
        let mut names = GtidNames::new(self.flavor);
        for numbered in state.later.iter().take(end).skip(begin) {
            names.insert(numbered.gtid)?;
        }
        Ok(names)
    }

    /// Nobody will ask for what is at or before this number, except for the place itself.
    ///
    /// # Errors
    ///
    /// See [`place`](Self::place).
    pub fn forget(&self, through: Position) -> Result<(), TooManyIntervals> {
        let mut state = self.lock();
        let State { place, later, applied: _ } = &mut *state;
        for _ in 0..count(place, through).min(later.len()) {
            let Some(numbered) = later.pop_front() else { break };
            place.go_on(&numbered)?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&self, through: Position) -> usize {
        count(&self.place, through).min(self.later.len())
    }
}

/// How many transactions there are after `place` through a position.
fn count(place: &Place, through: Position) -> usize {
    let Position::Ordinal(through) = through else {
        panic!("transactions of this source have numbers, not positions such as {through}")
    };
    usize::try_from(through.saturating_sub(place.ordinal)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use replicator_core::model::gtid::{AnyGtid, BinlogFlavor, GtidPosition};
    use replicator_core::model::position::Position;

    use super::{GtidNames, Ordinals, Place};

    fn begun(place: Place) -> Ordinals {
        let ordinals = Ordinals::new(BinlogFlavor::MariaDb);
        ordinals.resume(place, GtidNames::new(BinlogFlavor::MariaDb));
        ordinals
    }

    fn at(text: &str) -> GtidPosition {
        GtidPosition::parse(BinlogFlavor::MariaDb, text).unwrap()
    }

    fn gtid(text: &str) -> AnyGtid {
        AnyGtid::Maria(text.parse().unwrap())
    }

    fn numbered(ordinals: &Ordinals, text: &str) -> Position {
        ordinals.number(gtid(text), None)
    }

    #[test]
    fn numbers_go_on_from_where_the_run_began_and_stand_for_all_before_them() {
        let place = Place { ordinal: 7, ..Place::after(at("0-1-5")) };
        let ordinals = begun(place);
        assert_eq!(numbered(&ordinals, "0-1-6"), Position::Ordinal(8));
        assert_eq!(numbered(&ordinals, "3-1-1"), Position::Ordinal(9));
        assert_eq!(numbered(&ordinals, "0-1-7"), Position::Ordinal(10));
        let place = |number| ordinals.place(Position::Ordinal(number)).unwrap();
        assert_eq!(place(8), Place { ordinal: 8, ..Place::after(at("0-1-6")) });
        assert_eq!(place(10), Place { ordinal: 10, ..Place::after(at("0-1-7,3-1-1")) });
        let names = |after, through| {
            let after = Some(Position::Ordinal(after));
            ordinals.names(after, Position::Ordinal(through)).unwrap().to_string()
        };
        assert_eq!(names(7, 9), "0-1-6,3-1-1");
        ordinals.forget(Position::Ordinal(8)).unwrap();
        assert_eq!(names(8, 10), "0-1-7,3-1-1");
        assert_eq!(names(9, 10), "0-1-7");
        assert_eq!(numbered(&ordinals, "0-1-8"), Position::Ordinal(11));
    }

    #[test]
    fn an_open_xa_transaction_holds_back_where_to_go_on_from() {
        let ordinals = begun(Place::after(at("0-1-5")));
        let _before = numbered(&ordinals, "0-1-6");
        let prepared = ordinals.number(gtid("0-1-7"), Some(at("0-1-6")));
        let held = ordinals.number(gtid("0-1-8"), Some(at("0-1-6")));
        let over = numbered(&ordinals, "0-1-9");
        let place = |position| {
            let place = ordinals.place(position).unwrap();
            (place.executed.to_string(), place.resumable().to_string())
        };
        let both = |executed: &str, resumable: &str| (executed.to_owned(), resumable.to_owned());
        assert_eq!(place(prepared), both("0-1-7", "0-1-6"));
        assert_eq!(place(held), both("0-1-8", "0-1-6"));
        assert_eq!(place(over), both("0-1-9", "0-1-9"));
        ordinals.forget(held).unwrap();
        assert_eq!(place(held), both("0-1-8", "0-1-6"));
        assert_eq!(place(over), both("0-1-9", "0-1-9"));
    }
}
