//! Many worlds of MySQL and MariaDB, and stories of bugs that were found.
use std::ops::Range;
use std::thread::available_parallelism;
use std::time::Duration;

use sim::cluster::scenario::Drawn;
use sim::cluster::steps::{Step, play, play_in};
use sim::cluster::sweep::sweep;
use sim::cluster::{Outcome, Scenario};

/// The same worlds each time, so that a change is not blamed for an old fault; `make sim-long` has others.
const SEEDS: Range<u64> = 0..150;

/// Far longer than it takes.
const LIMIT: Duration = Duration::from_secs(600);

#[test]
fn many_seeds_keep_every_promise() {
    let threads = available_parallelism().map_or(2, usize::from);
    let report = sweep(Scenario::MyForward, SEEDS, LIMIT, threads);
    if let Some((script, failed)) = &report.failed {
        // Seeds are begun in their order, so this many came before.
        panic!("successes: {}\n{failed:?}\n{}", script.seed - SEEDS.start, script.command());
    }
    assert_eq!(report.seeds, SEEDS.end - SEEDS.start, "there was no time for the others");
    // Longer sweeps reach them all.
    assert!(report.missed().len() < 4, "never reached: {:?}", report.missed());
}

/// A position that another replicator saved after we have asked the source what it has is not beyond that.
#[test]
fn a_position_saved_while_we_looked_at_the_source_is_one_of_it() {
    let mut gone_on = 0;
    // Between the look and the lease, wherever that is.
    for held in (800..1_300).step_by(10) {
        let report = play(
            Scenario::MyForward,
            &[
                (0, Step::Hold("replicator", "source")),
                (800, Step::Release("replicator", "source")),
                (held, Step::Hold("replicator", "target")),
                (1_500, Step::Commit),
                (2_500, Step::Stop("rival")),
                (2_600, Step::Kill("rival")),
                (3_000, Step::Release("replicator", "target")),
                (6_000, Step::Restart("rival")),
            ],
        );
        assert_eq!(report.outcome, Outcome::Arrived, "held after {held} ms: {:#?}", report.trace);
        let waited = "another replicator works on the target schema";
        let begun = |line: &&String| line.contains("replication starts") || line.contains(waited);
        let lines: Vec<&String> = report.trace.iter().filter(begun).collect();
        gone_on += usize::from(lines.iter().all(|line| !line.contains(waited)));
    }
    assert!(
        0 < gone_on,
        "the other replicator had always ended before we looked, or was waited for"
    );
}

/// A database whose clock is set back does not keep a lease of somebody who has died for as long as that.
#[test]
fn a_lease_of_a_clock_that_was_set_back_is_nobodys() {
    let report = play(
        Scenario::MyForward,
        &[
            (0, Step::Hold("rival", "source")),
            (1_500, Step::Commit),
            (2_500, Step::Jump(-86_400)),
            (2_600, Step::Kill("replicator")),
            (2_700, Step::Release("rival", "source")),
            (3_000, Step::Commit),
        ],
    );
    assert_eq!(report.outcome, Outcome::Arrived, "{:#?}", report.trace);
}

/// Columns that the catalog shows are those of the position that it was read with.
#[test]
fn tables_stay_as_they_are_while_their_columns_are_asked_for() {
    let mut waited = 0;
    for held in (700..900).step_by(5) {
        // Some of the transactions need an ALTER TABLE before them.
        let mut steps = vec![
            (0, Step::Kill("rival")),
            (held, Step::Hold("replicator", "source")),
            (held + 400, Step::Release("replicator", "source")),
        ];
        steps.extend((1..=30).map(|number| (held + 10 * number, Step::Commit)));
        steps.sort_by_key(|(at, _)| *at);
        let drawn = Drawn::calm(Scenario::MyForward).unnamed();
        let report = play_in(drawn, &steps);
        assert_eq!(report.outcome, Outcome::Arrived, "held after {held} ms: {:#?}", report.trace);
        // A value that is taken for a key, and is none.
        let drift = report.trace.iter().find(|line| line.contains("schema drift"));
        assert_eq!(drift, None, "held after {held} ms");
        let in_vain = |line: &String| line.contains("wait for a table, in vain");
        waited += usize::from(report.trace.iter().any(in_vain));
    }
    assert!(1 < waited, "no transaction came while columns were asked for");
}
