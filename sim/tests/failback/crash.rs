//! The program dies or is asked to stop, at each moment on the way of a row.
use std::time::Duration;

use replicator_io::replicate::start::Consistency;
use sim::cluster::failback::steps::{Setting, Step, play, play_in};
use sim::cluster::sql::Loss;
use sim::cluster::{Outcome, Report};

use super::millis_of;

fn arrived(report: &Report) {
    assert_eq!(report.outcome, Outcome::Arrived, "{:#?}", report.trace);
}

/// What became of a transaction whose program died.
#[derive(Debug, Default)]
struct Deaths {
    /// Before the target had it.
    before: usize,
    /// After that, before it was marked.
    between: usize,
    /// Later.
    after: usize,
}

impl Deaths {
    /// Of the world's second transaction, at about this time.
    fn count(&mut self, report: &Report, died: u64) {
        let applied = millis_of(report, "target     commits 4 rows of transactions [1]");
        if applied.iter().all(|time| died < *time) {
            self.before += 1;
        } else if sent_again(report, died) {
            self.between += 1;
        } else {
            self.after += 1;
        }
    }
}

/// Whether rows of it were sent to the target after this time: its four, or those before it, too.
fn sent_again(report: &Report, died: u64) -> bool {
    let sent = [" rows=4 order", " rows=8 order"].map(|text| millis_of(report, text)).concat();
    sent.iter().any(|time| died < *time)
}

const STORY: [(u64, Step); 3] = [
    (500, Step::Fill("parent", 4)),
    (980, Step::Fill("child", 4)),
    (2_500, Step::Delete("child", 1)),
];

/// After every step of every world it is looked at whether something was marked that is not in the target. Here the
/// program dies at many moments on the way of a transaction.
#[test]
fn a01_whenever_the_program_dies_nothing_is_marked_before_it_is_applied() {
    let millis = Duration::from_millis;
    let setting = Setting { save_interval: millis(500), tick: millis(1), ..Setting::default() };
    let mut deaths = Deaths::default();
    for died in (981..1_181).step_by(10) {
        let mut steps = STORY.to_vec();
        steps.insert(2, (died, Step::Kill("replicator")));
        steps.insert(3, (died + 100, Step::Restart("replicator")));
        let report = play_in(&setting, &steps);
        arrived(&report);
        deaths.count(&report, died);
    }
    let Deaths { before, between, after } = deaths;
    assert!(0 < before && 0 < between && 0 < after, "{deaths:?}");
}

/// The power is gone at many operations of the disk between staging and the mark.
#[test]
fn a01_wherever_the_power_is_gone_nothing_is_marked_before_it_is_applied() {
    let millis = Duration::from_millis;
    let setting = Setting { save_interval: millis(10), tick: millis(1), ..Setting::default() };
    let mut deaths = Deaths::default();
    for operations in (0..120).step_by(3) {
        let mut steps = STORY.to_vec();
        steps.insert(1, (979, Step::PlanPowerLoss(operations)));
        steps.insert(3, (1_200, Step::RestorePower));
        let report = play_in(&setting, &steps);
        arrived(&report);
        deaths.count(&report, 1_199);
    }
    let Deaths { before, between, after } = deaths;
    assert!(0 < before && 0 < between && 0 < after, "{deaths:?}");
}

/// Nobody knows whether a transaction has taken effect: its connection broke.
#[test]
fn a01_a_commit_whose_answer_is_lost_is_neither_lost_nor_marked_too_soon() {
    let best = Consistency::BestEffort;
    for consistency in [Setting::default().consistency, vec![best]] {
        for loss in [Loss::BeforeCommit, Loss::AfterCommit] {
            let save_interval = Duration::from_millis(10);
            let setting =
                Setting { consistency: consistency.clone(), save_interval, ..Setting::default() };
            let report = play_in(
                &setting,
                &[
                    (500, Step::Fill("parent", 4)),
                    (1_000, Step::Lose(loss)),
                    (1_010, Step::Fill("child", 4)),
                    (2_000, Step::Lose(loss)),
                    (2_010, Step::Fill("plain", 4)),
                    (2_100, Step::Kill("replicator")),
                    (2_200, Step::Restart("replicator")),
                    (4_000, Step::Replace("plain", &[1, 5, 5])),
                ],
            );
            arrived(&report);
        }
    }
}

/// The program is asked to stop again and again while rows come. It finishes what is on its way and goes on there.
#[test]
fn a14_a_stop_under_load_loses_nothing_and_the_next_start_goes_on_there() {
    let mut steps = Vec::new();
    for number in 0..200_u64 {
        let at = 500 + number * 100;
        steps.push((at, Step::Replace("plain", &[1, 1, 1])));
        if number % 40 == 10 {
            steps.push((at + number, Step::Stop));
        }
    }
    steps[0].1 = Step::Insert("plain", &[1, 0, 0]);
    steps.insert(1, (510, Step::Fill("parent", 50)));
    steps.insert(2, (520, Step::Fill("child", 50)));
    // A checkpoint is saved every three seconds; a run that is to stop waits for that.
    let report = play_in(&Setting::default(), &steps);
    arrived(&report);
    let stops = millis_of(&report, "Stop");
    let stopped = millis_of(&report, "stops in good order");
    assert_eq!((stops.len(), stopped.len()), (5, 5), "{stops:?} {stopped:?}");
    for (asked, done) in stops.iter().zip(&stopped) {
        assert!(asked <= done && *done < asked + 5_000, "asked at {asked}, done at {done}");
    }
    let is = |text: &'static str| move |line: &String| line.contains(text);
    let runs = report.trace.split(is("stops in good order"));
    for (number, run) in runs.take(5).enumerate() {
        let last = run.iter().rposition(is("target     commits")).expect("it commits");
        let saved = run[last..].iter().any(is("effect=save-checkpoint"));
        assert!(saved, "run {number} has forgotten its last transaction: {:#?}", &run[last..]);
    }
}

/// `parent` goes and comes back before `child` refers to it. Once all of it is in the target it cannot go there any
/// more, so what is repeated must not take that way again, even if keys of `odd` among it cannot be compared.
#[test]
fn what_is_repeated_does_not_go_back_the_way_it_came_for_the_sake_of_odd_keys() {
    let report = play(&[
        (500, Step::Insert("parent", &[1, 0])),
        (1_500, Step::Silence(true)),
        (1_600, Step::Delete("parent", 1)),
        (1_610, Step::Insert("odd", &[1, 0])),
        (1_620, Step::Insert("parent", &[1, 1])),
        (1_630, Step::Insert("child", &[1, 1, 0])),
        (1_640, Step::Replace("odd", &[1, 2])),
        (2_200, Step::Lose(Loss::AfterCommit)),
        (2_210, Step::Silence(false)),
    ]);
    arrived(&report);
    let unknown = millis_of(&report, "it is not known whether a target transaction has committed");
    assert_eq!(unknown.len(), 1, "{:#?}", report.trace);
    let again = millis_of(&report, " rows=6 order=netted");
    assert!(again.iter().any(|time| unknown[0] < *time), "{:#?}", report.trace);
}
