//! Worlds of changefeeds in which nothing is left to chance.
use std::time::Duration;

use replicator_core::dialect::Product;
use replicator_io::replicate::start::Consistency;

use super::drawn::Drawn;
use super::program::CONSISTENT;
use super::world::{World, run_told};
use crate::cluster::scenario::TICK;
use crate::cluster::script::played;
use crate::cluster::sql::Loss;
use crate::cluster::{Report, trace};
use crate::disk::Fault;
use crate::os::{jump, with_seed};
use crate::schema::schema;
use crate::story::Statement;

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The source commits a new row of a table, given without its version.
    Insert(&'static str, &'static [i64]),
    /// The source commits new rows of a table in one transaction. Their keys are 1 up to this number, and all
    /// other values of a row are its key.
    Fill(&'static str, i64),
    /// The source commits other values of a row, the first of which is its key.
    Replace(&'static str, &'static [i64]),
    /// The source commits that the row with this key is gone.
    Delete(&'static str, i64),
    /// Nothing passes between two hosts, and nothing is lost.
    Hold(&'static str, &'static str),
    /// It passes again.
    Release(&'static str, &'static str),
    /// What two hosts send each other is lost.
    Partition(&'static str, &'static str),
    /// It arrives again. A connection that lost something stands still.
    Repair(&'static str, &'static str),
    /// A host dies.
    Kill(&'static str),
    /// It comes back.
    Restart(&'static str),
    /// The program is asked to stop, and comes back.
    Stop,
    /// The only feed is made again from its beginning.
    Rewind,
    /// Nothing is promised from here on, if this is so.
    Silence(bool),
    /// The target takes so many milliseconds for each statement that begins from here on.
    Delay(u64),
    /// The next statement of the target with this text fails with this SQLSTATE.
    Fail(&'static str, &'static str),
    /// The target's next connection that sends COMMIT breaks.
    Lose(Loss),
    /// The program's disk is full.
    FillDisk,
    /// There is room on it again.
    ClearDisk,
    /// The power of the program's machine is gone at the disk's operation after so many more.
    PlanPowerLoss(u64),
    /// It comes back, whether it was gone or not.
    RestorePower,
    /// The calendar of the source and of the program is set forward, or back, by so many seconds.
    Jump(i64),
    /// How many operations the disk has done is written down.
    CountDisk,
}

/// What stays as it is from the beginning of a story to its end. By default a quick network, and a checkpoint
/// that is saved now and then only.
#[derive(Clone, Debug)]
pub struct Setting {
    /// What rows wait for: one after the other, each time the program starts.
    pub consistency: Vec<Consistency>,
    /// From one promise to the next, about.
    pub promise_interval: Duration,
    /// Requests with rows at the same time, at most.
    pub lanes_max: usize,
    /// Rows of a request, at most.
    pub rows_max: usize,
    /// The longest that a request may take.
    pub request_max: Duration,
    /// Rows that are read from staging together.
    pub page_rows: u32,
    /// From one saved checkpoint to the next.
    pub save_interval: Duration,
    /// By how many seconds the program's calendar is ahead of the source's: 0, 10 or -10.
    pub clock_ahead: i64,
    /// What the target is.
    pub target: Product,
    /// Whether the target has a table of progress.
    pub progress: bool,
    /// Whether the target has foreign keys and unique indexes.
    pub constraints: bool,
    /// In what rows are staged, if not in a file.
    pub database: Option<Product>,
    /// Whether a second program, on the host `other`, shares what is staged.
    pub shared: bool,
    /// Simulated time that the network moves in one step. The longer, the sooner an hour has passed.
    pub tick: Duration,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            consistency: vec![CONSISTENT],
            promise_interval: Duration::from_millis(50),
            lanes_max: 1,
            rows_max: 10,
            request_max: Duration::from_secs(1),
            page_rows: 5,
            save_interval: Duration::from_secs(3),
            clock_ahead: 0,
            target: Product::Postgres,
            progress: false,
            constraints: true,
            database: None,
            shared: false,
            tick: TICK,
        }
    }
}

/// Plays steps at their times, in milliseconds since the beginning, between a `feeder`, a `replicator` and a
/// `target`, and in settings with a database `staging`; then all is healed and everything must arrive.
#[must_use]
pub fn play(steps: &[(u64, Step)]) -> Report {
    play_in(&Setting::default(), steps)
}

/// As [`play`], in another setting.
#[must_use]
pub fn play_in(setting: &Setting, steps: &[(u64, Step)]) -> Report {
    let (setting, steps) = (setting.clone(), steps.to_vec());
    with_seed(0, move || {
        let drawn = Drawn::calm(&setting);
        played(&drawn, 0, |reach| {
            run_told(&drawn, reach, |_, world| {
                for (number, (at, step)) in steps.iter().enumerate() {
                    while world.sim.elapsed() < Duration::from_millis(*at) {
                        world.step();
                    }
                    trace::say("story", format_args!("{step:?}"));
                    take(*step, number, world);
                }
            })
        })
    })
}

fn take(step: Step, number: usize, world: &mut World<'_>) {
    match step {
        Step::Insert(..) | Step::Fill(..) | Step::Replace(..) | Step::Delete(..) => {
            world.feeds.run(number, &statement(step));
        }
        Step::Hold(one, other) => world.sim.hold(one, other),
        Step::Release(one, other) => world.sim.release(one, other),
        Step::Partition(one, other) => world.sim.partition(one, other),
        Step::Repair(one, other) => world.sim.repair(one, other),
        Step::Kill(host) => assert!(world.kill(host), "{host} is dead already"),
        Step::Restart(host) => world.sim.bounce(host),
        Step::Stop => world.program().stop(),
        Step::Rewind => world.feeds.rewind_all(),
        Step::Silence(silent) => world.feeds.set_silent(silent),
        Step::Delay(millis) => world.target.knobs.set_delay(Duration::from_millis(millis)),
        Step::Fail(text, sqlstate) => world.target.knobs.fail_next(text, sqlstate),
        Step::Lose(loss) => world.target.knobs.lose_commit(loss),
        Step::FillDisk => world.program().disk.plan(0, Fault::Full),
        Step::ClearDisk => world.program().disk.forget_plan(),
        Step::PlanPowerLoss(operations) => world.program().disk.plan(operations, Fault::PowerLoss),
        Step::RestorePower => {
            world.kill("replicator");
            world.program().disk.restart();
            world.sim.bounce("replicator");
        }
        Step::Jump(seconds) => jump(seconds),
        Step::CountDisk => {
            let operations = world.program().disk.operations();
            trace::say("story", format_args!("the disk has done {operations} operations"));
        }
    }
}

/// What the source commits.
fn statement(step: Step) -> Statement {
    match step {
        Step::Insert(table, values) => Statement::Insert(schema().id(table), vec![row(values)]),
        Step::Fill(table, count) => {
            let table = schema().id(table);
            let width = schema().catalog.table(table).columns.len() - 1;
            let rows = (1..=count).map(|key| row(&vec![key; width])).collect();
            Statement::Insert(table, rows)
        }
        Step::Replace(table, values) => {
            let (table, row) = (schema().id(table), row(values));
            let key = row[..1].to_vec();
            Statement::Replace { table, key, row, in_full: true }
        }
        Step::Delete(table, key) => Statement::Delete(schema().id(table), vec![vec![Some(key)]]),
        Step::Hold(..)
        | Step::Release(..)
        | Step::Partition(..)
        | Step::Repair(..)
        | Step::Kill(_)
        | Step::Restart(_)
        | Step::Stop
        | Step::Rewind
        | Step::Silence(_)
        | Step::Delay(_)
        | Step::Fail(..)
        | Step::Lose(_)
        | Step::FillDisk
        | Step::ClearDisk
        | Step::PlanPowerLoss(_)
        | Step::RestorePower
        | Step::Jump(_)
        | Step::CountDisk => unreachable!("the source commits nothing"),
    }
}

/// Values and room for the version.
fn row(values: &[i64]) -> Vec<Option<i64>> {
    values.iter().copied().map(Some).chain([None]).collect()
}
