//! Which faults exist in a world and how often they come, and the limits of its machine.
//!
//! A world draws first *which* faults it has. One where everything is slightly broken finds less than
//! one where two things are badly broken.
use std::time::Duration;

use replicator_core::{Config, OnReject, Retry};

use crate::random::Random;
use crate::schema::{BULK, GROUPS};
use crate::story::Story;

/// Which kind of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Totally ordered, like PostgreSQL.
    Ordered,
    /// Unordered rows and resolved timestamps over two partitions, like a changefeed.
    Changefeed,
}

impl Kind {
    /// What it is called on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ordered => "ordered",
            Self::Changefeed => "changefeed",
        }
    }
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// See [`Faults::transient`].
    Transient,
    /// See [`Faults::unknown`].
    Unknown,
    /// See [`Faults::refusals`].
    Refusals,
    /// See [`Faults::crash`].
    Crash,
    /// See [`Faults::usurp`].
    Usurp,
    /// See [`Faults::rewind`].
    Rewind,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Transient, Self::Unknown, Self::Refusals, Self::Crash, Self::Usurp, Self::Rewind];

    /// What it is called on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Unknown => "unknown",
            Self::Refusals => "refusals",
            Self::Crash => "crash",
            Self::Usurp => "usurp",
            Self::Rewind => "rewind",
        }
    }
}

/// Everything that is drawn once for a world.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The source.
    pub kind: Kind,
    /// The machine's limits and delays.
    pub config: Config,
    /// The tables in use.
    pub tables: Vec<&'static str>,
    /// What transactions do.
    pub stories: Vec<Story>,
    /// Whether the source's tables are altered now and then, so that rows come laid out in another way.
    pub alters: bool,
    /// Whether every run is played again in the end. It takes half of the time.
    pub replays: bool,
    /// Whether some transactions come in pieces.
    pub pieces: bool,
    /// Whether the target refuses some values for good.
    pub limits: bool,
    /// The faults.
    pub faults: Faults,
}

/// How often each fault comes, beside 10 for an effect that succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// An effect fails for a moment.
    pub transient: u32,
    /// An effect's outcome is lost.
    pub unknown: u32,
    /// The target refuses a statement or a commit without a lasting reason.
    pub refusals: u32,
    /// The process dies.
    pub crash: u32,
    /// Another replicator begins a run.
    pub usurp: u32,
    /// The source starts again from an older position.
    pub rewind: u32,
}

impl Setup {
    /// Draws a world.
    #[must_use]
    pub fn draw(kind: Kind, seed: u64) -> Self {
        Self::draw_with(kind, seed, None)
    }

    /// Draws a world in which exactly the faults of `only` exist, if it is given.
    #[must_use]
    pub fn draw_with(kind: Kind, seed: u64, only: Option<&[FaultKind]>) -> Self {
        let mut random = Random::new(seed);
        let mut faults = Faults::draw(&mut random);
        if let Some(only) = only {
            faults.keep(only);
        }
        let config = config(&mut random);
        let limits = random.chance(15);
        // Whether some changes may become dead letters.
        let refuses = limits || faults.refusals > 0;
        let lasting = refuses && config.on_reject != OnReject::Stop;
        let mut tables = Vec::new();
        for _ in 0..random.within(1, 4) {
            let group = random.pick(&GROUPS);
            // A child that waits for the end of its transaction cannot be named as the one to blame
            // when its parent became a dead letter; such a run stops, as it says.
            if !(lasting && group.contains(&"late")) {
                tables.extend(group);
            }
        }
        if tables.is_empty() {
            tables.extend(GROUPS[0]);
        }
        tables.sort_unstable();
        tables.dedup();
        let mut stories = Story::draw(kind, lasting, &mut random);
        let pieces = kind == Kind::Ordered && random.chance(25);
        let (alters, replays) = (random.chance(30), random.chance(25));
        // One of them takes as long as a hundred other worlds.
        if random.below(200) == 0 {
            tables.push(BULK);
            stories.push(Story::Flood);
        }
        Self { kind, config, tables, stories, alters, replays, pieces, limits, faults }
    }
}

impl Faults {
    /// None at all.
    pub const NONE: Self =
        Self { transient: 0, unknown: 0, refusals: 0, crash: 0, usurp: 0, rewind: 0 };

    /// How often one kind comes.
    pub const fn weight(&mut self, kind: FaultKind) -> &mut u32 {
        match kind {
            FaultKind::Transient => &mut self.transient,
            FaultKind::Unknown => &mut self.unknown,
            FaultKind::Refusals => &mut self.refusals,
            FaultKind::Crash => &mut self.crash,
            FaultKind::Usurp => &mut self.usurp,
            FaultKind::Rewind => &mut self.rewind,
        }
    }

    /// Takes the others away, and makes sure that these exist.
    fn keep(&mut self, only: &[FaultKind]) {
        for kind in FaultKind::ALL {
            let weight = self.weight(kind);
            *weight = if only.contains(&kind) { (*weight).max(1) } else { 0 };
        }
    }

    fn draw(random: &mut Random) -> Self {
        let mut often = |percent: u8, max: usize| {
            let exists = random.chance(percent);
            let weight = random.within(1, max);
            if exists { u32::try_from(weight).expect("a small weight") } else { 0 }
        };
        Self {
            transient: often(50, 4),
            unknown: often(50, 4),
            refusals: often(25, 9),
            crash: often(50, 3),
            usurp: often(15, 1),
            rewind: often(30, 2),
        }
    }
}

fn config(random: &mut Random) -> Config {
    let millis = |number: usize| Duration::from_millis(u64::try_from(number).expect("small"));
    let small = |number: usize| u32::try_from(number).expect("small");
    Config {
        batch_rows_max: random.pick(&[1, 4, 8, 16]),
        batch_txs_max: random.pick(&[1, 2, 4, 8]),
        batch_growth_max: random.pick(&[1, 2, 8]),
        batch_age_max: millis(random.pick(&[0, 20, 60])),
        buffered_bytes_max: random.pick(&[1_000, 4_000, 20_000]),
        stages_max: random.within(1, 4),
        applies_max: random.pick(&[1, 2, 3, 4, 4]),
        retry: Retry {
            tries_max: small(random.within(1, 6)),
            delay_first: millis(random.within(1, 20)),
            delay_max: millis(random.within(20, 60)),
            factor: small(random.within(1, 3)),
        },
        read_rows_max: small(random.within(1, 6)),
        save_interval: millis(random.pick(&[0, 0, 10, 60])),
        on_reject: random.pick(&[OnReject::Stop, OnReject::DeadLetter { percent_max: 100 }]),
        collapse: random.chance(85),
        seed: random.word(),
    }
}
