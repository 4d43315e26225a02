//! Runs of numbers of one source, in order.
use alloc::vec::Vec;

use super::Interval;

/// A set of numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    // Invariant: in order, and between two runs at least one number is missing.
    runs: Vec<Interval>,
}

impl Ranges {
    pub(super) const fn len(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn iter(&self) -> core::slice::Iter<'_, Interval> {
        self.runs.iter()
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.covers(Interval { from: number, through: number })
    }

    /// Whether all of `wanted` is there.
    pub(super) fn covers(&self, wanted: Interval) -> bool {
        let first = self.runs.partition_point(|run| run.through < wanted.from);
        let run = self.runs.get(first);
        run.is_some_and(|run| run.from <= wanted.from && wanted.through <= run.through)
    }

    /// Whether `new` would become a part of runs that are there.
    pub(super) fn touches(&self, new: Interval) -> bool {
        let (first, end) = self.touched(new);
        first < end
    }

    /// The runs that overlap with `new` or lie right next to it.
    fn touched(&self, new: Interval) -> (usize, usize) {
        let after = |run: &Interval| run.through.saturating_add(1) < new.from;
        let first = self.runs.partition_point(after);
        let end = self.runs.partition_point(|run| run.from <= new.through.saturating_add(1));
        (first, end.max(first))
    }

    pub(super) fn insert(&mut self, new: Interval) {
        let (first, end) = self.touched(new);
        let touched = self.runs.get(first..end).unwrap_or_default();
        let low = touched.first().map_or(new.from, |run| run.from.min(new.from));
        let high = touched.last().map_or(new.through, |run| run.through.max(new.through));
        let whole = Interval { from: low, through: high };
        if let [_] = touched
            && let Some(run) = self.runs.get_mut(first)
        {
            *run = whole;
            return;
        }
        self.runs.splice(first..end, [whole]);
    }

    /// Whether taking `gone` out makes two runs of one.
    pub(super) fn is_split_by(&self, gone: Interval) -> bool {
        let first = self.runs.partition_point(|run| run.through < gone.from);
        let run = self.runs.get(first);
        run.is_some_and(|run| run.from < gone.from && gone.through < run.through)
    }

    pub(super) fn remove(&mut self, gone: Interval) {
        let first = self.runs.partition_point(|run| run.through < gone.from);
        let end = self.runs.partition_point(|run| run.from <= gone.through).max(first);
        let hit = self.runs.get(first..end).unwrap_or_default();
        let low = hit.first().filter(|run| run.from < gone.from);
        let low = low.map(|run| Interval { through: gone.from.saturating_sub(1), ..*run });
        let high = hit.last().filter(|run| gone.through < run.through);
        let high = high.map(|run| Interval { from: gone.through.saturating_add(1), ..*run });
        self.runs.splice(first..end, low.into_iter().chain(high));
    }
}
