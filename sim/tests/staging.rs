//! Every store keeps the promises of staging, and does what the pretend store of the worlds does.
#[path = "staging/crash.rs"]
mod crash;
#[path = "staging/file.rs"]
mod file;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestCaseError, TestRunner};
use replicator_core::model::position::{PartitionId, Position};
use replicator_core::model::time::Hlc;
use replicator_io::disk::{Disk, StdDisk};
use replicator_io::port::{Fence, Staging};
use replicator_io::staging::embedded::{
    Embedded, EmbeddedError, EmbeddedSettings, EmbeddedStore, Ledger,
};
use sim::disk::SimDisk;
use sim::random::Random;
use sim::schema::schema;
use sim::staging::model::ModelStaging;
use sim::staging::rows::{arranged, row, time};
use sim::staging::suite::{PARTITIONS, suite};
use tokio::runtime::{Builder, Runtime};

const TIMEOUT: Duration = Duration::from_secs(60);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime")
}

fn partitions() -> Vec<String> {
    (0..PARTITIONS).map(|number| format!("part-{number}")).collect()
}

fn store(file: &Embedded, name: &str) -> EmbeddedStore {
    file.stream(name, partitions(), Arc::clone(&schema().catalog))
}

fn open(disk: &SimDisk) -> Result<Embedded, EmbeddedError> {
    let ledger = Ledger::open(disk.clone(), EmbeddedSettings::new("/data".into()))?;
    Ok(Embedded::inline(ledger, TIMEOUT))
}

fn pretend(disk: &SimDisk) -> Embedded {
    open(disk).expect("the disk is well")
}

/// An empty folder below the build folder.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if path.exists() {
        std::fs::remove_dir_all(&path).expect("it is ours");
    }
    path
}

fn on_thread<D: Disk>(disk: D, folder: PathBuf) -> Embedded {
    let ledger = Ledger::open(disk, EmbeddedSettings::new(folder)).expect("a new file");
    Embedded::on_thread(ledger, TIMEOUT).expect("a thread")
}

#[test]
fn the_pretend_store_keeps_the_promises_of_staging() {
    runtime().block_on(suite(async |_: &str| ModelStaging::new(PARTITIONS)));
    assert_eq!(PARTITIONS, 2, "the suite checked itself");
}

#[test]
fn the_embedded_store_keeps_the_promises_of_staging() {
    // All streams in one file, so that they might disturb each other.
    let file = pretend(&SimDisk::new(1));
    runtime().block_on(suite(async |name: &str| store(&file, name)));
    let totals = runtime().block_on(file.totals()).expect("it is open");
    assert_eq!(totals.rows, 179, "rows of all streams");
}

#[test]
fn the_embedded_store_keeps_the_promises_of_staging_on_its_thread() {
    let file = on_thread(StdDisk, folder("staging-suite"));
    runtime().block_on(async {
        suite(async |name: &str| store(&file, name)).await;
        assert_eq!(file.close().await, Ok(()));
    });
}

/// What happens to a store next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Begin,
    Stage,
    Retire,
    Checkpoint,
    Resolved,
    Read,
    Reopen,
}

const STEPS: [Step; 9] = [
    Step::Begin,
    Step::Stage,
    Step::Stage,
    Step::Stage,
    Step::Retire,
    Step::Checkpoint,
    Step::Resolved,
    Step::Read,
    Step::Reopen,
];

/// Begins a run in both, which must have kept the same.
async fn begun(model: &ModelStaging, embedded: &EmbeddedStore) -> Result<Fence, TestCaseError> {
    let (one, other) = (model.begin().await, embedded.begin().await);
    prop_assert_eq!(&one, &other);
    Ok(one.expect("the model begins").0)
}

/// Plays a story on both stores and compares each answer.
async fn compare(words: &[u64]) -> Result<(), TestCaseError> {
    let disk = SimDisk::new(words.len() as u64);
    let mut file = pretend(&disk);
    let (model, mut embedded) = (ModelStaging::new(PARTITIONS), store(&file, "s"));
    let mut fences = vec![begun(&model, &embedded).await?];
    for (version, word) in (0..).zip(words) {
        let mut random = Random::new(*word);
        // Mostly the newest run, now and then a dead one.
        let newest = fences.len() - 1;
        let fence = fences[if random.chance(90) { newest } else { random.below(fences.len()) }];
        match random.pick(&STEPS) {
            Step::Begin => fences.push(begun(&model, &embedded).await?),
            Step::Stage => {
                let rows: Vec<_> =
                    (0..random.within(0, 6)).map(|_| row(&mut random, version)).collect();
                let floor = if random.chance(50) { time(&mut random) } else { Hlc::default() };
                let one = model.stage(fence, rows.clone(), floor).await;
                prop_assert_eq!(one, embedded.stage(fence, rows, floor).await);
            }
            Step::Retire => {
                let through = time(&mut random);
                let one = model.retire(fence, through).await;
                prop_assert_eq!(one, embedded.retire(fence, through).await);
            }
            Step::Checkpoint => {
                let position = Position::Hlc(time(&mut random));
                let one = model.save_checkpoint(fence, position).await;
                prop_assert_eq!(one, embedded.save_checkpoint(fence, position).await);
            }
            Step::Resolved => {
                let partition = PartitionId(u32::try_from(random.below(2)).expect("small"));
                let resolved = time(&mut random);
                let one = model.save_resolved(fence, partition, resolved).await;
                prop_assert_eq!(one, embedded.save_resolved(fence, partition, resolved).await);
            }
            Step::Read => {
                let (after, through) = (time(&mut random), time(&mut random));
                let rows_max = u32::try_from(random.below(8)).expect("small");
                let one = model.read(after, through, rows_max).await.map(arranged);
                prop_assert_eq!(one, embedded.read(after, through, rows_max).await.map(arranged));
            }
            Step::Reopen => {
                file.close().await.expect("it closes");
                file = pretend(&disk);
                embedded = store(&file, "s");
            }
        }
    }
    Ok(())
}

#[test]
fn the_embedded_store_does_what_the_pretend_store_does() {
    let rng_seed = RngSeed::Fixed(20_26);
    let config = ProptestConfig {
        cases: ProptestConfig::default().cases.max(500),
        rng_seed,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let runtime = runtime();
    let words = proptest::collection::vec(any::<u64>(), 1..60);
    let outcome = TestRunner::new(config).run(&words, |words| runtime.block_on(compare(&words)));
    assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
}

#[test]
fn a_second_process_is_told_which_file_is_taken() {
    let folder = folder("staging-taken");
    let first = on_thread(StdDisk, folder.clone());
    let second = Ledger::open(StdDisk, EmbeddedSettings::new(folder.clone())).unwrap_err();
    assert!(matches!(second, EmbeddedError::Busy { .. }), "{second}");
    let said = second.to_string();
    assert!(said.contains("staging-taken/staging.redb\" is in use by another process"), "{said}");
    assert!(said.contains("--dataDir"), "the way out: {said}");
    runtime().block_on(first.close()).unwrap();
    assert!(Ledger::open(StdDisk, EmbeddedSettings::new(folder)).is_ok());
}
