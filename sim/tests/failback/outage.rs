//! The target, the staging file or the calendar are of no use for a while: nothing is lost, nobody is asked all the
//! time, and the mode is what it was.
use std::time::Duration;

use replicator_io::replicate::start::Consistency;
use sim::cluster::failback::steps::{Setting, Step, play, play_in};
use sim::cluster::{Outcome, Report};

use super::{millis_of, resolved_of};

const MINUTE: u64 = 60_000;

/// What the program logs when a run has failed.
const FAILED: [&str; 2] = ["replication interrupted", "still failing"];

/// A run that ends because another mode is right.
const CHANGES: &str = "conveyor goes on in another mode";

fn arrived(report: &Report) {
    assert_eq!(report.outcome, Outcome::Arrived, "{:#?}", report.trace);
}

/// When runs failed, in milliseconds.
fn failures(report: &Report) -> Vec<u64> {
    let mut times = FAILED.map(|text| millis_of(report, text)).concat();
    times.sort_unstable();
    times
}

/// In a step of so many milliseconds an hour passes quickly.
fn coarse() -> Setting {
    let seconds = Duration::from_secs;
    Setting {
        promise_interval: seconds(5),
        request_max: seconds(20),
        tick: Duration::from_millis(50),
        ..Setting::default()
    }
}

/// The target is away for an hour, in which the source goes on.
#[test]
fn a07_a_target_that_is_away_for_an_hour_gets_everything() {
    let back = 60 * MINUTE + 5_000;
    let report = play_in(
        &coarse(),
        &[
            (500, Step::Insert("plain", &[1, 0, 0])),
            (5_000, Step::Kill("target")),
            (6_000, Step::Replace("plain", &[1, 1, 0])),
            (10 * MINUTE, Step::Fill("parent", 30)),
            (20 * MINUTE, Step::Fill("child", 30)),
            (30 * MINUTE, Step::Delete("plain", 1)),
            (40 * MINUTE, Step::Stop),
            (50 * MINUTE, Step::Delete("child", 7)),
            (back, Step::Restart("target")),
        ],
    );
    arrived(&report);
    let last = millis_of(&report, "target     commits").pop().expect("it commits");
    assert!(back < last && last < back + 30_000, "back at {back}, and all was there at {last}");
}

/// A target that is away is asked less and less often, but never given up.
#[test]
fn w45_a_target_that_is_away_is_asked_less_and_less_often() {
    let back = 10 * MINUTE;
    let report = play_in(
        &coarse(),
        &[
            (500, Step::Insert("plain", &[1, 0, 0])),
            (5_000, Step::Kill("target")),
            (6_000, Step::Replace("plain", &[1, 1, 0])),
            (back, Step::Restart("target")),
        ],
    );
    arrived(&report);
    let times = failures(&report);
    let pauses: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((20..120).contains(&times.len()), "{} runs in ten minutes", times.len());
    assert!(pauses.iter().skip(8).all(|pause| (5_000..=20_000).contains(pause)), "{pauses:?}");
    assert!(pauses[0] < pauses[pauses.len() - 1], "{pauses:?}");
}

/// Rows whose transaction fails again and again stay with their run, which reads nothing twice.
#[test]
fn w45_rows_that_fail_for_a_while_are_not_read_again() {
    let calm = [(500, Step::Fill("plain", 20)), (3_000, Step::Insert("parent", &[1, 0]))];
    let mut rough = vec![(400, Step::Fail("INSERT", "40001")); 4];
    rough.extend(calm);
    let [calm, rough] = [play(&calm), play(&rough)];
    for report in [&calm, &rough] {
        arrived(report);
        assert_eq!(millis_of(report, "conveyor begins").len(), 1);
    }
    assert_eq!(millis_of(&rough, "event=failed").len(), 4, "{:#?}", rough.trace);
    let reads = |report| millis_of(report, "effect=read-staged").len();
    assert!(reads(&rough) <= reads(&calm), "{} reads, not {}", reads(&rough), reads(&calm));
}

/// The disk of the staging file is full for five minutes.
#[test]
fn a07_staging_that_is_full_for_five_minutes_loses_nothing() {
    let back = 5 * MINUTE + 2_000;
    let report = play_in(
        &coarse(),
        &[
            (500, Step::Fill("plain", 10)),
            (2_000, Step::FillDisk),
            (3_000, Step::Replace("plain", &[1, 1, 1])),
            (MINUTE, Step::Fill("parent", 30)),
            (2 * MINUTE, Step::Fill("child", 30)),
            (3 * MINUTE, Step::Kill("replicator")),
            (3 * MINUTE + 500, Step::Restart("replicator")),
            (4 * MINUTE, Step::Delete("child", 7)),
            (back, Step::ClearDisk),
        ],
    );
    arrived(&report);
    let last = millis_of(&report, "target     commits").pop().expect("it commits");
    assert!(back < last && last < back + 40_000, "back at {back}, and all was there at {last}");
}

/// The window of a program that may fall behind.
fn windowed(seconds: u64) -> Setting {
    let window = Duration::from_secs(seconds);
    let consistency = vec![Consistency::Consistent { window }];
    Setting { consistency, save_interval: Duration::from_millis(500), ..Setting::default() }
}

