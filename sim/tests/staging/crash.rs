//! The embedded store on a disk that fails: whatever was answered is there afterwards, once, and fences
//! only grow.
use std::collections::{BTreeMap, BTreeSet};

use replicator_core::Failure;
use replicator_core::model::mutation::TimedMutation;
use replicator_core::model::position::{PartitionId, Position};
use replicator_core::model::time::Hlc;
use replicator_io::port::{Fence, Staging as _};
use replicator_io::staging::embedded::{EmbeddedError, EmbeddedStore};
use sim::disk::{Fault, SimDisk};
use sim::random::Random;
use sim::staging::rows::{arranged, row, time};

use super::{open, runtime, store};

/// Seeds of the whole test, and lives of each: a life ends with a power loss.
const SEEDS: u64 = 300;
const LIVES: u64 = 5;

/// What one row may be, by its time and key: the text of its change, or `None` if it is not there.
type Known = BTreeMap<(Hlc, String), BTreeSet<Option<String>>>;

/// What must be in the store, as far as it told us.
#[derive(Debug, Default)]
struct Expected {
    rows: Known,
    // The greatest that was answered, and those that were asked for since.
    fence: u64,
    checkpoints: Moving<Option<Position>>,
    resolved: Moving<Hlc>,
}

/// A value that moves forward: at least the one that was answered, and one that somebody asked for.
#[derive(Debug, Default)]
struct Moving<T> {
    least: T,
    asked: BTreeSet<T>,
}

impl<T: Copy + Ord + std::fmt::Debug> Moving<T> {
    fn asked(&mut self, value: T, answered: bool) {
        self.asked.insert(value);
        if answered {
            self.least = self.least.max(value);
        }
    }

    fn check(&mut self, found: T) -> Result<(), String> {
        if found < self.least || (found != self.least && !self.asked.contains(&found)) {
            return Err(format!("{found:?} instead of {:?} or later", self.least));
        }
        self.least = found;
        Ok(())
    }
}

fn key_of(row: &TimedMutation) -> (Hlc, String) {
    let table = row.mutation.table;
    (row.time, format!("{table:?} {:?}", row.mutation.key))
}

impl Expected {
    fn staged(&mut self, rows: &[TimedMutation], answered: bool) {
        // Of two rows with one key the later one counts.
        let last: BTreeMap<_, _> =
            rows.iter().map(|row| (key_of(row), format!("{:?}", row.mutation))).collect();
        for (key, text) in last {
            let known = self.rows.entry(key).or_insert_with(|| BTreeSet::from([None]));
            if answered {
                known.clear();
            }
            known.insert(Some(text));
        }
    }

    fn retired(&mut self, through: Hlc, answered: bool) {
        for ((time, _), known) in &mut self.rows {
            if *time <= through {
                if answered {
                    known.clear();
                }
                known.insert(None);
            }
        }
    }

    /// Compares, and takes what is there for certain.
    fn check_rows(&mut self, found: &[TimedMutation]) -> Result<(), String> {
        let mut there = BTreeMap::new();
        for row in found {
            let (key, text) = (key_of(row), format!("{:?}", row.mutation));
            if !self.rows.contains_key(&key) {
                return Err(format!("a row that nobody staged at {}", row.time));
            }
            if there.insert(key, text).is_some() {
                return Err(format!("a row twice at {}", row.time));
            }
        }
        for (key, known) in &mut self.rows {
            let found = there.remove(key);
            if !known.contains(&found) {
                let what = if found.is_some() { "another row" } else { "no row" };
                return Err(format!("{what} at {} instead of what was answered", key.0));
            }
            *known = BTreeSet::from([found]);
        }
        Ok(())
    }

    /// Looks at everything, as a new run does.
    async fn check(&mut self, store: &EmbeddedStore) -> Result<Option<Fence>, String> {
        let (fence, durable) = match store.begin().await {
            Ok(begun) => begun,
            Err(Failure::Transient { .. }) => return Ok(None),
            Err(failure) => return Err(failure.to_string()),
        };
        if fence.0 <= self.fence {
            return Err(format!("fence {} after {}", fence.0, self.fence));
        }
        self.fence = fence.0;
        self.checkpoints.check(durable.checkpoint)?;
        self.resolved.check(durable.resolved[&PartitionId(1)])?;
        let most = Hlc { nanos: u64::MAX, logical: 0 };
        match store.read(Hlc::default(), most, u32::MAX).await.map(arranged) {
            Ok(page) => {
                // Nothing is at time 0, which the range leaves out.
                self.check_rows(&page.rows)?;
                Ok(Some(fence))
            }
            Err(Failure::Transient { .. }) => Ok(None),
            Err(failure) => Err(failure.to_string()),
        }
    }
}

/// A disk of some kind, and the faults of one life on it.
struct Story {
    random: Random,
    disk: SimDisk,
    version: i64,
    expected: Expected,
    faults: BTreeSet<&'static str>,
}

