//! A feed's first rows, which are all of one time and come for minutes before anything is promised.
use std::time::Duration;

use replicator_io::replicate::start::Consistency;
use sim::cluster::Outcome;
use sim::cluster::failback::steps::{Setting, Step, play_in};
use sim::cluster::reach::Reached;

use super::millis_of;

/// Related tables wait for the first promise, the others do not; what has changed since the scan comes in between.
#[test]
fn a06_a_first_scan_of_minutes_arrives_with_the_first_promise() {
    let window = Duration::from_secs(30);
    for consistency in [Consistency::BestEffort, Consistency::Consistent { window }] {
        let mut steps = vec![
            (100, Step::Silence(true)),
            (500, Step::Fill("parent", 100)),
            (501, Step::Fill("child", 100)),
            (502, Step::Fill("plain", 100)),
        ];
        // A few rows come, then none for a while.
        for pause in 0..22 {
            let at = 600 + pause * 10_000;
            steps.push((at, Step::Hold("feeder", "replicator")));
            steps.push((at + 9_800, Step::Release("feeder", "replicator")));
        }
        steps.extend([
            (60_000, Step::Replace("plain", &[1, 5, 5])),
            (70_000, Step::Delete("child", 3)),
            (100_000, Step::Kill("replicator")),
            (101_000, Step::Restart("replicator")),
            (110_000, Step::Replace("child", &[4, 5, 5])),
            (120_000, Step::Delete("child", 100)),
            (121_000, Step::Delete("parent", 100)),
            (240_000, Step::Silence(false)),
        ]);
        steps.sort_by_key(|(at, _)| *at);
        let consistency = vec![consistency];
        let setting = Setting { consistency, rows_max: 1, ..Setting::default() };
        let report = play_in(&setting, &steps);
        assert_eq!(report.outcome, Outcome::Arrived, "{:#?}", report.trace);
        let applied = millis_of(&report, "target     commits");
        let early = applied.iter().filter(|time| **time < 240_000).count();
        assert!(10 < early, "{early} transactions before the first promise");
        assert!(50 < report.reach.count(Reached::AheadOfPromise));
        let staged = millis_of(&report, "effect=stage ");
        let spread = staged.iter().filter(|time| 130_000 < **time && **time < 240_000).count();
        assert!(0 < spread, "all rows had come after {:?} ms", staged.last());
    }
}

/// A transaction of two pages, part of which is refused for a while, stays whole.
#[test]
fn w38_a_large_transaction_of_which_a_row_is_refused_stays_whole() {
    for consistency in [Consistency::BestEffort, Setting::default().consistency[0]] {
        let setting = Setting { consistency: vec![consistency], ..Setting::default() };
        let mut steps = vec![(500, Step::Fill("parent", 30))];
        steps.extend(vec![(900, Step::Fail("INSERT", "23503")); 3]);
        steps.extend([
            (1_000, Step::Fill("child", 30)),
            (2_000, Step::Replace("child", &[30, 1, 1])),
            (4_000, Step::Kill("replicator")),
            (4_100, Step::Restart("replicator")),
            (6_000, Step::Delete("child", 1)),
        ]);
        let report = play_in(&setting, &steps);
        assert_eq!(report.outcome, Outcome::Arrived, "{:#?}", report.trace);
        assert_eq!(millis_of(&report, "event=failed").len(), 3);
    }
}