/// While staging fails, what was promised and what is saved stay as they were, and so does the mode.
#[test]
fn w04_staging_that_fails_takes_nothing_back_and_changes_no_mode() {
    let report = play_in(
        &windowed(60),
        &[
            (500, Step::Fill("plain", 10)),
            (1_000, Step::Fill("parent", 10)),
            (10_000, Step::FillDisk),
            (11_000, Step::Fill("child", 10)),
            (12_000, Step::Replace("plain", &[1, 1, 1])),
            (24_000, Step::ClearDisk),
            (26_000, Step::Delete("child", 1)),
        ],
    );
    arrived(&report);
    let failed = failures(&report);
    assert!(failed.iter().any(|time| (10_000..24_000).contains(time)), "{failed:?}");
    // A schema that has applied nothing is far behind, so it begins in best effort.
    assert_eq!(millis_of(&report, CHANGES).len(), 1, "{:#?}", report.trace);
    assert!(millis_of(&report, CHANGES)[0] < 10_000);
    let promised = resolved_of(&report);
    assert!(1 < promised.len() && promised.is_sorted(), "{promised:?}");
    let late = "in best effort";
    assert!(millis_of(&report, late).iter().all(|time| *time < 10_000), "{:#?}", report.trace);
}

/// The mode changes because nothing gets to the target, so the run in the other mode cannot begin.
#[test]
fn w14_a_change_of_modes_that_fails_is_tried_again() {
    let report = play_in(
        &windowed(4),
        &[
            (500, Step::Fill("plain", 10)),
            (1_000, Step::Fill("parent", 10)),
            (10_000, Step::Hold("replicator", "target")),
            (11_000, Step::Fill("child", 10)),
            (12_000, Step::Replace("plain", &[1, 1, 1])),
            (50_000, Step::Release("replicator", "target")),
            (52_000, Step::Delete("child", 1)),
            (70_000, Step::Replace("plain", &[2, 1, 1])),
        ],
    );
    arrived(&report);
    let changes = millis_of(&report, CHANGES);
    let failed = failures(&report);
    // To consistent; to best effort while the target was away; and back.
    let away = 10_000..50_000;
    assert_eq!(changes.len(), 3, "{changes:?}");
    assert!(away.contains(&changes[1]) && away.end < changes[2], "{changes:?}");
    let is_hers = |time: &&u64| changes[1] < **time && **time < away.end + 1_000;
    assert!(failed.iter().any(|time| is_hers(&time)), "{changes:?} {failed:?}");
    let begins = |line: &&String| line.contains("conveyor begins");
    let last = report.trace.iter().rfind(begins).expect("runs begin");
    assert!(!last.contains("best effort"), "{last}");
}

/// The program's calendar is wrong, and then the source's, too.
#[test]
fn a07_calendars_that_differ_by_ten_seconds_change_nothing() {
    for clock_ahead in [-10, 0, 10] {
        let setting = Setting { clock_ahead, ..windowed(60) };
        let report = play_in(
            &setting,
            &[
                (500, Step::Fill("plain", 10)),
                (1_000, Step::Fill("parent", 10)),
                (5_000, Step::Jump(10)),
                (5_100, Step::Replace("plain", &[1, 1, 1])),
                (5_200, Step::Fill("child", 10)),
                (8_000, Step::Kill("replicator")),
                (8_500, Step::Restart("replicator")),
                (12_000, Step::Jump(-20)),
                (12_100, Step::Replace("plain", &[1, 2, 2])),
                (12_200, Step::Delete("child", 1)),
                (20_000, Step::Jump(10)),
                (20_100, Step::Replace("plain", &[1, 3, 3])),
            ],
        );
        arrived(&report);
        let changes = millis_of(&report, CHANGES);
        assert!(changes.iter().all(|time| *time < 5_000), "{clock_ahead}: {changes:?}");
    }
}

/// Nobody calls: nothing is counted, compared or read, whether rows are staged or not.
#[test]
fn w34_an_idle_schema_leaves_staging_alone() {
    let setting = Setting { promise_interval: Duration::from_secs(30), ..Setting::default() };
    for (silent, brought) in [(false, 200_000), (true, 0)] {
        let report = play_in(
            &setting,
            &[
                (100, Step::Silence(silent)),
                (500, Step::Fill("plain", 50)),
                (brought + 8_000, Step::Kill("feeder")),
                (brought + 20_000, Step::CountDisk),
                (brought + 20_000 + 5 * MINUTE, Step::CountDisk),
                (brought + 21_000 + 5 * MINUTE, Step::Silence(false)),
                (brought + 21_000 + 5 * MINUTE, Step::Restart("feeder")),
            ],
        );
        arrived(&report);
        let counts: Vec<&str> = report
            .trace
            .iter()
            .filter_map(|line| line.split_once("the disk has done ").map(|(_, count)| count))
            .collect();
        assert_eq!(counts.len(), 2);
        assert_eq!(counts[0], counts[1], "silent: {silent}");
        let idle = brought + 20_000..brought + 20_000 + 5 * MINUTE;
        let asked = millis_of(&report, "effect=");
        assert!(!asked.iter().any(|time| idle.contains(time)), "silent: {silent}");
    }
}
