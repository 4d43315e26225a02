//! Whether rows of a table are new, guessed by how the last guesses went.
//!
//! A changefeed does not tell an insert from an update. Rows that are new can be copied, which costs the
//! server half of what upserts do. If one of them is there already, the transaction has failed and goes again
//! as upserts. So after each wrong guess twice as many batches go without one, up to a limit.
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use replicator_core::model::mutation::TableId;

/// At least one batch of so many is guessed about, so that inserts after many updates are found out.
const PAUSE_MAX: u32 = 64;

/// What is known of each table.
#[derive(Debug, Default)]
pub(super) struct Guesses(Mutex<BTreeMap<TableId, Guess>>);

#[derive(Clone, Copy, Debug, Default)]
struct Guess {
    /// Batches that go without a guess from now on.
    left: u32,
    /// How many went without one after the last wrong guess; 0 after a right one.
    pause: u32,
}

impl Guesses {
    /// Whether to take the rows of a batch for new ones. A batch without a guess is counted.
    pub(super) fn are_new(&self, table: TableId) -> bool {
        let mut guesses = self.lock();
        let guess = guesses.entry(table).or_default();
        let are_new = guess.left == 0;
        guess.left = guess.left.saturating_sub(1);
        are_new
    }

    /// Rows that were taken for new ones were new.
    pub(super) fn right(&self, table: TableId) {
        self.lock().insert(table, Guess::default());
    }

    /// Rows that were taken for new ones were there already.
    pub(super) fn wrong(&self, table: TableId) {
        let mut guesses = self.lock();
        let guess = guesses.entry(table).or_default();
        guess.pause = guess.pause.saturating_mul(2).clamp(1, PAUSE_MAX);
        guess.left = guess.pause;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TableId, Guess>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use replicator_core::model::mutation::TableId;

    use super::{Guesses, PAUSE_MAX};

    const TABLE: TableId = TableId(3);

    fn pause(guesses: &Guesses) -> u32 {
        (0..).take_while(|_| !guesses.are_new(TABLE)).last().map_or(0, |last| last + 1)
    }

    #[test]
    fn wrong_guesses_become_rare() {
        let guesses = Guesses::default();
        assert_eq!(pause(&guesses), 0);
        for expected in [1, 2, 4, 8, 16, 32, PAUSE_MAX, PAUSE_MAX] {
            guesses.wrong(TABLE);
            assert_eq!(pause(&guesses), expected);
        }
        assert!(guesses.are_new(TableId(4)), "another table is none of its business");
    }

    #[test]
    fn after_a_right_guess_all_rows_are_taken_for_new_ones() {
        let guesses = Guesses::default();
        guesses.wrong(TABLE);
        guesses.wrong(TABLE);
        assert_eq!(pause(&guesses), 2);
        guesses.right(TABLE);
        assert!(guesses.are_new(TABLE));
        assert!(guesses.are_new(TABLE));
    }
}
