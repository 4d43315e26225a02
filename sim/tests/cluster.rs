//! The world with sockets: the same seed does the same, and a fixed list of seeds keeps every promise.
//!
//! Determinism comes first: without it no other result counts.
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;

use sim::cluster::command::first_difference;
use sim::cluster::reach::Reached;
use sim::cluster::steps::{Step, play};
use sim::cluster::{Outcome, Reach, Report, Scenario, Script};

const SEEDS: u64 = 20;

/// Runs a world in another process and returns its trace.
fn elsewhere(scenario: Scenario, seed: u64, name: &str) -> Vec<String> {
    let world = scenario.name();
    let file = format!("{name}-{world}-{seed}.trace");
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(file);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.arg(seed.to_string()).args(["--scenario", world, "--trace"]).arg(&file);
    let Output { status, stdout, stderr } = command.output().expect("the simulator starts");
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "seed {seed} ended with {status}:\n{said}");
    let text = fs::read_to_string(&file).expect("it wrote its trace");
    fs::remove_file(&file).expect("the trace is ours");
    text.lines().map(str::to_owned).collect()
}

fn check_same(seed: u64, one: &[String], other: &[String], where_to: &str) {
    let difference = first_difference(one, other);
    assert!(difference.is_none(), "seed {seed} does something else {where_to}: {difference:?}");
}

/// Twice here, twice elsewhere.
fn check_seed(scenario: Scenario, seed: u64) -> Report {
    let script = Script::new(scenario, seed);
    let report = script.play();
    assert!(20 < report.trace.len(), "seed {seed}: hardly anything happened");
    assert_eq!(report.outcome, Outcome::Arrived, "{}", script.command());
    check_same(seed, &report.trace, &script.play().trace, "in the same process");
    check_same(seed, &report.trace, &elsewhere(scenario, seed, "first"), "in another process");
    check_same(seed, &report.trace, &elsewhere(scenario, seed, "second"), "in a third process");
    report
}

/// Checks all seeds on two threads. Returns how many kinds of faults there were.
fn check_seeds(scenario: Scenario) -> usize {
    let check = |first: u64| -> Vec<Report> {
        let seeds = (0..SEEDS).filter(|seed| seed % 2 == first);
        seeds.map(|seed| check_seed(scenario, seed)).collect()
    };
    let reports: Vec<Report> = thread::scope(|scope| {
        let halves = [scope.spawn(move || check(0)), scope.spawn(move || check(1))];
        halves.into_iter().flat_map(|half| half.join().expect("no check panics")).collect()
    });
    let mut reach = Reach::default();
    reports.iter().for_each(|report| reach.merge(&report.reach));
    reach.faults()
}

#[test]
fn a_seed_does_the_same_again_in_this_process_and_in_others() {
    let faults = check_seeds(Scenario::PgForward);
    assert!(15 < faults, "{SEEDS} seeds have {faults} kinds of faults only");
}

#[test]
fn a_seed_of_a_binary_log_does_the_same_again() {
    let faults = check_seeds(Scenario::MyForward);
    assert!(15 < faults, "{SEEDS} seeds have {faults} kinds of faults only");
}

#[test]
fn a_seed_of_changefeeds_does_the_same_again() {
    let faults = check_seeds(Scenario::Failback);
    assert!(10 < faults, "{SEEDS} seeds have {faults} kinds of faults only");
}

/// A position that another replicator saves after we have looked at the source is not beyond the end of the
/// source's log, although it is beyond what we saw.
#[test]
fn a_position_saved_while_we_looked_at_the_source_is_not_beyond_its_log() {
    // Between the look and the stream, wherever that is.
    for held in (0..200).step_by(5) {
        let report = play(
            Scenario::PgForward,
            &[
                (held, Step::Hold("replicator", "source")),
                (300, Step::Commit),
                (600, Step::Kill("rival")),
                (900, Step::Release("replicator", "source")),
                (2_000, Step::Restart("rival")),
            ],
        );
        assert_eq!(report.outcome, Outcome::Arrived, "held after {held} ms: {:#?}", report.trace);
    }
}

/// What a run still sends when another one has taken its place changes nothing, and it hears of it.
#[test]
fn a_run_that_was_replaced_changes_nothing() {
    let mut fenced = 0;
    // While it applies, while it saves, and between.
    for held in (1_000..1_200).step_by(5) {
        let report = play(
            Scenario::PgForward,
            &[
                (0, Step::Hold("rival", "source")),
                (800, Step::Release("rival", "source")),
                (1_000, Step::Commit),
                (held, Step::Hold("replicator", "source")),
                (held, Step::Hold("replicator", "target")),
                (held, Step::EndStreams),
                (3_000, Step::Commit),
                (4_000, Step::Release("replicator", "target")),
                (4_500, Step::Release("replicator", "source")),
            ],
        );
        assert_eq!(report.outcome, Outcome::Arrived, "held after {held} ms: {:#?}", report.trace);
        fenced += report.reach.count(Reached::Fenced);
    }
    assert!(0 < fenced, "no run was replaced while it was writing");
}

/// A server that crashes sets its slot back. An idle one hears again what is saved, without writing a word.
#[test]
fn a_source_that_forgot_is_told_again_what_is_saved() {
    let report = play(
        Scenario::PgForward,
        &[
            (0, Step::Hold("rival", "source")),
            (800, Step::Release("rival", "source")),
            (1_000, Step::Commit),
            (3_000, Step::Kill("source")),
            (4_000, Step::Restart("source")),
        ],
    );
    assert_eq!(report.outcome, Outcome::Arrived, "{:#?}", report.trace);
    let told = report.trace.iter().filter(|line| line.contains("recovers, its slot is at 0/100"));
    assert_eq!(told.count(), 1, "the slot is set back");
}
