//! Many worlds with sockets: every promise is kept, everything arrives, and the interesting states are
//! reached.
use std::ops::Range;
use std::thread::available_parallelism;
use std::time::Duration;

use sim::cluster::Scenario;
use sim::cluster::sweep::sweep;

/// The same worlds each time, so that a change is not blamed for an old fault; `make sim-long` has others.
const SEEDS: Range<u64> = 0..300;

/// Far longer than it takes.
const LIMIT: Duration = Duration::from_secs(600);

#[test]
fn many_seeds_keep_every_promise() {
    let threads = available_parallelism().map_or(2, usize::from);
    let report = sweep(Scenario::PgForward, SEEDS, LIMIT, threads);
    if let Some((script, failed)) = &report.failed {
        // Seeds are begun in their order, so this many came before.
        panic!("successes: {}\n{failed:?}\n{}", script.seed - SEEDS.start, script.command());
    }
    assert_eq!(report.seeds, SEEDS.end - SEEDS.start, "there was no time for the others");
    // Longer sweeps reach them all.
    assert!(report.missed().len() < 4, "never reached: {:?}", report.missed());
}
