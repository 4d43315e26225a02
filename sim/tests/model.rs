//! Random worlds against the reference model.
use std::cell::{Cell, RefCell};
use std::fmt;

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestCaseError, TestRunner};
use sim::action::Action;
use sim::coverage::{Coverage, Seen};
use sim::fault::{Kind, Setup};
use sim::play::Script;
use sim::world::World;

/// Worlds per kind of source.
const WORLDS: u32 = 5_000;
/// The same worlds each time, so that a change is not blamed for an old fault. `PROPTEST_RNG_SEED` asks
/// for others, at night.
const SEED: u64 = 20_26;

/// A seed for the setup of a world and a word for each action.
#[derive(Clone)]
struct Case {
    kind: Kind,
    seed: u64,
    words: Vec<u64>,
}

impl Case {
    fn actions(&self) -> Vec<Action> {
        let setup = Setup::draw(self.kind, self.seed);
        self.words.iter().map(|word| Action::draw(&setup, *word)).collect()
    }

    fn run(&self) -> Result<Coverage, TestCaseError> {
        let mut world = World::new(Setup::draw(self.kind, self.seed));
        for action in self.actions() {
            world.act(&action);
        }
        world.settle().map_err(|error| TestCaseError::fail(error.to_string()))?;
        Ok(world.coverage().clone())
    }
}

impl fmt::Debug for Case {
    /// The actions, and the command that plays them again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let idle = Action::Wait(0);
        for action in self.actions().iter().filter(|action| **action != idle) {
            writeln!(f, "{action:?}")?;
        }
        let (kind, seed) = (self.kind, self.seed);
        let words = self.words.iter().copied().filter(|word| *word != 0).collect();
        f.write_str(&Script { kind, seed, faults: None, words }.command())
    }
}

fn cases_of(kind: Kind) -> impl Strategy<Value = Case> {
    let words = proptest::collection::vec(any::<u64>(), 20..250);
    (any::<u64>(), words).prop_map(move |(seed, words)| Case { kind, seed, words })
}

fn check(kind: Kind) {
    let total = RefCell::new(Coverage::default());
    let config = ProptestConfig::default();
    // `PROPTEST_CASES` asks for more, at night.
    let cases = config.cases.max(WORLDS);
    let rng_seed = match config.rng_seed {
        RngSeed::Random => RngSeed::Fixed(SEED),
        RngSeed::Fixed(seed) => RngSeed::Fixed(seed),
    };
    let config = ProptestConfig { cases, rng_seed, failure_persistence: None, ..config };
    // Worlds up to the first that fails: after that one proptest plays shorter ones.
    let (passed, playing) = (Cell::new(0_u64), Cell::new(false));
    let outcome = TestRunner::new(config).run(&cases_of(kind), |case| {
        let none_failed = !playing.replace(true);
        total.borrow_mut().add(&case.run()?);
        if none_failed {
            playing.set(false);
            passed.set(passed.get() + 1);
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}\nsuccesses: {}", passed.get());
    }
    let total = total.into_inner();
    let missed = total.missed(kind);
    assert!(missed.is_empty(), "{missed:?} were never reached:\n{total}");
}

#[test]
fn an_ordered_source_arrives_once_and_in_order() {
    check(Kind::Ordered);
}

#[test]
fn a_changefeed_arrives_once_and_in_order() {
    check(Kind::Changefeed);
}

/// Pages that were held until it was durable how far they reach went on while the trunk was full.
#[test]
fn what_waits_for_the_horizon_waits_for_room_too() {
    let words = vec![
        12_515_786_336_605_704_672,
        12_978_979_487_108_682_172,
        7_067_153_350_267_966_044,
        17_525_521_719_007_595_560,
        5_901_725_303_688_684_511,
        11_244_128_651_454_761_063,
        9_368_571_531_061_356_410,
        1_827_730_999_620_183_090,
        910_556_932_163_455_194,
        6_516_865_705_616_690_804,
        1_788_471_886_838_295_774,
        637_310_073_867_905_879,
        18_437_116_895_100_649_852,
        15_533_175_526_981_304_691,
    ];
    let case = Case { kind: Kind::Changefeed, seed: 131_958, words };
    let coverage = case.run().expect("the world comes to rest");
    assert!(0 < coverage.count(Seen::BatchWaits), "{coverage}");
}
