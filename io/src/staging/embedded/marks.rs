//! How many rows lie between which times, as far as pages were read: so that a retirement need not read them all once
//! more to know how many it is about to remove.
use std::collections::BTreeMap;
use std::ops::Bound::{Included, Unbounded};

use replicator_core::model::time::Hlc;

/// Rows between two marks, about.
const ROWS_BETWEEN: usize = 10_000;

/// What the reads of one lane have found, from where a run began to read.
#[derive(Debug, Default)]
pub(super) struct Marks {
    read_after: Option<Hlc>,
    // Up to which time, and how many rows there were behind the mark before.
    rows: BTreeMap<Hlc, usize>,
}

impl Marks {
    /// A page of so many rows was read.
    pub(super) fn read(&mut self, after: Hlc, through: Hlc, rows: usize) {
        self.read_after.get_or_insert(after);
        let last = self.rows.pop_last();
        match last.filter(|(_, had)| *had < ROWS_BETWEEN) {
            Some((time, had)) => self.rows.insert(through.max(time), had.saturating_add(rows)),
            None => {
                self.rows.extend(last);
                self.rows.insert(through, rows)
            }
        };
    }

    /// Up to which time about `rows_max` rows lie, the first of which is of the time `first`; at most up to `through`.
    /// `None`: not all of them were read.
    pub(super) fn reach(&self, first: Hlc, through: Hlc, rows_max: usize) -> Option<Hlc> {
        self.read_after.filter(|read_after| *read_after < first)?;
        let mut sum: usize = 0;
        let mut marks = self.rows.range((Included(first), Unbounded));
        let full = marks.find(|(_, rows)| {
            sum = sum.saturating_add(**rows);
            rows_max <= sum
        });
        Some(full.map_or(through, |(time, _)| through.min(*time)))
    }

    /// Nothing up to this time is left.
    pub(super) fn forget(&mut self, through: Hlc) {
        while let Some(first) = self.rows.first_entry().filter(|first| *first.key() <= through) {
            first.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use replicator_core::model::time::Hlc;

    use super::Marks;

    const fn at(nanos: u64) -> Hlc {
        Hlc { nanos, logical: 0 }
    }

    #[test]
    fn marks_tell_how_far_so_many_rows_reach() {
        let mut marks = Marks::default();
        assert_eq!(marks.reach(at(5), at(90), 1), None, "nothing was read");
        for page in 1..=8 {
            marks.read(at(page * 10 - 10), at(page * 10), 6_000);
        }
        // Two pages make a mark.
        assert_eq!(marks.reach(at(1), at(75), 20_000), Some(at(40)));
        assert_eq!(marks.reach(at(1), at(30), 20_000), Some(at(30)));
        assert_eq!(marks.reach(at(45), at(75), 20_000), Some(at(75)));
        marks.forget(at(40));
        assert_eq!(marks.reach(at(41), at(79), 12_000), Some(at(60)));
        assert_eq!(marks.reach(at(0), at(75), 20_000), None, "an earlier run has left rows");
    }

    #[test]
    fn many_small_pages_have_few_marks() {
        let mut marks = Marks::default();
        for page in 1..=100_000 {
            marks.read(at(page - 1), at(page), 1);
        }
        assert!(marks.rows.len() <= 11, "{}", marks.rows.len());
        assert_eq!(marks.reach(at(1), at(200_000), 20_000), Some(at(20_000)));
    }
}
