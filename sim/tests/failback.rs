//! Worlds of changefeeds: many seeds keep every promise, everything arrives, and the interesting states are
//! reached. Bugs that were found are stories here.
#[path = "failback/crash.rs"]
mod crash;
#[path = "failback/modes.rs"]
mod modes;
#[path = "failback/outage.rs"]
mod outage;
#[path = "failback/scan.rs"]
mod scan;
#[path = "failback/shared.rs"]
mod shared;

use std::ops::Range;
use std::thread::available_parallelism;
use std::time::Duration;

use replicator_core::model::time::Hlc;
use sim::cluster::failback::steps::{Step, play};
use sim::cluster::reach::Reached;
use sim::cluster::sweep::sweep;
use sim::cluster::{Outcome, Report, Scenario};

/// The same worlds each time, so that a change is not blamed for an old fault; `make sim-long` has others.
const SEEDS: Range<u64> = 0..200;

/// Far longer than it takes.
const LIMIT: Duration = Duration::from_secs(600);

/// When lines with this text were written, in milliseconds since the beginning.
fn millis_of(report: &Report, text: &str) -> Vec<u64> {
    let lines = report.trace.iter().filter(|line| line.contains(text));
    lines
        .map(|line| {
            let (millis, _) = line.trim_start().split_once('.').expect("a line has its time");
            millis.parse().expect("milliseconds are a number")
        })
        .collect()
}

/// What was promised when runs began, one after the other.
fn resolved_of(report: &Report) -> Vec<Hlc> {
    let begins = report.trace.iter().filter(|line| line.contains("conveyor begins"));
    let resolved = begins.filter_map(|line| line.split_once("resolved="));
    resolved
        .map(|(_, rest)| {
            let time = rest.split(' ').next().expect("there is a first word");
            time.parse().expect("a promise is a time")
        })
        .collect()
}

#[test]
fn many_seeds_keep_every_promise() {
    let threads = available_parallelism().map_or(2, usize::from);
    let report = sweep(Scenario::Failback, SEEDS, LIMIT, threads);
    if let Some((script, failed)) = &report.failed {
        // Seeds are begun in their order, so this many came before.
        panic!("successes: {}\n{failed:?}\n{}", script.seed - SEEDS.start, script.command());
    }
    assert_eq!(report.seeds, SEEDS.end - SEEDS.start, "there was no time for the others");
    // Longer sweeps reach them all.
    assert!(report.missed().len() < 4, "never reached: {:?}", report.missed());
}

/// What was applied and forgotten is no news when it comes again.
#[test]
fn a05_a_feed_that_begins_anew_changes_nothing() {
    let report = play(&[
        (500, Step::Insert("plain", &[1, 0, 0])),
        (1_000, Step::Replace("plain", &[1, 5, 0])),
        (1_500, Step::Insert("plain", &[2, 0, 0])),
        (2_000, Step::Delete("plain", 2)),
        (8_000, Step::Rewind),
    ]);
    assert_eq!(report.outcome, Outcome::Arrived, "{:#?}", report.trace);
    assert_eq!(report.reach.count(Reached::LateRows), 4);
    assert_eq!(report.reach.count(Reached::AppliedAgain), 0);
}

/// The target keeps no record of what it holds, so a child is applied again whose parent is gone already. That
/// was refused for ever once.
#[test]
fn a_child_that_is_applied_again_without_its_parent_stops_nothing() {
    let report = play(&[
        (500, Step::Insert("parent", &[1, 0])),
        // A checkpoint is saved after three seconds.
        (3_500, Step::Insert("child", &[1, 1, 0])),
        (3_900, Step::Delete("child", 1)),
        (4_300, Step::Delete("parent", 1)),
        (5_500, Step::Kill("replicator")),
        (5_700, Step::Restart("replicator")),
        (7_000, Step::Insert("plain", &[1, 0, 0])),
    ]);
    assert_eq!(report.outcome, Outcome::Arrived, "{:#?}", report.trace);
}

/// A server goes on with what it was sent, whoever is dead. The next run waits for that.
#[test]
fn i7_a_run_waits_for_what_a_dead_one_had_sent_to_a_slow_server() {
    let story = [
        (500, Step::Insert("plain", &[1, 0, 0])),
        (2_000, Step::Delay(3_000)),
        (2_100, Step::Replace("plain", &[1, 1, 0])),
        (2_500, Step::Kill("replicator")),
        (2_600, Step::Delay(0)),
        (2_700, Step::Restart("replicator")),
        (3_500, Step::Replace("plain", &[1, 2, 0])),
        (9_000, Step::Insert("plain", &[2, 0, 0])),
    ];
    let report = play(&story);
    assert_eq!(report.outcome, Outcome::Arrived, "{:#?}", report.trace);
    // A server that is quick has done it before the next run begins.
    let mut quick = story;
    quick[1].1 = Step::Delay(20);
    assert_eq!(play(&quick).outcome, Outcome::Arrived);
}
