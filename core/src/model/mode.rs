//! How much a changefeed's rows wait for each other, and which tables of a schema wait together.
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::catalog::{Catalog, Table};
use super::mutation::TableId;
use super::position::Position;

/// What a run promises about the order in which rows get into the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Source transactions stay whole.
    Consistent,
    /// Those of related tables do; rows of independent tables wait for nothing.
    BestEffort,
}

impl Mode {
    /// What to do `lag` behind the source, after `before`. `window` is how far behind it may be in consistent
    /// mode; zero is as far as it likes. Goes back at a quarter of the window, so as not to swing.
    #[must_use]
    pub fn choose(window: Duration, lag: Duration, before: Option<Self>) -> Self {
        if window.is_zero() || lag <= window.checked_div(4).unwrap_or_default() {
            Self::Consistent
        } else if window <= lag {
            Self::BestEffort
        } else {
            before.unwrap_or(Self::BestEffort)
        }
    }
}

/// The tables of a schema that one machine replicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Lane {
    /// All of them.
    #[default]
    Whole,
    /// Those whose rows depend on others: all but these, also what the target does not have any more.
    Related(Arc<BTreeSet<TableId>>),
    /// These, whose rows depend on no other row: no foreign key connects them with any table, and their key
    /// alone is unique. A value that goes from one row to another could get to the other one first.
    Independent(Arc<BTreeSet<TableId>>),
}

impl Lane {
    /// The lanes of best effort, related tables first. A catalog without related tables has one, and so has one without independent
    /// tables.
    #[must_use]
    pub fn of(catalog: &Catalog) -> Vec<Self> {
        let alone = |(id, table): (TableId, &Table)| {
            let depends =
                !table.foreign_keys.is_empty() || table.referenced || !table.uniques.is_empty();
            (!depends).then_some(id)
        };
        let independent: BTreeSet<TableId> = catalog.tables().filter_map(alone).collect();
        if independent.is_empty() {
            return alloc::vec![Self::Whole];
        }
        let independent = Arc::new(independent);
        let related = Self::Related(Arc::clone(&independent));
        if independent.len() == catalog.tables().count() {
            return alloc::vec![Self::Independent(independent)];
        }
        alloc::vec![related, Self::Independent(independent)]
    }

    /// Whether a table is in it; `None` is one that the target does not have any more.
    #[must_use]
    pub fn has(&self, table: Option<TableId>) -> bool {
        let is_in = |set: &BTreeSet<TableId>| table.is_some_and(|table| set.contains(&table));
        match self {
            Self::Whole => true,
            Self::Related(others) => !is_in(others),
            Self::Independent(these) => is_in(these),
        }
    }
}

/// The checkpoint of a schema: the least of its lanes'. What one of them has in the target beyond that, it
/// finds out by itself.
#[derive(Clone, Debug)]
pub struct Least {
    // One for each lane.
    saved: Vec<Option<Position>>,
}

impl Least {
    /// `lanes` lanes that go on from the same checkpoint.
    #[must_use]
    pub fn resume(lanes: usize, checkpoint: Option<Position>) -> Self {
        Self { saved: alloc::vec![checkpoint; lanes] }
    }

    /// A lane's checkpoint moved. Returns where that leaves the schema's.
    pub fn advance(&mut self, lane: usize, to: Position) -> Option<Position> {
        if let Some(saved) = self.saved.get_mut(lane) {
            *saved = Some(to).max(*saved);
        }
        self.reached()
    }

    /// The schema's checkpoint.
    #[must_use]
    pub fn reached(&self) -> Option<Position> {
        self.saved.iter().min().copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;
    use core::time::Duration;

    use super::{Lane, Least, Mode};
    use crate::model::position::Position;
    use crate::model::time::Hlc;

    #[test]
    fn a_window_has_an_end_and_a_quarter() {
        let window = Duration::from_secs(40);
        let choose = |seconds, before| Mode::choose(window, Duration::from_secs(seconds), before);
        assert_eq!(choose(40, Some(Mode::Consistent)), Mode::BestEffort);
        assert_eq!(choose(39, Some(Mode::Consistent)), Mode::Consistent);
        assert_eq!(choose(11, Some(Mode::BestEffort)), Mode::BestEffort);
        assert_eq!(choose(10, Some(Mode::BestEffort)), Mode::Consistent);
        assert_eq!(choose(20, None), Mode::BestEffort);
        let years = Duration::from_secs(1 << 40);
        assert_eq!(Mode::choose(Duration::ZERO, years, None), Mode::Consistent);
    }

    #[test]
    fn the_least_lane_tells_where_the_schema_is() {
        let at = |nanos| Position::Hlc(Hlc { nanos, logical: 0 });
        let mut least = Least::resume(2, None);
        assert_eq!(least.advance(0, at(5)), None);
        assert_eq!(least.advance(1, at(3)), Some(at(3)));
        assert_eq!(least.advance(1, at(2)), Some(at(3)), "forward only");
        assert_eq!(least.advance(1, at(9)), Some(at(5)));
        assert_eq!(Least::resume(1, Some(at(4))).reached(), Some(at(4)));
    }

    #[test]
    fn tables_whose_rows_depend_on_no_other_row_are_independent() {
        let catalog = crate::fixture::catalog();
        let lanes = Lane::of(&catalog);
        let [related, independent] = lanes.as_slice() else { panic!("{lanes:?}") };
        let of = |lane: &Lane| {
            let names = catalog.tables().filter(|(id, _)| lane.has(Some(*id)));
            let mut names: Vec<&str> = names.map(|(_, table)| &*table.name.table).collect();
            names.sort_unstable();
            names
        };
        assert_eq!(of(related), ["child", "mail", "parent", "tree"]);
        assert_eq!(of(independent), ["nokey", "odd"]);
        assert!(related.has(None) && !independent.has(None));
    }
}
