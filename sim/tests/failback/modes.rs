//! What rows wait for changes, or they wait for nothing.
use std::time::Duration;

use replicator_core::dialect::Product;
use replicator_io::replicate::start::Consistency;
use sim::cluster::failback::steps::{Setting, Step, play_in};
use sim::cluster::{Outcome, Report};

use super::millis_of;

/// Without a window.
const CONSISTENT: Consistency = Consistency::Consistent { window: Duration::ZERO };

fn arrived(report: &Report) {
    assert_eq!(report.outcome, Outcome::Arrived, "{:#?}", report.trace);
}

/// In best effort a table gets ahead of what is saved of its schema. The target says how far it is, until the rows are
/// gone from staging; between these two moments the program dies.
#[test]
fn the_target_says_what_it_has_until_nothing_can_bring_it_again() {
    let setting = Setting {
        consistency: vec![Consistency::BestEffort],
        database: Some(Product::Postgres),
        progress: true,
        ..Setting::default()
    };
    let steps = [
        // So that nothing is promised, and the schema's checkpoint stays where it is.
        (0, Step::Silence(true)),
        (3_000, Step::Delay(300)),
        (3_010, Step::Insert("plain", &[1, 1, 1])),
        (3_200, Step::Replace("plain", &[1, 2, 2])),
        (3_500, Step::Hold("replicator", "staging")),
        (7_000, Step::Kill("replicator")),
        (7_000, Step::Release("replicator", "staging")),
        (7_000, Step::Delay(0)),
        (7_500, Step::Restart("replicator")),
        (20_000, Step::Silence(false)),
    ];
    let report = play_in(&setting, &steps);
    arrived(&report);
    let commits = millis_of(&report, "target     commits 1 rows");
    assert!(commits.iter().all(|at| *at < 7_000) && commits.len() == 2, "{commits:?}");
}

/// A run that does not wait for promises stages rows behind all that came before them. Some of them are still there
/// when the next run waits again, and newer versions of these rows come.
#[test]
fn w44_what_did_not_wait_does_not_go_over_what_is_newer() {
    for first in [Consistency::Immediate, Consistency::BestEffort] {
        let setting = Setting {
            consistency: vec![first, CONSISTENT],
            constraints: first != Consistency::Immediate,
            database: Some(Product::Postgres),
            lanes_max: 6,
            rows_max: 1,
            ..Setting::default()
        };
        let mut steps = vec![
            (0, Step::Silence(true)),
            (3_000, Step::Hold("replicator", "staging")),
            (3_010, Step::Insert("plain", &[9, 0, 0])),
            // While that is being staged, the first version of row 1 waits together with what is newer than its second.
            (3_100, Step::Insert("plain", &[1, 1, 1])),
            (3_110, Step::Replace("plain", &[1, 2, 2])),
        ];
        let newer: [&[i64]; 5] = [&[2, 0, 0], &[3, 0, 0], &[4, 0, 0], &[5, 0, 0], &[6, 0, 0]];
        steps.extend(newer.map(|row| (3_200, Step::Insert("plain", row))));
        steps.extend([
            // It is not read any more.
            (3_500, Step::Stop),
            (3_600, Step::Release("replicator", "staging")),
            (20_000, Step::Silence(false)),
        ]);
        let report = play_in(&setting, &steps);
        arrived(&report);
    }
}
