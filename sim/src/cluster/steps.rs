//! Worlds with sockets in which nothing is left to chance: bugs that were found become such stories, which
//! stay the same when seeds come to mean something else.
use std::time::Duration;

use super::scenario::{Drawn, run_told};
use super::script::played;
use super::{Report, Scenario, trace};
use crate::os::{jump, with_seed};
use crate::random::Random;

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The source commits a transaction.
    Commit,
    /// Nothing passes between two hosts, and nothing is lost.
    Hold(&'static str, &'static str),
    /// It passes again.
    Release(&'static str, &'static str),
    /// The source ends all streams.
    EndStreams,
    /// A replicator is asked to end in good order.
    Stop(&'static str),
    /// Everybody's calendar is set by so many seconds.
    Jump(i64),
    /// A host dies.
    Kill(&'static str),
    /// It comes back.
    Restart(&'static str),
}

/// Plays steps at their times, in milliseconds since the beginning, between a source, a target, a
/// `replicator` and a `rival`; then all is healed and everything must arrive.
#[must_use]
pub fn play(scenario: Scenario, steps: &[(u64, Step)]) -> Report {
    play_in(Drawn::calm(scenario), steps)
}

/// The same in a world of one's own.
#[must_use]
pub fn play_in(drawn: Drawn, steps: &[(u64, Step)]) -> Report {
    let steps = steps.to_vec();
    with_seed(0, move || {
        played(&drawn, 0, |reach| {
            run_told(&drawn, reach, |random, world| {
                let mut kept = Random::new(random.word());
                let mut commits = 0;
                for (at, step) in &steps {
                    while world.sim.elapsed() < Duration::from_millis(*at) {
                        world.step();
                    }
                    trace::say("story", format_args!("{step:?}"));
                    match step {
                        Step::Commit => {
                            world.source.commit(commits, Random::new(kept.word()));
                            commits += 1;
                        }
                        Step::Hold(one, other) => world.sim.hold(*one, *other),
                        Step::Release(one, other) => world.sim.release(*one, *other),
                        Step::EndStreams => world.source.end_streams(),
                        Step::Stop(host) => {
                            let (_, replicator) = world
                                .replicators
                                .iter()
                                .find(|(name, _)| name == host)
                                .expect("a replicator");
                            replicator.stop();
                        }
                        Step::Jump(seconds) => jump(*seconds),
                        Step::Kill(host) => {
                            assert!(world.kill(host), "{host} is dead already");
                        }
                        Step::Restart(host) => world.restart(host),
                    }
                }
            })
        })
    })
}
