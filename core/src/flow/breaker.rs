//! Beside station 7: whether so many rows are refused that something else must be wrong.
//!
//! A dead letter is for the odd row. If a tenth of all rows is refused, the target has the wrong tables,
//! and going on would only move the data into the dead-letter table.

/// A share means little before this many rows were refused.
const REFUSED_MIN: u64 = 100;
/// Rows that are looked back upon. Then the older half counts for less and less.
const SEEN_MAX: u64 = 20_000;

/// What became of the last rows.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    seen: u64,
    refused: u64,
}

impl Breaker {
    /// Rows were tried.
    pub(crate) fn seen(&mut self, rows: usize) {
        self.seen = self.seen.saturating_add(u64::try_from(rows).unwrap_or(u64::MAX));
        while SEEN_MAX < self.seen {
            self.seen >>= 1_u32;
            self.refused >>= 1_u32;
        }
    }

    /// One of them was refused for good. True if that makes more than `percent_max` of them.
    pub(crate) fn refused(&mut self, percent_max: u8) -> bool {
        self.refused = self.refused.saturating_add(1);
        let share = self.refused.saturating_mul(100);
        REFUSED_MIN <= self.refused && self.seen.saturating_mul(u64::from(percent_max)) < share
    }

    /// Refused rows, and all rows.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.refused, self.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::Breaker;

    #[test]
    fn a_share_counts_only_beyond_the_odd_row() {
        let mut breaker = Breaker::default();
        for row in 1..=100 {
            breaker.seen(1);
            assert_eq!(breaker.refused(10), row == 100, "row {row}");
        }
        assert_eq!(breaker.counts(), (100, 100));
    }

    #[test]
    fn a_small_share_goes_on_for_ever() {
        let mut breaker = Breaker::default();
        for _ in 0..10_000 {
            breaker.seen(11);
            assert!(!breaker.refused(10));
        }
    }

    #[test]
    fn good_rows_of_long_ago_do_not_hide_a_flood_of_bad_ones() {
        let mut breaker = Breaker::default();
        breaker.seen(10_000_000);
        let mut refuse = || {
            breaker.seen(1);
            breaker.refused(10)
        };
        assert!((0..3_000).any(|_| refuse()));
    }

    #[test]
    fn a_limit_of_all_rows_is_no_limit() {
        let mut breaker = Breaker::default();
        for _ in 0..1_000 {
            breaker.seen(1);
            assert!(!breaker.refused(100));
        }
    }
}
