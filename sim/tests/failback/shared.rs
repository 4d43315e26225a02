//! Rows are staged in a database, which two programs share.
use std::time::Duration;

use replicator_core::dialect::Product;
use replicator_io::replicate::start::Consistency;
use sim::cluster::failback::steps::{Setting, Step, play_in};
use sim::cluster::{Outcome, Report};

/// Without a window.
const CONSISTENT: Consistency = Consistency::Consistent { window: Duration::ZERO };

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
            (18_000, Step::Restart("other")),
            (20_000, Step::Stop),
            (20_010, Step::Delete("parent", 4)),
        ];
        let report = play_in(&staged_in(database), &steps);
        arrived(&report);
        // The first two were killed, the third was asked to stop: it saved its position and gave its lease back at
        // once.
        let turns = millis_of(&report, TAKES_OVER);
        assert!(2 < turns.len() && turns[2] < 22_000, "{turns:?} {:#?}", report.trace);
    }
}

/// A connection that lost something while a run begins stands still. It is given up within seconds, whatever the
/// run was asking.
#[test]
fn a_connection_to_staging_that_is_dead_when_a_run_begins_is_given_up_soon() {
    for at in (7_000..7_160).step_by(20) {
        let steps = [
            (1_000, Step::Insert("plain", &[1, 0, 0])),
            (1_000, Step::Kill("other")),
            (3_000, Step::Kill("replicator")),
            // It takes over when the lease has ended.
            (4_000, Step::Restart("other")),
            (at, Step::Partition("other", "staging")),
            (at + 300, Step::Repair("other", "staging")),
            (11_000, Step::Insert("plain", &[2, 0, 0])),
            (60_000, Step::Insert("plain", &[3, 0, 0])),
        ];
        let report = play_in(&staged_in(Product::Postgres), &steps);
        arrived(&report);
        let commits = millis_of(&report, "target     commits");
        let second = commits.iter().find(|time| 11_000 <= **time);
        let soon = second.is_some_and(|time| *time < 40_000);
        assert!(soon, "{at}: {second:?} {:#?}", report.trace);
    }
}

/// The row that a dead program had sent to a slow CockroachDB, which does it when another one has begun, and has
/// brought what is newer.
fn sent_by_a_dead_program(setting: &Setting, back: Option<u64>) -> Report {
    let mut steps = vec![
        (1_000, Step::Insert("plain", &[1, 0, 0])),
        (3_000, Step::Delay(20_000)),
        (3_100, Step::Replace("plain", &[1, 1, 0])),
        (3_500, Step::Kill("replicator")),
        (3_600, Step::Delay(0)),
    ];
    steps.extend(back.map(|at| (at, Step::Restart("replicator"))));
    steps.push((12_000, Step::Replace("plain", &[1, 2, 0])));
    steps.push((140_000, Step::Insert("plain", &[2, 0, 0])));
    let setting = Setting { target: Product::Cockroach, progress: true, ..setting.clone() };
    let report = play_in(&setting, &steps);
    arrived(&report);
    let commits = millis_of(&report, "target     commits");
    assert!(commits.iter().any(|at| (12_000..20_000).contains(at)), "{:#?}", report.trace);
    report
}

/// CockroachDB cannot be asked whether a dead session still works. Each transaction asks the table of progress.
#[test]
fn i7_what_another_program_had_sent_is_refused_by_a_table_of_progress() {
    let report = sent_by_a_dead_program(&staged_in(Product::Postgres), None);
    assert_eq!(millis_of(&report, TAKES_OVER).len(), 1, "{:#?}", report.trace);
}

/// Also where the next run has other lanes than the one before.
#[test]
fn i7_what_was_sent_in_another_mode_is_refused_by_a_table_of_progress() {
    let consistency = vec![CONSISTENT, Consistency::BestEffort];
    for consistency in [consistency.clone(), consistency.into_iter().rev().collect()] {
        let setting = Setting { consistency, ..Setting::default() };
        let report = sent_by_a_dead_program(&setting, Some(4_000));
        assert!(1 < millis_of(&report, "conveyor begins").len(), "{:#?}", report.trace);
    }
}
