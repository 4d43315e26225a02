//! A world from beginning to end: a story is told, then everything must arrive.
use std::panic::AssertUnwindSafe;

use crate::action::Action;
use crate::coverage::Coverage;
use crate::fault::{FaultKind, Kind, Setup};
use crate::quiet::quietly;
use crate::random::Random;
use crate::shrink::leave_out;
use crate::world::World;

/// Fewest and most actions of a drawn story.
const ACTIONS: (usize, usize) = (20, 250);

/// Everything that decides what happens in a world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// The source.
    pub kind: Kind,
    /// What the setup is drawn from.
    pub seed: u64,
    /// The only faults that exist, if not those that the seed draws.
    pub faults: Option<Vec<FaultKind>>,
    /// What each action is drawn from.
    pub words: Vec<u64>,
}

/// How a world ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything arrived.
    Arrived,
    /// A promise was broken; this one.
    Broken(String),
    /// Something never arrived; this.
    NotLive(String),
}

/// What came of a script.
#[derive(Debug)]
pub struct Played {
    /// How it ended.
    pub outcome: Outcome,
    /// One line for everything that happened, if that was asked for.
    pub trace: Vec<String>,
    /// What was reached.
    pub coverage: Coverage,
}

impl Outcome {
    /// Whether both ended well, or both broke safety, or both liveness.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl Script {
    /// The story of a seed.
    #[must_use]
    pub fn draw(kind: Kind, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let count = random.within(ACTIONS.0, ACTIONS.1);
        let words = (0..count).map(|_| random.word()).collect();
        Self { kind, seed, faults: None, words }
    }

    /// The world's setup.
    #[must_use]
    pub fn setup(&self) -> Setup {
        Setup::draw_with(self.kind, self.seed, self.faults.as_deref())
    }

    /// The actions.
    #[must_use]
    pub fn actions(&self) -> Vec<Action> {
        let setup = self.setup();
        self.words.iter().map(|word| Action::draw(&setup, *word)).collect()
    }

    /// Plays it. A broken promise is told by the outcome; nothing is printed.
    #[must_use]
    pub fn play(&self, with_trace: bool) -> Played {
        let setup = self.setup();
        let mut world = World::new(setup.clone());
        if with_trace {
            world.keep_trace();
        }
        let told = quietly(AssertUnwindSafe(|| {
            for word in &self.words {
                world.act(&Action::draw(&setup, *word));
            }
            world.settle()
        }));
        let outcome = match told {
            Ok(Ok(())) => Outcome::Arrived,
            Ok(Err(error)) => Outcome::NotLive(error.to_string()),
            Err(promise) => Outcome::Broken(promise),
        };
        Played { outcome, trace: world.take_trace(), coverage: world.coverage().clone() }
    }

    /// Leaves actions out while it still fails in the same way. One that does not fail stays as it is.
    #[must_use]
    pub fn shrink(&self) -> Self {
        let wanted = self.play(false).outcome;
        let mut best = self.clone();
        if wanted == Outcome::Arrived {
            return best;
        }
        best.words = leave_out(best.words.clone(), |words| {
            let shorter = Self { words: words.to_vec(), ..self.clone() };
            shorter.play(false).outcome.is_like(&wanted)
        });
        best
    }

    /// What to type to play it again.
    #[must_use]
    pub fn command(&self) -> String {
        let mut text = format!("cargo run --profile sim -p sim -- {} --scenario {}", self.seed, {
            self.kind.name()
        });
        if let Some(faults) = &self.faults {
            let names: Vec<&str> = faults.iter().map(|fault| fault.name()).collect();
            text.push_str(&format!(" --faults {}", names.join(",")));
        }
        let drawn = Self::draw(self.kind, self.seed).words;
        if self.words != drawn {
            let words: Vec<String> = self.words.iter().map(u64::to_string).collect();
            text.push_str(&format!(" --words {}", words.join(",")));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Script};
    use crate::fault::{FaultKind, Kind};

    #[test]
    fn a_story_that_ends_well_is_not_shortened() {
        let script = Script::draw(Kind::Ordered, 1);
        assert_eq!(script.play(false).outcome, Outcome::Arrived);
        assert_eq!(script.shrink(), script);
    }

    #[test]
    fn only_the_faults_that_were_asked_for_exist() {
        for seed in 0..20 {
            let faults = Some(vec![FaultKind::Crash]);
            let script = Script { faults, ..Script::draw(Kind::Ordered, seed) };
            let faults = script.setup().faults;
            assert!(0 < faults.crash);
            assert_eq!(faults.transient + faults.unknown + faults.refusals, 0);
            assert_eq!(faults.usurp + faults.rewind, 0);
        }
    }

    #[test]
    fn a_command_plays_the_same_story() {
        let script = Script::draw(Kind::Changefeed, 3);
        assert!(script.command().ends_with("-- 3 --scenario changefeed"));
        let script = Script { words: vec![1, 2], faults: Some(vec![FaultKind::Usurp]), ..script };
        assert!(script.command().ends_with("changefeed --faults usurp --words 1,2"));
    }
}