impl Story {
    fn new(seed: u64) -> Self {
        let (random, disk) = (Random::new(seed), SimDisk::new(seed));
        Self { random, disk, version: 0, expected: Expected::default(), faults: BTreeSet::new() }
    }

    /// Plans what goes wrong next.
    fn plan(&mut self) {
        // Soon, or after the file was read.
        let most = self.random.pick(&[20, 200, 2_000]);
        let operations = u64::try_from(self.random.below(most)).expect("small");
        let (name, fault) = self.random.pick(&[
            ("power loss", Fault::PowerLoss),
            ("power loss", Fault::PowerLoss),
            ("error", Fault::IoError),
            ("full", Fault::Full),
        ]);
        self.faults.insert(name);
        self.disk.plan(operations, fault);
    }

    /// From a start to the next power loss.
    async fn live(&mut self) -> Result<(), String> {
        self.plan();
        let file = loop {
            match open(&self.disk) {
                Ok(file) => break file,
                Err(EmbeddedError::Disk { .. } | EmbeddedError::Full { .. }) => {
                    if self.disk.is_off() {
                        return Ok(());
                    }
                    self.disk.clear_space();
                    self.plan();
                }
                Err(error) => return Err(error.to_string()),
            }
        };
        let store = store(&file, "s");
        let mut fence = None;
        for _ in 0..self.random.within(5, 60) {
            if self.disk.is_off() {
                return Ok(());
            }
            if !self.disk.is_planned() && self.random.chance(20) {
                self.disk.clear_space();
                self.plan();
            }
            match fence {
                Some(known) if self.random.chance(90) => self.act(&store, known).await?,
                Some(_) | None => fence = self.expected.check(&store).await?.or(fence),
            }
        }
        Ok(())
    }

    async fn act(&mut self, store: &EmbeddedStore, fence: Fence) -> Result<(), String> {
        self.version += 1;
        // The newest fence may be of a run that never heard of its beginning.
        let answered = |outcome: Result<(), Failure>| match outcome {
            Ok(()) => Ok(true),
            Err(Failure::Transient { .. } | Failure::Fenced) => Ok(false),
            Err(failure) => Err(failure.to_string()),
        };
        match self.random.below(8) {
            0 => {
                let through = time(&mut self.random);
                let answered = answered(store.retire(fence, through).await)?;
                self.expected.retired(through, answered);
            }
            1 => {
                let position = Position::Hlc(time(&mut self.random));
                let answered = answered(store.save_checkpoint(fence, position).await)?;
                self.expected.checkpoints.asked(Some(position), answered);
            }
            2 => {
                let resolved = time(&mut self.random);
                let saved = store.save_resolved(fence, PartitionId(1), resolved).await;
                self.expected.resolved.asked(resolved, answered(saved)?);
            }
            _ => {
                let count = self.random.within(1, 30);
                let mut rows: Vec<TimedMutation> =
                    (0..count).map(|_| row(&mut self.random, self.version)).collect();
                // Time 0 is not in any range; keys that cannot be compared look alike here.
                rows.retain(|row| Hlc::default() < row.time && !is_odd(row));
                let answered = answered(store.stage(fence, rows.clone(), Hlc::default()).await)?;
                self.expected.staged(&rows, answered);
            }
        }
        Ok(())
    }

    /// All lives of a seed; then everything is well, and everything must be there.
    async fn play(&mut self) -> Result<(), String> {
        for _ in 0..LIVES {
            self.live().await?;
            self.disk.clear_space();
            self.disk.restart();
        }
        let file = open(&self.disk).map_err(|error| error.to_string())?;
        let store = store(&file, "s");
        let fence = self.expected.check(&store).await?.ok_or("it does not begin")?;
        let rows = vec![row(&mut self.random, -1)];
        store.stage(fence, rows, Hlc::default()).await.map_err(|failure| failure.to_string())
    }
}

fn is_odd(row: &TimedMutation) -> bool {
    sim::schema::schema().name(row.mutation.table) == "odd"
}

#[test]
fn what_was_answered_survives_whatever_the_disk_does() {
    let runtime = runtime();
    let (mut faults, mut rows) = (BTreeSet::new(), 0);
    for seed in 0..SEEDS {
        let mut story = Story::new(seed);
        let ended = runtime.block_on(story.play());
        assert_eq!(ended, Ok(()), "seed {seed}");
        faults.append(&mut story.faults);
        rows += story.expected.rows.len();
    }
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert!(SEEDS < u64::try_from(rows).unwrap(), "hardly anything was staged: {rows}");
}

#[test]
fn a_disk_that_lies_about_its_syncs_is_noticed() {
    let runtime = runtime();
    let noticed = (0..20).filter(|seed| {
        let mut story = Story::new(*seed);
        // The file itself is there.
        drop(open(&story.disk).expect("a new file"));
        story.disk.lie();
        runtime.block_on(story.play()).is_err()
    });
    assert!(15 < noticed.count(), "a test that does not notice it notices nothing");
}
