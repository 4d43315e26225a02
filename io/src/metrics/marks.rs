//! How old the target is, told from the positions that the source has sent.
//!
//! Each position is remembered with the time at which the source was there: the commit time of a
//! transaction, or our own time if the source said that it is idle. The newest mark at or before what
//! is applied says from when the target is.
use std::collections::VecDeque;

use replicator_core::model::position::Position;
use replicator_core::model::time::WallTime;

/// Marks closer than this are one, so that a fast stream needs few.
const STEP_MICROS: i64 = 20_000;

/// At most this many marks are waiting. Beyond, the newest one grows.
const MARKS_MAX: usize = 8_192;

/// See the [module docs](self).
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// What is not applied yet, in stream order.
    waiting: VecDeque<Mark>,
    received: Option<WallTime>,
    applied: Option<WallTime>,
}

/// A run of positions.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// When the source was at the first one.
    first: WallTime,
    /// When the source was at the last one.
    last: WallTime,
    /// The last one.
    through: Position,
}

impl Marks {
    /// The source was at `through` at `time`. One that goes back is a stream that is read again.
    pub(super) fn push(&mut self, through: Position, time: WallTime) {
        if self.waiting.back().is_some_and(|last| through < last.through) {
            self.waiting.clear();
        }
        self.received = self.received.max(Some(time));
        let full = self.waiting.len() >= MARKS_MAX;
        match self.waiting.back_mut() {
            Some(mark)
                if full || time.micros.saturating_sub(mark.first.micros).abs() < STEP_MICROS =>
            {
                mark.last = mark.last.max(time);
                mark.through = through;
            }
            Some(_) | None => self.waiting.push_back(Mark { first: time, last: time, through }),
        }
    }

    /// Everything up to `position` is in the target.
    pub(super) fn applied(&mut self, position: Position) {
        while let Some(mark) = self.waiting.front()
            && mark.through <= position
        {
            self.applied = self.applied.max(Some(mark.last));
            self.waiting.pop_front();
        }
    }

    /// From when the newest thing is that the source has sent.
    pub(super) fn received_time(&self) -> Option<WallTime> {
        self.received
    }

    /// From when the target is.
    pub(super) fn applied_time(&self) -> Option<WallTime> {
        self.applied
    }
}

#[cfg(test)]
mod tests {
    use replicator_core::model::position::{Lsn, Position};
    use replicator_core::model::time::WallTime;

    use super::{MARKS_MAX, Marks};

    fn lsn(lsn: u64) -> Position {
        Position::Lsn(Lsn(lsn))
    }

    fn second(second: i64) -> WallTime {
        WallTime { micros: second * 1_000_000 }
    }

    #[test]
    fn the_target_is_as_old_as_the_newest_mark_applied() {
        let mut marks = Marks::default();
        assert_eq!(marks.applied_time(), None);
        for number in 1_i64..=3 {
            marks.push(lsn(number.unsigned_abs()), second(number));
        }
        assert_eq!(marks.received_time(), Some(second(3)));
        marks.applied(lsn(2));
        assert_eq!(marks.applied_time(), Some(second(2)));
        marks.applied(lsn(9));
        assert_eq!(marks.applied_time(), Some(second(3)));
    }

    #[test]
    fn a_run_of_positions_counts_when_all_of_it_is_applied() {
        let mut marks = Marks::default();
        marks.push(lsn(1), second(1));
        marks.push(lsn(2), WallTime { micros: 1_000_100 });
        marks.applied(lsn(1));
        assert_eq!(marks.applied_time(), None);
        marks.applied(lsn(2));
        assert_eq!(marks.applied_time(), Some(WallTime { micros: 1_000_100 }));
    }

    #[test]
    fn a_stream_that_is_read_again_replaces_what_was_waiting() {
        let mut marks = Marks::default();
        marks.push(lsn(10), second(10));
        marks.push(lsn(20), second(20));
        marks.push(lsn(10), second(10));
        marks.applied(lsn(10));
        assert_eq!(marks.applied_time(), Some(second(10)));
    }

    #[test]
    fn marks_are_bounded() {
        let mut marks = Marks::default();
        for number in 0_u64..20_000 {
            marks.push(lsn(number), second(number.cast_signed()));
        }
        assert_eq!(marks.waiting.len(), MARKS_MAX);
        marks.applied(lsn(u64::MAX));
        assert_eq!(marks.applied_time(), Some(second(19_999)));
    }
}
