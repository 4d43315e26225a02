//! Worlds of changefeeds in which nothing is left to chance.
use std::time::Duration;

use super::world::{Drawn, run_told};
use crate::cluster::script::played;
use crate::cluster::{Report, trace};
use crate::os::with_seed;
use crate::schema::schema;
use crate::story::Statement;

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The source commits a new row of a table, given without its version.
    Insert(&'static str, &'static [i64]),
    /// The source commits other values of a row, the first of which is its key.
    Replace(&'static str, &'static [i64]),
    /// The source commits that the row with this key is gone.
    Delete(&'static str, i64),
    /// Nothing passes between two hosts, and nothing is lost.
    Hold(&'static str, &'static str),
    /// It passes again.
    Release(&'static str, &'static str),
    /// A host dies.
    Kill(&'static str),
    /// It comes back.
    Restart(&'static str),
    /// The only feed is made again from its beginning.
    Rewind,
    /// The target takes so many milliseconds for each statement that begins from here on.
    Delay(u64),
}

/// Plays steps at their times, in milliseconds since the beginning, between a `feeder`, a `replicator` and a
/// `target`; then all is healed and everything must arrive.
#[must_use]
pub fn play(steps: &[(u64, Step)]) -> Report {
    let steps = steps.to_vec();
    with_seed(0, move || {
        let drawn = Drawn::calm();
        played(&drawn, 0, |reach| {
            run_told(&drawn, reach, |_, world| {
                for (number, (at, step)) in steps.iter().enumerate() {
                    while world.sim.elapsed() < Duration::from_millis(*at) {
                        world.step();
                    }
                    trace::say("story", format_args!("{step:?}"));
                    match step {
                        Step::Insert(table, values) => {
                            let rows = vec![row(values)];
                            let statement = Statement::Insert(schema().id(table), rows);
                            world.feeds.run(number, &statement);
                        }
                        Step::Replace(table, values) => {
                            let (table, row) = (schema().id(table), row(values));
                            let key = row[..1].to_vec();
                            let statement = Statement::Replace { table, key, row, in_full: true };
                            world.feeds.run(number, &statement);
                        }
                        Step::Delete(table, key) => {
                            let keys = vec![vec![Some(*key)]];
                            let statement = Statement::Delete(schema().id(table), keys);
                            world.feeds.run(number, &statement);
                        }
                        Step::Hold(one, other) => world.sim.hold(*one, *other),
                        Step::Release(one, other) => world.sim.release(*one, *other),
                        Step::Kill(host) => assert!(world.kill(host), "{host} is dead already"),
                        Step::Restart(host) => world.sim.bounce(*host),
                        Step::Rewind => world.feeds.rewind_all(),
                        Step::Delay(millis) => {
                            world.target.knobs.set_delay(Duration::from_millis(*millis));
                        }
                    }
                }
            })
        })
    })
}

/// Values and room for the version.
fn row(values: &[i64]) -> Vec<Option<i64>> {
    values.iter().copied().map(Some).chain([None]).collect()
}
