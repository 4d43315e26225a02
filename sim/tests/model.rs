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

/// A row with a unique value that another one still had went last, and the row that refers to it did not.
#[test]
fn what_refers_to_a_row_that_goes_last_goes_last_too() {
    let words = vec![
        16_119_384_587_090_523_031,
        8_716_799_864_994_914_024,
        9_204_844_433_974_220_929,
        13_233_730_861_324_651_480,
        3_819_132_888_189_488_692,
        3_716_459_898_855_354_700,
        2_888_828_723_870_048_659,
        5_659_652_334_357_802_990,
        11_362_023_518_696_281_293,
        4_334_648_366_497_426_095,
        1_612_395_889_954_260_875,
        9_773_074_396_608_781_350,
        6_961_891_799_383_085_994,
        13_887_709_301_706_421_097,
        11_193_129_723_239_951_558,
        10_723_256_041_313_701_663,
        17_735_511_677_430_919_838,
        11_673_852_486_145_234_536,
        6_520_762_821_123_165_675,
        10_187_132_950_183_976,
        3_920_835_804_012_656_756,
        14_091_369_164_094_077_305,
        9_323_047_370_602_012_209,
        1_047_725_891_286_124_133,
        115_634_625_426_346_248,
        9_377_130_847_230_496_779,
        3_320_616_958_139_806_716,
        11_970_722_359_974_203_367,
        130_526_823_641_347_450,
        17_280_348_816_940_481_222,
        13_149_810_232_315_000_121,
        3_300_397_427_910_743_169,
        1_979_027_986_359_062_419,
        5_647_990_030_729_341_200,
        5_068_382_785_439_867_395,
        7_622_521_806_495_976_850,
        667_951_023_197_901_781,
        6_832_684_398_646_483_885,
        9_409_377_957_904_979_845,
        79_024_153_518_369_481,
        12_193,
        2_121_569_240_901_369_640,
        400_650_969_017_887_521,
        1_239_691_713_047_848_771,
        26_783_571_933_942_200,
        9_639_675_410_937_372_698,
        7_934_539_726_196_604_440,
        2_346_382_610_893_747_297,
        4_098_401_114_758_186_137,
        12_281_570_916_529_878_645,
        17_109_048_944_718_088_122,
    ];
    let case = Case { kind: Kind::Changefeed, seed: 2_344_127_943_681_968_601, words };
    let coverage = case.run().expect("the world comes to rest");
    assert!(0 < coverage.count(Seen::Settled), "{coverage}");
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
