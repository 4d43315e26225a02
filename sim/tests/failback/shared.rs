//! Rows are staged in a database, which two programs share.
use replicator_core::dialect::Product;
use sim::cluster::failback::steps::{Setting, Step, play_in};
use sim::cluster::{Outcome, Report};

use super::millis_of;

/// What a program logs when it goes on in the place of another one.
const TAKES_OVER: &str = "the other replicator has ended; taking over";

const PRODUCTS: [Product; 2] = [Product::Postgres, Product::Cockroach];

fn arrived(report: &Report) {
    assert_eq!(report.outcome, Outcome::Arrived, "{:#?}", report.trace);
}

fn staged_in(database: Product) -> Setting {
    Setting { database: Some(database), shared: true, ..Setting::default() }
}

/// The hosts that the first program talks to.
const OTHERS: [&str; 3] = ["feeder", "target", "staging"];

/// The first program's lease ends while nothing passes between it and all others. What it had sent arrives half a
/// minute later, when the second one has gone on.
#[test]
fn w29_a_holder_that_stands_still_for_half_a_minute_changes_nothing_when_it_is_back() {
    for database in PRODUCTS {
        let mut steps = vec![(1_000, Step::Fill("parent", 4)), (3_000, Step::Fill("child", 4))];
        steps.extend(OTHERS.map(|host| (3_060, Step::Hold("replicator", host))));
        steps.push((20_000, Step::Replace("child", &[1, 2, 9])));
        steps.push((30_000, Step::Delete("child", 2)));
        steps.extend(OTHERS.map(|host| (40_000, Step::Release("replicator", host))));
        steps.push((41_000, Step::Replace("child", &[3, 1, 9])));
        steps.push((45_000, Step::Kill("other")));
        steps.push((46_000, Step::Delete("child", 4)));
        let report = play_in(&staged_in(database), &steps);
        arrived(&report);
        let over = millis_of(&report, TAKES_OVER);
        let (first, last) = (over[0], over[over.len() - 1]);
        assert!((5_000..9_000).contains(&first), "{over:?} {:#?}", report.trace);
        assert!(45_000 < last, "nobody took over from the second one: {over:?}");
        let commits = millis_of(&report, "target     commits");
        assert!(commits.iter().any(|at| (first..40_000).contains(at)), "{:#?}", report.trace);
    }
}

/// Whoever brings rows waits. Nothing is lost of what was answered before, nor of what came meanwhile.
#[test]
fn a_staging_database_that_is_away_for_five_minutes_loses_nothing() {
    const BACK: u64 = 305_000;
    for database in PRODUCTS {
        let steps = [
            (1_000, Step::Fill("parent", 30)),
            (5_000, Step::Kill("staging")),
            (5_010, Step::Fill("child", 30)),
            (100_000, Step::Delete("child", 7)),
            (200_000, Step::Stop),
            (BACK, Step::Restart("staging")),
            (BACK + 10_000, Step::Replace("child", &[8, 1, 1])),
        ];
        let report = play_in(&staged_in(database), &steps);
        arrived(&report);
        let commits = millis_of(&report, "target     commits");
        let meanwhile = |at: &&u64| (6_000..BACK).contains(*at);
        assert_eq!(commits.iter().find(meanwhile), None, "{:#?}", report.trace);
        // It goes on within seconds.
        let after = commits.iter().find(|at| BACK <= **at);
        assert!(after.is_some_and(|at| *at < BACK + 10_000), "{after:?} {:#?}", report.trace);
    }
}

/// Whichever of them is asked to stop, the other one has what it had promised.
#[test]
fn programs_that_take_turns_keep_what_each_other_has_answered() {
    for database in PRODUCTS {
        let steps = [
            (1_000, Step::Fill("parent", 4)),
            (3_000, Step::Replace("parent", &[1, 7])),
            (3_040, Step::Kill("replicator")),
            (5_000, Step::Delete("parent", 2)),
            (6_000, Step::Restart("replicator")),
            (12_000, Step::Fill("child", 1)),
            (12_060, Step::Kill("other")),
            (13_000, Step::Replace("child", &[1, 3, 3])),
            (14_000, Step::Restart("other")),
            (20_000, Step::Stop),
            (20_010, Step::Delete("parent", 4)),
        ];
        let report = play_in(&staged_in(database), &steps);
        arrived(&report);
        // The first two were killed, the third was asked to stop: it saved its position when that was due, and
        // gave its lease back.
        let turns = millis_of(&report, TAKES_OVER);
        assert!(2 < turns.len() && turns[2] < 24_500, "{turns:?} {:#?}", report.trace);
    }
}
